import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.augment.features import (
    adversarial_noise,
    cut_out,
    drop_channels,
    drop_most_active,
    keep_where,
    random_span,
    uniform_noise,
    unit_of,
)

REPEAT = settings(deadline=None, max_examples=30)
SEEDS = st.integers(0, 2**31 - 1)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def feature_of(seed=0, shape=(3, 8, 6, 5)):
    return torch.rand(shape, generator=rng(seed)) + 0.1


@given(SEEDS, st.floats(0, 1))
@REPEAT
def test_noise_is_a_factor_near_one_and_the_same_for_all_images(seed, reach):
    feature = feature_of()
    factor = uniform_noise(feature, rng(seed), reach=reach) / feature
    assert (factor - 1).abs().max() <= reach + 1e-5
    torch.testing.assert_close(factor[0], factor[1])


def test_noise_fills_its_reach():
    factor = uniform_noise(torch.ones(1, 64, 8, 8), rng(), reach=0.3)
    assert factor.min().item() == pytest.approx(0.7, abs=0.01)
    assert factor.max().item() == pytest.approx(1.3, abs=0.01)
    assert factor.mean().item() == pytest.approx(1, abs=0.02)


def test_the_most_active_places_are_dropped_worked_by_hand():
    # two images of 1 x 4 places with mean activations 1 2 3 4 and 10 5 8 2
    feature = torch.tensor([[1.0, 2, 3, 4], [10, 5, 8, 2]])[:, None, None].repeat(1, 2, 1, 1)
    got = drop_most_active(feature, rng(), least=0.7, greatest=0.7)
    assert got[:, 0, 0].tolist() == [[1, 2, 0, 0], [0, 5, 0, 2]]
    assert torch.equal(got[:, 0], got[:, 1])


@given(SEEDS)
@REPEAT
def test_the_threshold_of_activity_is_drawn_between_two_shares(seed):
    got = drop_most_active(feature_of(), rng(seed), least=0.6, greatest=0.9) > 0
    fewest, most = (
        drop_most_active(feature_of(), rng(), least=share, greatest=share) > 0
        for share in (0.6, 0.9)
    )
    assert (got <= most).all()
    assert (fewest <= got).all()


def test_dropped_channels_are_made_up_for():
    feature = torch.ones(50, 40, 2, 2)
    got = drop_channels(feature, rng(), prob=0.25)
    per_channel = got.flatten(2)
    assert (per_channel == per_channel[..., :1]).all()
    assert got.unique().tolist() == pytest.approx([0, 4 / 3])
    assert got.mean().item() == pytest.approx(1, abs=0.04)
    assert torch.equal(drop_channels(feature, rng(), prob=0.0), feature)
    assert not drop_channels(feature, rng(), prob=1.0).any()


def test_a_mask_of_the_image_keeps_its_part_of_the_features():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, :4, 4:] = True
    got = keep_where(torch.ones(1, 2, 2, 2), mask)
    assert got.tolist() == [[[[0, 1], [0, 0]]] * 2]


@given(SEEDS, st.integers(0, 20), st.integers(1, 20), st.floats(0, 1), st.floats(0, 0.999))
@REPEAT
def test_a_span_lies_inside_and_has_its_share(seed, start, length, share, u):
    span = random_span(start, start + length, share, u)
    assert start <= span.start < span.stop <= start + length
    assert span.stop - span.start == max(1, round(share * length))


def test_a_part_of_the_box_around_the_mask_is_cut_out():
    mask = torch.zeros(2, 12, 16, dtype=torch.bool)
    mask[0, 2:12, 6:16] = True
    kept = cut_out(mask, rng(), share=0.4)
    assert (~kept[0]).sum() == 16
    assert not (~kept[0] & ~mask[0]).any()
    assert kept[1].all()  # no object, no cut
    places = {tuple((~cut_out(mask, rng(s), share=0.4)[0]).nonzero()[0].tolist()) for s in range(9)}
    assert len(places) > 4


def test_adversarial_noise_does_more_than_random_noise():
    weight = torch.randn(4, 8, generator=rng(1))

    def predict(feature):
        return torch.einsum("cd,ndhw->nchw", weight, feature)

    feature = feature_of()
    target = predict(feature).softmax(dim=1)

    def divergence(noise):
        return F.kl_div(predict(feature + noise).log_softmax(dim=1), target, reduction="batchmean")

    found = adversarial_noise(predict, feature, rng(), probe=1.0, size=2.0)
    lengths = found.flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((3,), 2.0))
    random = [
        divergence(2 * unit_of(torch.randn(feature.shape, generator=rng(s)))) for s in range(9)
    ]
    assert divergence(found) > 2 * max(random)
    assert not found.requires_grad


def test_adversarial_noise_leaves_no_gradient_behind():
    layer = torch.nn.Conv2d(8, 4, 1)
    feature = feature_of().requires_grad_()
    adversarial_noise(layer, feature, rng(), probe=1.0, size=1.0)
    assert feature.grad is None
    assert layer.weight.grad is None

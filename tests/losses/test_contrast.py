import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.losses.contrast import (
    anchor_contrast,
    group_by_class,
    sample_per_class,
    similarity,
    top_per_class,
)
from tests.reference import contrast as reference

C, D, Q = 4, 3, 5
SEEDS = st.integers(0, 2**31 - 1)
REDUCTIONS = st.sampled_from(["class", "every_class", "pixel"])
REPEAT = settings(deadline=None, max_examples=40)
AXES = torch.eye(3)
"""Three anchors in three dimensions: every product can be read off a feature."""


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed=0, num=12):
    """float64 features, labels, unit anchors, a bank and its filled slots (class 0 has none)."""
    normal = dict(generator=rng(seed), dtype=torch.float64)
    feature, anchor = torch.randn(num, D, **normal), torch.randn(C, D, **normal)
    bank = torch.randn(C, Q, D, **normal)
    label = torch.randint(C, (num,), generator=rng(seed))
    filled = torch.arange(Q) < torch.tensor([0, 1, 3, Q])[:, None]
    return feature, label, anchor / anchor.norm(dim=1, keepdim=True), bank, filled


def close(feature, label, bank, filled, **options):
    """`similarity`, from the bank that it sums up."""
    unit = torch.nn.functional.normalize(bank, dim=-1) * filled[..., None]
    centre = unit.sum(dim=1) / filled.sum(dim=1).clamp(min=1)[:, None]
    return similarity(feature, label, centre, filled.any(dim=1), **options)


def test_anchor_contrast_worked_by_hand():
    # at length 1 the feature is (0.6, 0.8, 0), its class's anchor the second axis
    scores = [math.exp(0.6 / 0.5), math.exp(0.8 / 0.5), math.exp(0)]
    feature, label = torch.tensor([[3.0, 4.0, 0.0]]), torch.tensor([1])
    want = -math.log(scores[1] / sum(scores))
    torch.testing.assert_close(anchor_contrast(feature, label, AXES, tau=0.5), torch.tensor(want))
    want = -math.log(scores[1] / (scores[1] + sum(scores)))
    got = anchor_contrast(feature, label, AXES, tau=0.5, count_positive_twice=True)
    torch.testing.assert_close(got, torch.tensor(want))


def test_similarity_worked_by_hand():
    # cosines of (0.6, 0.8) with the two filled slots: 0.6 and 0.8
    bank = torch.tensor([[[2.0, 0.0], [0.0, 5.0], [7.0, 7.0]]])
    filled = torch.tensor([[True, True, False]])
    got = close(torch.tensor([[3.0, 4.0]]), torch.tensor([0]), bank, filled)
    torch.testing.assert_close(got, torch.tensor((0.4 + 0.2) / 2))


@pytest.mark.parametrize(
    ("reduction", "want"),
    [("class", (0 + 1) / 2), ("every_class", (0 + 1 + 0) / 3), ("pixel", (0 + 0 + 1) / 3)],
)
def test_reductions_worked_by_hand(reduction, want):
    # class 0: two pixels, loss 0; class 1: one pixel, loss 1; class 2: one pixel, an empty bank
    feature, label = AXES[[0, 0, 2, 2]], torch.tensor([0, 0, 1, 2])
    filled = torch.tensor([[True], [True], [False]])
    got = close(feature, label, AXES[:, None], filled, reduction=reduction)
    torch.testing.assert_close(got, torch.tensor(want))


@given(SEEDS, st.booleans(), REDUCTIONS, st.sampled_from([0, 1, 12]))
@REPEAT
def test_anchor_contrast_agrees_with_the_loop(seed, twice, reduction, num):
    feature, label, anchor, _, _ = draw(seed, num)
    options = {"tau": 0.5, "count_positive_twice": twice, "reduction": reduction}
    want = reference.anchor_contrast(feature, label, anchor, **options)
    got = anchor_contrast(feature, label, anchor, **options)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@given(SEEDS, REDUCTIONS, st.sampled_from([0, 1, 12]))
@REPEAT
def test_similarity_agrees_with_the_loop(seed, reduction, num):
    feature, label, _, bank, filled = draw(seed, num)
    want = reference.similarity(feature, label, bank, filled, reduction)
    got = close(feature, label, bank, filled, reduction=reduction)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@given(SEEDS, st.permutations(range(C)), REDUCTIONS)
@REPEAT
def test_relabelling_the_classes_changes_no_loss(seed, old_name, reduction):
    feature, label, anchor, bank, filled = draw(seed)
    new_label = torch.tensor(old_name).argsort()[label]
    torch.testing.assert_close(
        anchor_contrast(feature, new_label, anchor[old_name], tau=0.5, reduction=reduction),
        anchor_contrast(feature, label, anchor, tau=0.5, reduction=reduction),
    )
    torch.testing.assert_close(
        close(feature, new_label, bank[old_name], filled[old_name], reduction=reduction),
        close(feature, label, bank, filled, reduction=reduction),
    )


@given(SEEDS, st.floats(0.1, 10))
@REPEAT
def test_the_length_of_a_feature_never_matters(seed, length):
    feature, label, anchor, bank, filled = draw(seed)
    torch.testing.assert_close(
        anchor_contrast(length * feature, label, anchor, tau=0.5),
        anchor_contrast(feature, label, anchor, tau=0.5),
    )
    torch.testing.assert_close(
        close(length * feature, label, length * bank, filled),
        close(feature, label, bank, filled),
    )


@pytest.mark.parametrize("reduction", ["class", "every_class", "pixel"])
def test_gradients_are_right_and_reach_the_features_alone(reduction):
    feature, label, anchor, bank, filled = draw()
    for tensor in (feature, anchor, bank):
        tensor.requires_grad_()
    losses = [
        lambda f: anchor_contrast(f, label, anchor, tau=0.5, reduction=reduction),
        lambda f: close(f, label, bank, filled, reduction=reduction),
    ]
    for loss in losses:
        assert torch.autograd.gradcheck(loss, feature)
        loss(feature).backward()
    assert anchor.grad is None
    assert bank.grad is None


@pytest.mark.parametrize("reduction", ["class", "every_class", "pixel"])
def test_nothing_to_contrast_gives_zero_with_a_zero_gradient(reduction):
    feature, label, anchor, bank, filled = draw()
    feature.requires_grad_()
    no_slots = (bank[:, :0], filled[:, :0])
    losses = [
        anchor_contrast(feature[:0], label[:0], anchor, tau=0.5, reduction=reduction),
        close(feature[:0], label[:0], bank, filled, reduction=reduction),
        close(feature, label, bank, torch.zeros_like(filled), reduction=reduction),
        close(feature, label, *no_slots, reduction=reduction),
    ]
    sum(losses).backward()
    assert [loss.item() for loss in losses] == [0, 0, 0, 0]
    assert feature.grad.abs().sum() == 0


def test_losses_are_float32_at_least_under_autocast_too():
    feature, label, anchor, bank, filled = draw()
    feature, anchor, bank = feature.bfloat16(), anchor.float(), bank.float()
    plain = anchor_contrast(feature.float(), label, anchor, tau=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        contrast = anchor_contrast(feature, label, anchor, tau=0.5)
        similar = close(feature, label, bank, filled)
    assert contrast.dtype == similar.dtype == torch.float32
    assert torch.equal(contrast, plain)
    assert torch.equal(similar, close(feature.float(), label, bank, filled))


def test_an_unknown_reduction_is_refused():
    feature, label, anchor, bank, filled = draw()
    message = "unknown reduction 'sum'; known: class, every_class, pixel"
    with pytest.raises(ValueError, match=message):
        anchor_contrast(feature, label, anchor, tau=0.5, reduction="sum")
    with pytest.raises(ValueError, match=message):
        close(feature, label, bank, filled, reduction="sum")


def test_grouping_worked_by_hand():
    order, rank = group_by_class(torch.tensor([2, 0, 2, 1, 0, 2]))
    assert order.tolist() == [1, 4, 3, 0, 2, 5]
    assert rank.tolist() == [0, 1, 0, 0, 1, 2]


def test_the_best_of_each_class_worked_by_hand():
    label = torch.tensor([1, 1, 0, 1, 255, -1])
    priority = torch.tensor([0.1, 0.9, 0.5, 0.4, 1.0, 1.0])
    assert top_per_class(priority, label, k=2, num_classes=2)[0].tolist() == [2, 1, 3]
    assert top_per_class(priority, label, k=0, num_classes=2)[0].tolist() == []


@given(SEEDS, st.integers(0, 30), st.integers(0, 6))
@REPEAT
def test_a_sample_takes_as_many_as_it_may_of_each_class(seed, num, most):
    label = torch.randint(C + 1, (num,), generator=rng(seed))  # class C is not asked for
    index, _ = sample_per_class(label, max_per_class=most, num_classes=C, generator=rng(seed))
    assert len(set(index.tolist())) == len(index)
    want = [min(most, (label == c).sum().item()) for c in range(C)]
    assert label[index].bincount(minlength=C).tolist() == want


def test_a_sample_is_random_and_its_generator_alone_decides():
    label = torch.zeros(1000, dtype=torch.int64)
    one, same, other = (
        sample_per_class(label, max_per_class=50, num_classes=1, generator=rng(seed))[0]
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert 400 < one.double().mean() < 600


def test_every_pixel_of_a_class_is_sampled_equally_often():
    label = torch.tensor([0, 1, 0, 0, 0])
    generator = rng()
    draws = [
        sample_per_class(label, max_per_class=1, num_classes=2, generator=generator)[0]
        for _ in range(400)
    ]
    count = torch.cat(draws).bincount(minlength=5)
    assert count[1] == 400
    assert all(70 < n < 130 for n in count[[0, 2, 3, 4]].tolist())  # 100 expected, sd 8.7

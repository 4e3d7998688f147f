import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.losses.consistency import (
    confident_cross_entropy,
    confident_share,
    fuzzy_positive_loss,
    fuzzy_positives,
    negative_loss,
    probabilities,
    squared_difference,
)
from pipeline.losses.segmentation import PseudoLabel, cross_entropy, hard_cross_entropy

EVERY = torch.ones(1, 1, 2, dtype=torch.bool)
REPEAT = settings(deadline=None, max_examples=25)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixels(*values):
    """[1, C, 1, P] of P pixels' values by class."""
    return torch.tensor(values).T[None, :, None]


def test_squared_difference_worked_by_hand():
    logits = pixels([0.0, math.log(3.0)], [0.0, 0.0])  # 1/4, 3/4 and 1/2, 1/2
    target = pixels([0.75, 0.25], [1.0, 0.0])
    # (1/2)^2 * 2 and (1/2)^2 * 2
    assert squared_difference(logits, target, EVERY).item() == pytest.approx(0.5)
    target = pixels([0.25, 0.75], [1.0, 0.0])
    assert squared_difference(logits, target, EVERY).item() == pytest.approx(0.25)
    first = torch.tensor([[[True, False]]])
    assert squared_difference(logits, target, first).item() == pytest.approx(0)
    assert squared_difference(logits, target, ~EVERY).item() == 0


def test_squared_difference_pulls_the_student_alone():
    logits = draw(2, 3, 4, 4).requires_grad_()
    target = draw(2, 3, 4, 4, seed=1).softmax(dim=1).requires_grad_()
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    squared_difference(logits, target, valid).backward()
    assert logits.grad.any()
    assert target.grad is None


def test_probabilities_are_a_distribution_without_a_gradient():
    logits = draw(2, 3, 4, 4).requires_grad_()
    found = probabilities(logits)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 4, 4))
    assert not found.requires_grad


def test_the_share_of_confident_pixels_counts_valid_ones():
    confidence = torch.tensor([[[0.9, 0.99, 0.95, 1.0]]])
    valid = torch.tensor([[[True, True, True, False]]])
    assert confident_share(confidence, valid, threshold=0.95) == pytest.approx(1 / 3)
    assert confident_share(confidence, ~valid | valid, threshold=0.95) == pytest.approx(1 / 2)
    assert confident_share(confidence, valid & ~valid, threshold=0.95) == 0


def test_a_set_of_positives_stays_below_its_mass():
    prob = pixels([0.5, 0.3, 0.15, 0.05], [0.05, 0.91, 0.02, 0.02])
    found = fuzzy_positives(prob, mass=0.9, most=4)[0, :, 0].T.tolist()
    assert found == [[True, True, False, False], [False, True, False, False]]
    found = fuzzy_positives(prob, mass=0.965, most=2)[0, :, 0].T.tolist()
    assert found == [[True, True, False, False], [True, True, False, False]]


@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 6))
@REPEAT
def test_sets_are_as_large_as_their_mass_allows(seed, mass, most):
    prob = draw(1, 5, 3, 3, seed=seed).mul(2).softmax(dim=1)
    positive = fuzzy_positives(prob, mass=mass, most=most)
    size = positive.sum(dim=1)
    assert (size >= 1).all()
    assert (size <= most).all()
    reached = (prob * positive).sum(dim=1)
    assert ((reached < mass + 1e-5) | (size == 1)).all()
    likeliest_other = prob.masked_fill(positive, 0).amax(dim=1)
    assert ((reached + likeliest_other > mass - 1e-5) | (size == most)).all()
    least = prob.masked_fill(~positive, 2).amin(dim=1)
    assert (least >= likeliest_other).all()


def test_the_fuzzy_loss_worked_by_hand():
    logits = pixels([1.0, 2.0, 0.5, -1.0], [0.0, 0.0, 0.0, 0.0])
    positive = pixels([True, True, False, False], [True, False, False, False])
    first = math.log(1 + (math.exp(0.5) + math.exp(-1.0)) * (math.exp(-1.0) + math.exp(-2.0)))
    second = math.log(1 + 3 * 1)
    found = fuzzy_positive_loss(logits, positive, EVERY)
    assert found.item() == pytest.approx((first + second) / 2)


def test_the_fuzzy_loss_of_single_classes_is_cross_entropy():
    logits, label = draw(2, 5, 4, 4) * 3, torch.randint(5, (2, 4, 4))
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[0, 0] = False
    positive = torch.nn.functional.one_hot(label, 5).movedim(-1, 1).bool()
    found = fuzzy_positive_loss(logits, positive, valid)
    torch.testing.assert_close(found, hard_cross_entropy(logits, label, valid))


def test_the_fuzzy_loss_does_not_order_the_set():
    logits = torch.tensor([2.0, 2.0, -1.0, -3.0]).reshape(1, 4, 1, 1).requires_grad_()
    positive = torch.tensor([True, True, False, False]).reshape(1, 4, 1, 1)
    fuzzy_positive_loss(logits, positive, EVERY[..., :1]).backward()
    slope = logits.grad.flatten()
    assert slope[0] == slope[1] < 0 < slope[3] < slope[2]


@pytest.mark.parametrize("every", [True, False])
def test_the_fuzzy_loss_is_finite_where_a_set_has_every_class(every):
    logits = (draw(1, 3, 1, 2) * 100).requires_grad_()
    positive = torch.full((1, 3, 1, 2), True)
    positive[:, 2] = every
    loss = fuzzy_positive_loss(logits, positive, EVERY)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
    assert not every or loss == 0


@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_right(seed):
    logits = draw(1, 3, 2, 2, seed=seed).double().requires_grad_()
    target = draw(1, 3, 2, 2, seed=seed + 9).double().softmax(dim=1)
    positive = fuzzy_positives(target, mass=0.6, most=2)
    valid = torch.tensor([[[True, True], [True, False]]])
    for loss in (
        lambda x: squared_difference(x, target, valid),
        lambda x: fuzzy_positive_loss(x, positive, valid),
    ):
        assert torch.autograd.gradcheck(loss, logits)


def test_hard_labels_count_alike_and_padding_not_at_all():
    logits, label = draw(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[1] = False
    expected = cross_entropy(logits[:1], label[:1])
    torch.testing.assert_close(hard_cross_entropy(logits, label, valid), expected)
    assert hard_cross_entropy(logits, label, valid & ~valid) == 0


def test_confident_pixels_count_and_the_others_stay_in_the_mean():
    logits, label = draw(1, 3, 1, 4), torch.tensor([[[0, 1, 2, 0]]])
    confidence = torch.tensor([[[0.95, 0.2, 0.99, 1.0]]])
    valid = torch.tensor([[[True, True, True, False]]])
    taught = PseudoLabel(label, confidence)
    loss, share = confident_cross_entropy(logits, taught, valid, threshold=0.95)
    expected = 2 / 3 * cross_entropy(logits, torch.tensor([[[0, 255, 2, 255]]]))
    torch.testing.assert_close(loss, expected)
    assert share == pytest.approx(2 / 3)
    loss, share = confident_cross_entropy(logits, taught, valid & ~valid, threshold=0.95)
    assert loss == share == 0


def test_what_is_surely_absent_is_pushed_down_worked_by_hand():
    logits = pixels([0.0, math.log(3.0)], [0.0, 0.0])  # 1/4, 3/4 and 1/2, 1/2
    absent = pixels([True, False], [True, True])
    expected = -(math.log(3 / 4) + 2 * math.log(1 / 2)) / 3
    assert negative_loss(logits, absent, EVERY).item() == pytest.approx(expected)
    first = torch.tensor([[[True, False]]])
    assert negative_loss(logits, absent, first).item() == pytest.approx(-math.log(3 / 4))
    assert negative_loss(logits, absent & False, EVERY) == 0

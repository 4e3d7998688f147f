import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.losses.segmentation import (
    cross_entropy,
    ohem_cross_entropy,
    pseudo_label,
    supervised_loss,
    weighted_cross_entropy,
    weighted_terms,
)
from tests.reference import segmentation as reference

SEEDS = st.integers(0, 2**31 - 1)


def draw(seed=0, num=2, num_classes=3, height=3, width=4, ignored=0.2):
    """float64 logits, labels with some 255, confidence-like weights, a validity mask."""
    rng = torch.Generator().manual_seed(seed)
    shape = (num, height, width)
    logits = 2 * torch.randn(num, num_classes, height, width, generator=rng, dtype=torch.float64)
    label = torch.randint(num_classes, shape, generator=rng)
    label[torch.rand(shape, generator=rng) < ignored] = 255
    weight = torch.rand(shape, generator=rng, dtype=torch.float64)
    return logits, label, weight, label != 255


def logits_of(*pixels):
    """One row of pixels with these class probabilities: float32 [1, C, 1, W]."""
    return torch.tensor(pixels).log().T[None, :, None]


HALF_AND_QUARTERS = logits_of([1 / 2, 1 / 4, 1 / 4], [1 / 8, 3 / 8, 1 / 2], [0.1, 0.8, 0.1])
LOSSES = {
    "cross_entropy": lambda logits, label, weight, valid: cross_entropy(logits, label),
    "ohem": lambda logits, label, weight, valid: ohem_cross_entropy(logits, label, min_kept=5),
    "weighted": weighted_cross_entropy,
}


def test_cross_entropy_worked_by_hand():
    label = torch.tensor([[[0, 2, 255]]])
    # -(ln 1/2 + ln 1/2) / 2; the third pixel is ignored
    torch.testing.assert_close(cross_entropy(HALF_AND_QUARTERS, label), torch.tensor(math.log(2)))
    label = torch.tensor([[[1, 0, 1]]])
    want = (math.log(4) + math.log(8) - math.log(0.8)) / 3
    torch.testing.assert_close(cross_entropy(HALF_AND_QUARTERS, label), torch.tensor(want))


def test_another_index_can_be_ignored():
    label = torch.tensor([[[0, 2, 1]]])
    torch.testing.assert_close(
        cross_entropy(HALF_AND_QUARTERS, label, ignore_index=1), torch.tensor(math.log(2))
    )


@pytest.mark.parametrize(
    ("min_kept", "label", "want"),
    [
        (1, [0, 2, 1], [1 / 2, 1 / 2]),  # two pixels at most 0.7; 0.8 is easy
        (3, [0, 2, 1], [1 / 2, 1 / 2, 0.8]),  # the easy one makes up the number
        (2, [1, 255, 1], [1 / 4, 0.8]),  # an ignored pixel never makes it up
        (9, [1, 255, 1], [1 / 4, 0.8]),  # more asked for than there are
        (0, [255, 255, 1], [0.8]),  # at least one
    ],
)
def test_hard_pixels_worked_by_hand(min_kept, label, want):
    got = ohem_cross_entropy(HALF_AND_QUARTERS, torch.tensor([[label]]), min_kept=min_kept)
    want = -sum(math.log(prob) for prob in want) / len(want)
    torch.testing.assert_close(got, torch.tensor(want))


def test_both_students_learn_the_labeled_pixels():
    label = torch.tensor([[[0]]])
    gen, pro = logits_of([1 / 2, 1 / 2]), logits_of([1 / 8, 7 / 8])
    torch.testing.assert_close(
        supervised_loss([gen, pro], label), torch.tensor(math.log(2) + math.log(8))
    )


def test_the_supervised_loss_takes_another_pixel_loss():
    gen, label, _, _ = draw(0)
    pro, *_ = draw(1)
    hard = functools.partial(ohem_cross_entropy, min_kept=1, threshold=0.3)
    torch.testing.assert_close(
        supervised_loss([gen, pro], label, pixel_loss=hard), hard(gen, label) + hard(pro, label)
    )


def test_pseudo_label_worked_by_hand():
    label, confidence = pseudo_label(HALF_AND_QUARTERS)
    assert label.tolist() == [[[0, 2, 1]]]
    assert label.dtype == torch.int64
    torch.testing.assert_close(confidence, torch.tensor([[[1 / 2, 1 / 2, 0.8]]]))


def test_pseudo_label_agrees_with_the_loop():
    logits, *_ = draw(3)
    label, confidence = pseudo_label(logits)
    want_label, want_confidence = reference.pseudo_label(logits)
    assert label.flatten().tolist() == want_label
    want_confidence = torch.tensor(want_confidence, dtype=torch.float64)
    torch.testing.assert_close(confidence.flatten(), want_confidence)


def test_no_gradient_reaches_the_teacher():
    teacher, *_ = draw(0)
    student, *_ = draw(1)
    teacher.requires_grad_()
    assert not any(part.requires_grad for part in pseudo_label(teacher))
    student.requires_grad_()
    weight = teacher.softmax(dim=1).amax(dim=1)
    valid = torch.ones_like(weight, dtype=torch.bool)
    weighted_cross_entropy(student, teacher.argmax(dim=1), weight, valid).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


def test_weighted_loss_worked_by_hand():
    label = torch.tensor([[[0, 0, 255]]])
    weight = torch.tensor([[[0.9, 0.5, 1.0]]])
    valid = torch.tensor([[[True, True, False]]])
    want = (0.9 * math.log(2) + 0.5 * math.log(8)) / 2
    torch.testing.assert_close(
        weighted_cross_entropy(HALF_AND_QUARTERS, label, weight, valid), torch.tensor(want)
    )


def test_a_rejected_pixel_stays_in_the_denominator():
    label = torch.tensor([[[0, 0, 0]]])
    valid = torch.ones(1, 1, 3, dtype=torch.bool)
    got = weighted_cross_entropy(HALF_AND_QUARTERS, label, torch.tensor([[[1.0, 0, 0]]]), valid)
    torch.testing.assert_close(got, torch.tensor(math.log(2) / 3))


@given(seed=SEEDS, ignored=st.sampled_from([0.0, 0.3, 1.0]))
@settings(deadline=None, max_examples=25)
def test_losses_agree_with_the_loop(seed, ignored):
    logits, label, weight, valid = draw(seed, ignored=ignored)
    want = torch.tensor(reference.cross_entropy(logits, label, 255), dtype=torch.float64)
    torch.testing.assert_close(cross_entropy(logits, label), want)
    want = reference.weighted_cross_entropy(logits, label, weight, valid)
    got = weighted_cross_entropy(logits, label, weight, valid)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@given(seed=SEEDS, min_kept=st.integers(1, 30), threshold=st.floats(0, 1))
@settings(deadline=None, max_examples=25)
def test_hard_pixels_agree_with_the_loop(seed, min_kept, threshold):
    logits, label, *_ = draw(seed)
    got = ohem_cross_entropy(logits, label, min_kept=min_kept, threshold=threshold)
    want = reference.ohem_cross_entropy(logits, label, min_kept, threshold, 255)
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


@given(seed=SEEDS)
@settings(deadline=None, max_examples=25)
def test_weight_one_everywhere_is_plain_cross_entropy(seed):
    logits, label, weight, valid = draw(seed)
    got = weighted_cross_entropy(logits, label, torch.ones_like(weight), valid)
    torch.testing.assert_close(got, cross_entropy(logits, label))


@given(seed=SEEDS)
@settings(deadline=None, max_examples=25)
def test_threshold_one_keeps_every_pixel(seed):
    logits, label, *_ = draw(seed)
    torch.testing.assert_close(
        ohem_cross_entropy(logits, label, min_kept=1, threshold=1.0), cross_entropy(logits, label)
    )


@pytest.mark.parametrize("name", LOSSES)
def test_the_value_of_a_masked_pixel_never_matters(name):
    logits, label, weight, valid = draw(5, ignored=0.4)
    other_logits, _, other_weight, _ = draw(6)
    changed = (
        torch.where(valid[:, None], logits, other_logits),
        label,
        torch.where(valid, weight, other_weight),
        valid,
    )
    assert not torch.equal(changed[0], logits)
    torch.testing.assert_close(LOSSES[name](*changed), LOSSES[name](logits, label, weight, valid))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_right(name):
    logits, label, weight, valid = draw(7)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, label, weight, valid), logits)


@pytest.mark.parametrize("name", LOSSES)
def test_no_counted_pixel_gives_zero_with_a_zero_gradient(name):
    logits, label, weight, valid = draw(8, ignored=1.1)
    assert not valid.any()
    logits.requires_grad_()
    loss = LOSSES[name](logits, label, weight, valid)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().sum() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_give_a_float32_loss(name):
    logits, label, weight, valid = draw(9)
    logits, weight = logits.bfloat16(), weight.float()
    loss = LOSSES[name](logits, label, weight, valid)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, LOSSES[name](logits.float(), label, weight, valid))


def test_the_terms_add_up_to_equation_17():
    values = [torch.tensor(value) for value in (1.0, 2.0, 3.0, 5.0, 7.0)]
    terms = weighted_terms(*values, lambda_u=0.5, lambda_ctr=0.1)
    want = 1 + 0.5 * (2 + 3) + 0.1 * (5 + 7)
    torch.testing.assert_close(sum(terms.values()), torch.tensor(want))
    assert list(terms) == [
        "supervised",
        "unsupervised_gen",
        "unsupervised_pro",
        "anchor",
        "similarity",
    ]

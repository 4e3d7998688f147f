import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.losses.mismatch import (
    PseudoLabelParts,
    class_mismatch_score,
    confusion_matrix,
    partition_pseudo_labels,
    select,
)
from tests.reference import mismatch as reference

C = 4
SEEDS = st.integers(0, 2**31 - 1)
REPEAT = settings(deadline=None, max_examples=40)


def draw(seed):
    """Labels of two models that agree on about half of the pixels, and a validity mask."""
    rng = torch.Generator().manual_seed(seed)
    shape = (2, 3, 5)
    student, teacher = torch.randint(C, (2, *shape), generator=rng)
    teacher = torch.where(torch.rand(shape, generator=rng) < 0.4, student, teacher)
    return student, teacher, torch.rand(shape, generator=rng) < 0.8


def test_confusion_worked_by_hand():
    student = torch.tensor([[[0, 0, 1, 2, 255]]])
    teacher = torch.tensor([[[0, 1, 1, 0, 255]]])
    valid = torch.tensor([[[True, True, True, True, False]]])
    got = confusion_matrix(student, teacher, valid, num_classes=3)
    assert got.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert got.dtype == torch.int64


def test_score_worked_by_hand():
    # class 0: agreed 6 of the student's 8 and of the teacher's 7; class 1: 1 of 2, 1 of 3;
    # class 2 unseen
    confusion = torch.tensor([[6, 2, 0], [1, 1, 0], [0, 0, 0]])
    want = torch.tensor([2 / 8 + 1 / 7, 1 / 2 + 2 / 3, 0.0])
    torch.testing.assert_close(class_mismatch_score(confusion), want)


def test_score_of_a_class_that_one_model_never_predicts():
    # the student never says 1; the teacher says it 3 times, always wrongly: 0 + 3/3
    confusion = torch.tensor([[5, 3], [0, 0]])
    want = torch.tensor([3 / 8 + 0 / 5, 0 + 3 / 3])
    torch.testing.assert_close(class_mismatch_score(confusion), want)


def test_prior_counts_as_agreement():
    confusion = torch.tensor([[6, 2, 0], [1, 1, 0], [0, 0, 0]])
    want = torch.tensor([2 / 9 + 1 / 8, 1 / 3 + 2 / 4, 0.0])
    torch.testing.assert_close(class_mismatch_score(confusion, diagonal_prior=1), want)


def test_partition_worked_by_hand():
    score = torch.tensor([0.1, 0.5, 0.5])
    student = torch.tensor([[[0, 0, 1, 1, 0]]])
    teacher = torch.tensor([[[0, 1, 0, 2, 1]]])
    valid = torch.tensor([[[True, True, True, True, False]]])
    parts = partition_pseudo_labels(student, teacher, score, valid)
    assert parts.consistent_NHW.tolist() == [[[True, False, False, False, False]]]
    assert parts.high_NHW.tolist() == [[[False, True, False, False, False]]]
    # 0.1 < 0.5 the wrong way round, and the tie of classes 1 and 2
    assert parts.low_NHW.tolist() == [[[False, False, True, True, False]]]


@given(SEEDS, st.sampled_from([0, 1]))
@REPEAT
def test_selection_agrees_with_the_loop(seed, diagonal_prior):
    student, teacher, valid = draw(seed)
    confusion = confusion_matrix(student, teacher, valid, num_classes=C)
    matrix = reference.confusion_matrix(student, teacher, valid, C)
    assert confusion.tolist() == matrix
    score = class_mismatch_score(confusion, diagonal_prior=diagonal_prior)
    want = reference.class_mismatch_score(matrix, diagonal_prior)
    torch.testing.assert_close(score, torch.tensor(want))
    parts = partition_pseudo_labels(student, teacher, score, valid)
    want = reference.partition_pseudo_labels(student, teacher, score, valid)
    for name, mask in zip(("consistent", "high", "low"), parts, strict=True):
        assert mask.flatten().tolist() == [part == name for part in want]


@given(SEEDS)
@REPEAT
def test_score_is_symmetric_in_the_two_models(seed):
    student, teacher, valid = draw(seed)
    one = confusion_matrix(student, teacher, valid, num_classes=C)
    other = confusion_matrix(teacher, student, valid, num_classes=C)
    torch.testing.assert_close(class_mismatch_score(one), class_mismatch_score(other))


@given(SEEDS)
@REPEAT
def test_score_is_between_0_and_2(seed):
    score = class_mismatch_score(confusion_matrix(*draw(seed), num_classes=C))
    assert score.dtype == torch.float32
    assert ((score >= 0) & (score <= 2)).all()


@given(SEEDS, st.permutations(range(C)))
@REPEAT
def test_relabelling_the_classes_permutes_the_score_and_keeps_the_parts(seed, new_name):
    new_name = torch.tensor(new_name)
    student, teacher, valid = draw(seed)
    score = class_mismatch_score(confusion_matrix(student, teacher, valid, num_classes=C))
    renamed = (new_name[student], new_name[teacher])
    new_score = class_mismatch_score(confusion_matrix(*renamed, valid, num_classes=C))
    assert torch.equal(new_score[new_name], score)
    parts = partition_pseudo_labels(student, teacher, score, valid)
    new_parts = partition_pseudo_labels(*renamed, new_score, valid)
    assert all(torch.equal(a, b) for a, b in zip(parts, new_parts, strict=True))


@given(SEEDS)
@REPEAT
def test_parts_are_disjoint_and_together_all_valid_pixels(seed):
    student, teacher, valid = draw(seed)
    score = torch.rand(C, generator=torch.Generator().manual_seed(seed))
    parts = torch.stack(partition_pseudo_labels(student, teacher, score, valid))
    assert torch.equal(parts.sum(dim=0), valid.long())


@given(SEEDS)
@REPEAT
def test_swapping_the_models_swaps_high_and_low(seed):
    student, teacher, valid = draw(seed)
    score = torch.tensor([0.1, 0.2, 0.3, 0.4])  # no ties
    one = partition_pseudo_labels(student, teacher, score, valid)
    other = partition_pseudo_labels(teacher, student, score, valid)
    assert torch.equal(one.high_NHW, other.low_NHW)
    assert torch.equal(one.low_NHW, other.high_NHW)


@pytest.mark.parametrize("anything", [0, 2, 255, -1])
def test_the_value_of_a_masked_pixel_never_matters(anything):
    student, teacher, valid = draw(0)
    masked = (student.where(valid, anything), teacher.where(valid, anything))
    confusion = confusion_matrix(*masked, valid, num_classes=C)
    assert torch.equal(confusion, confusion_matrix(student, teacher, valid, num_classes=C))
    score = class_mismatch_score(confusion)
    one = partition_pseudo_labels(student, teacher, score, valid)
    other = partition_pseudo_labels(*masked, score, valid)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_valid_pixel_gives_zeros():
    student, teacher, valid = draw(0)
    nothing = torch.zeros_like(valid)
    confusion = confusion_matrix(student, teacher, nothing, num_classes=C)
    score = class_mismatch_score(confusion)
    assert confusion.tolist() == [[0] * C] * C
    assert score.tolist() == [0.0] * C
    assert not torch.stack(partition_pseudo_labels(student, teacher, score, nothing)).any()


@pytest.mark.parametrize(
    ("selection", "want"),
    [
        ("all", [True, True, True, False]),
        ("consistent", [True, False, False, False]),
        ("consistent+low", [True, False, True, False]),
        ("consistent+high", [True, True, False, False]),
    ],
)
def test_selections_are_the_rows_of_table_5(selection, want):
    masks = torch.eye(4, dtype=torch.bool)[:3]  # one pixel for each part and one for none
    assert select(PseudoLabelParts(*masks), selection).tolist() == want


def test_an_unknown_selection_is_refused():
    masks = torch.eye(4, dtype=torch.bool)[:3]
    with pytest.raises(ValueError, match=r"unknown selection 'high'; known: all, consistent, "):
        select(PseudoLabelParts(*masks), "high")

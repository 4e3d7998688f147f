import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.metrics import (
    CONFIDENCE_BINS,
    calibration,
    calibration_error,
    confusion_matrix,
    iou_per_class,
    mean_iou,
)

C = 4


def drawn(seed):
    """Truth with ignored pixels and without class 3, and predictions."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(C - 1, size=(7, 9)).astype(np.uint8)
    truth[rng.random((7, 9)) < 0.2] = 255
    return truth, rng.integers(C, size=(7, 9))


def counted_slowly(truth, prediction):
    counts = [[0] * C for _ in range(C)]
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if t != 255:
            counts[t][p] += 1
    return counts


def iou_slowly(truth, prediction):
    """From sets of pixels, without a confusion matrix."""
    labeled = truth != 255
    for c in range(C):
        true, said = (truth == c) & labeled, (prediction == c) & labeled
        yield (true & said).sum() / union if (union := (true | said).sum()) else np.nan


def test_confusion_by_hand():
    truth = np.array([[0, 0, 1], [1, 255, 2]], np.uint8)
    prediction = np.array([[0, 1, 1], [1, 0, 0]])
    got = confusion_matrix(truth, prediction, num_classes=3)
    assert got.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert got.dtype == np.int64


def test_another_label_can_be_the_ignored_one():
    truth, prediction = np.array([0, 1, 1]), np.array([0, 0, 1])
    got = confusion_matrix(truth, prediction, num_classes=2, ignore_index=0)
    assert got.tolist() == [[0, 0], [1, 1]]


def test_nothing_labeled_counts_nothing():
    truth = np.full((2, 2), 255, np.uint8)
    got = confusion_matrix(truth, np.zeros((2, 2), np.int64), num_classes=2)
    assert got.tolist() == [[0, 0], [0, 0]]
    assert np.isnan(mean_iou(iou_per_class(got)))


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_many_classes_do_not_overflow_the_type_of_the_labels(kind):
    labels = np.arange(200).astype(kind)
    assert (confusion_matrix(labels, labels, num_classes=200) == np.eye(200)).all()


def test_iou_by_hand():
    # class 0: 6 of 6 + 2 + 1; class 1: 1 of 1 + 2 + 1; class 2 only predicted; class 3 nowhere
    confusion = np.array([[6, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    got = iou_per_class(confusion)
    np.testing.assert_allclose(got, [6 / 9, 1 / 3, 0, np.nan])
    assert mean_iou(got) == pytest.approx((6 / 9 + 1 / 3 + 0) / 3)


@given(st.integers(0, 2**32))
def test_counts_and_iou_equal_the_slow_ones(seed):
    truth, prediction = drawn(seed)
    got = confusion_matrix(truth, prediction, num_classes=C)
    assert got.tolist() == counted_slowly(truth, prediction)
    np.testing.assert_allclose(iou_per_class(got), list(iou_slowly(truth, prediction)))


@given(st.integers(0, 2**32), st.permutations(range(C)))
def test_renaming_the_classes_renames_their_iou(seed, order):
    truth, prediction = drawn(seed)
    iou = iou_per_class(confusion_matrix(truth, prediction, num_classes=C))
    new = np.array(order)
    truth = np.where(truth == 255, 255, new[np.minimum(truth, C - 1)])
    renamed = iou_per_class(confusion_matrix(truth, new[prediction], num_classes=C))
    np.testing.assert_allclose(renamed[new], iou)
    assert mean_iou(renamed) == pytest.approx(mean_iou(iou))


def test_calibration_by_hand():
    truth = np.array([0, 1, 1, 255, 2])
    prediction = np.array([0, 1, 0, 0, 2])
    confidence = np.array([0.26, 0.29, 0.99, 0.5, 1.0])
    found = calibration(truth, prediction, confidence)
    want = np.zeros((3, CONFIDENCE_BINS))
    want[:, 5] = [2, 2, 0.55]
    want[:, 19] = [2, 1, 1.99]
    np.testing.assert_allclose(found, want)
    # bins: 2 of 4 pixels, right 1, sure 0.275; 2 of 4, right 0.5, sure 0.995
    assert calibration_error(found) == pytest.approx((1 - 0.275) / 2 + (0.995 - 0.5) / 2)


def test_who_is_as_often_right_as_sure_has_no_calibration_error():
    truth = np.zeros(100, np.uint8)
    prediction = (np.arange(100) >= 73).astype(np.uint8)
    found = calibration(truth, prediction, np.full(100, 0.73))
    assert calibration_error(found) == pytest.approx(0)
    assert np.isnan(calibration_error(np.zeros((3, CONFIDENCE_BINS))))

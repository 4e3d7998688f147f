"""Counts of pixels, and the scores that follow from them; pure numpy."""

import numpy as np

CONFIDENCE_BINS = 20
"""Of equal width, from 0 to 1."""


def confusion_matrix(
    truth: np.ndarray, prediction: np.ndarray, *, num_classes: int, ignore_index: int = 255
) -> np.ndarray:
    """Counts of pixels, row = true class, column = predicted class.

    Args:
      truth: integers of any shape; `ignore_index` counts nowhere.
      prediction: the same shape, every value in [0, num_classes).

    Returns:
      int64 [C, C].
    """
    counted = truth != ignore_index
    pairs = num_classes * truth[counted].astype(np.int64) + prediction[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def iou_per_class(confusion_CC: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, in [0, 1].

    nan for a class that is neither in the truth nor in the predictions; a class that is predicted
    though it is absent has 0, as everywhere in the field.

    Returns:
      float64 [C].
    """
    hit_C = confusion_CC.diagonal().astype(np.float64)
    union_C = confusion_CC.sum(axis=0) + confusion_CC.sum(axis=1) - hit_C
    return np.divide(hit_C, union_C, out=np.full_like(hit_C, np.nan), where=union_C > 0)


def mean_iou(iou_C: np.ndarray) -> float:
    """The mean over the classes that have an IoU; nan if none has."""
    known_C = iou_C[~np.isnan(iou_C)]
    return float(known_C.mean()) if known_C.size else float("nan")


def calibration(
    truth: np.ndarray, prediction: np.ndarray, confidence: np.ndarray, *, ignore_index: int = 255
) -> np.ndarray:
    """How often a prediction of some confidence is right.

    Args:
      truth: integers of any shape; `ignore_index` counts nowhere.
      prediction: the same shape.
      confidence: of each prediction, in [0, 1].

    Returns:
      float64 [3, CONFIDENCE_BINS]: pixels, right ones among them, and the sum of confidences.
    """
    counted = truth != ignore_index
    right, sure = (prediction == truth)[counted], confidence[counted].astype(np.float64)
    bins = np.minimum((sure * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
    weights = (None, right, sure)
    return np.stack([np.bincount(bins, w, minlength=CONFIDENCE_BINS) for w in weights])


def calibration_error(calibration_3B: np.ndarray) -> float:
    """Expected calibration error, in [0, 1] (Naeini et al., AAAI 2015); nan of no pixel at all.

    The distance of mean confidence and share of right ones in each bin, weighted by its pixels.
    """
    pixels_B, right_B, sure_B = calibration_3B
    total = pixels_B.sum()
    return float(np.abs(right_B - sure_B).sum() / total) if total else float("nan")

"""Whether one method is better than another: intervals over images and over seeds.

Letters: S seeds, I images, C classes, R draws.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

DRAWS = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """Of a difference of mIoU, in fractions."""

    low: float
    high: float


def mean_iou(counts_3C: np.ndarray) -> np.ndarray:
    """Mean IoU [...] of counts [..., 3, C]; a class that is nowhere counts nowhere."""
    hit, true, predicted = np.moveaxis(counts_3C.astype(np.float64), -2, 0)
    union = true + predicted - hit
    iou = np.divide(hit, union, out=np.full_like(hit, np.nan), where=union > 0)
    return np.nanmean(iou, axis=-1)


def over_images(base_SI3C: np.ndarray, other_SI3C: np.ndarray, seed: int = 0) -> Interval:
    """Interval of the difference other - base, by a paired bootstrap over validation images.

    Each draw takes as many images as there are, with replacement, the same for both; their counts
    are added up, and the mIoU of each seed averaged. The interval holds the middle 95 % of the
    draws (percentile bootstrap; Efron and Tibshirani, 1993, chapter 13). It speaks of other images,
    not of other trainings.
    """
    num = base_SI3C.shape[1]
    drawn_RI = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=DRAWS)
    means = [
        np.mean([mean_iou(np.einsum("ri,ikc->rkc", drawn_RI, x)) for x in counts], axis=0)
        for counts in (base_SI3C, other_SI3C)
    ]
    tail = 100 * (1 - LEVEL) / 2
    return Interval(*np.percentile(means[1] - means[0], [tail, 100 - tail]).tolist())


def over_seeds(base_S: np.ndarray, other_S: np.ndarray) -> Interval | None:
    """Interval of the mean difference other - base, by Student's t over pairs of equal seeds.

    It speaks of other trainings on the same split and images. None with fewer than two pairs.
    """
    difference_S = other_S - base_S
    if len(difference_S) < 2:
        return None
    half = stats.t.ppf((1 + LEVEL) / 2, len(difference_S) - 1) * stats.sem(difference_S)
    return Interval(difference_S.mean() - half, difference_S.mean() + half)

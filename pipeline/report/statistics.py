"""Whether one method is better than another: intervals over images and over seeds.

Letters: S seeds, I images, C classes, R draws, B blocks of images.
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
    """Mean IoU [...] of counts [..., 3, C] over the classes that have true pixels; nan without."""
    hit, true, predicted = np.moveaxis(counts_3C.astype(np.float64), -2, 0)
    there = true > 0
    iou = np.divide(hit, true + predicted - hit, out=np.zeros_like(hit), where=there)
    num = there.sum(axis=-1)
    return np.divide(iou.sum(axis=-1), num, out=np.full(num.shape, np.nan), where=num > 0)


def over_images(
    base_SI3C: np.ndarray,
    other_SI3C: np.ndarray,
    *,
    block: int = 1,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """Interval of the difference other - base, by a paired bootstrap over validation images.

    Each draw takes as many images as there are, with replacement, the same for both; their counts
    are added up, and the mIoU of each seed averaged, over the classes that the drawn images have.
    The interval holds the middle 95 % of the draws (percentile bootstrap; Efron and Tibshirani,
    1993, chapter 13). It speaks of other images, not of other trainings.

    Args:
      block: so many successive images are drawn together, after the last one the first ones
        (circular block bootstrap; Politis and Romano, 1992): for frames of a film, which are alike.
    """
    num = base_SI3C.shape[1]
    drawn_RI = times_drawn(num, min(block, num), draws, np.random.default_rng(seed))
    base_R, other_R = (drawn_miou(drawn_RI, counts) for counts in (base_SI3C, other_SI3C))
    tail = 100 * (1 - LEVEL) / 2
    return Interval(*np.nanpercentile(other_R - base_R, [tail, 100 - tail]).tolist())


def times_drawn(num: int, block: int, draws: int, generator: np.random.Generator) -> np.ndarray:
    """Float64 [R, num]: how often each draw has each image; of the last block what is needed."""
    first_RB = generator.integers(num, size=(draws, -(-num // block)))
    image_RI = (first_RB[..., None] + np.arange(block)).reshape(draws, -1)[:, :num] % num
    return np.stack([np.bincount(image_I, minlength=num) for image_I in image_RI]).astype(float)


def drawn_miou(drawn_RI: np.ndarray, counts_SI3C: np.ndarray) -> np.ndarray:
    """Mean over seeds of the mIoU of each draw: float64 [R].

    Counts are whole numbers below 2 ** 53, so their sums are exact, in whatever order.
    """
    summed_SR = [drawn_RI @ counts.reshape(len(counts), -1) for counts in counts_SI3C]
    shape = (len(drawn_RI), *counts_SI3C.shape[2:])
    return np.mean([mean_iou(summed.reshape(shape)) for summed in summed_SR], axis=0)


def over_seeds(base_S: np.ndarray, other_S: np.ndarray) -> Interval | None:
    """Interval of the mean difference other - base, by Student's t over pairs of equal seeds.

    It speaks of other trainings on the same split and images. None with fewer than two pairs.
    """
    difference_S = other_S - base_S
    if len(difference_S) < 2:
        return None
    mean, error = difference_S.mean(), stats.sem(difference_S)
    half = stats.t.ppf((1 + LEVEL) / 2, len(difference_S) - 1) * error
    return Interval(float(mean - half), float(mean + half))

"""Slow, obvious versions of pipeline/losses/segmentation.py: one pixel after the other."""

import math
from collections.abc import Iterator

from torch import Tensor


def pixels(height: int, width: int, num: int) -> Iterator[tuple[int, int, int]]:
    for n in range(num):
        for y in range(height):
            for x in range(width):
                yield n, y, x


def probabilities(logits_NCHW: Tensor, n: int, y: int, x: int) -> list[float]:
    exponentials = [math.exp(value) for value in logits_NCHW[n, :, y, x].tolist()]
    return [value / sum(exponentials) for value in exponentials]


def cross_entropy(logits_NCHW: Tensor, label_NHW: Tensor, ignore_index: int) -> float:
    total, count = 0.0, 0
    num, height, width = label_NHW.shape
    for n, y, x in pixels(height, width, num):
        label = int(label_NHW[n, y, x])
        if label != ignore_index:
            total -= math.log(probabilities(logits_NCHW, n, y, x)[label])
            count += 1
    return total / count if count else 0.0


def ohem_cross_entropy(
    logits_NCHW: Tensor, label_NHW: Tensor, min_kept: int, threshold: float, ignore_index: int
) -> float:
    probs = []
    num, height, width = label_NHW.shape
    for n, y, x in pixels(height, width, num):
        label = int(label_NHW[n, y, x])
        if label != ignore_index:
            probs.append(probabilities(logits_NCHW, n, y, x)[label])
    probs.sort()
    hard = [prob for prob in probs if prob <= threshold]
    kept = hard if len(hard) >= min_kept else probs[:min_kept]
    return sum(-math.log(prob) for prob in kept) / len(kept) if kept else 0.0


def pseudo_label(logits_NCHW: Tensor) -> tuple[list[int], list[float]]:
    labels, confidences = [], []
    num, _, height, width = logits_NCHW.shape
    for n, y, x in pixels(height, width, num):
        probs = probabilities(logits_NCHW, n, y, x)
        confidences.append(max(probs))
        labels.append(probs.index(max(probs)))
    return labels, confidences


def weighted_cross_entropy(
    logits_NCHW: Tensor, label_NHW: Tensor, weight_NHW: Tensor, valid_NHW: Tensor
) -> float:
    total, count = 0.0, 0
    num, height, width = label_NHW.shape
    for n, y, x in pixels(height, width, num):
        if valid_NHW[n, y, x]:
            prob = probabilities(logits_NCHW, n, y, x)[int(label_NHW[n, y, x])]
            total -= float(weight_NHW[n, y, x]) * math.log(prob)
            count += 1
    return total / count if count else 0.0

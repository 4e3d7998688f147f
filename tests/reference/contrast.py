"""Slow, obvious versions of pipeline/losses/{anchors,contrast}.py, in lists of floats."""

import itertools
import math
from collections.abc import Callable

from torch import Tensor


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a: list[float]) -> list[float]:
    return [x / math.sqrt(dot(a, a)) for x in a]


def anchor_loss(anchor_CD: Tensor, tau: float) -> float:
    anchors = anchor_CD.tolist()
    rows = [math.log(sum(math.exp(dot(v, w) / tau) for w in anchors)) for v in anchors]
    return sum(rows) / len(rows)


def batch_prototypes(
    feature_PD: Tensor, label_P: Tensor, num_classes: int
) -> list[list[float] | None]:
    prototypes = []
    for c in range(num_classes):
        members = [
            unit(feature)
            for feature, label in zip(feature_PD.tolist(), label_P.tolist(), strict=True)
            if label == c
        ]
        mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
        prototypes.append(mean if members else None)
    return prototypes


def least_cost(cost: list[list[float]]) -> float:
    size = range(len(cost))
    return min(sum(cost[c][sigma[c]] for c in size) for sigma in itertools.permutations(size))


def reduced(
    pixel_loss: Callable[[list[float], int], float],
    feature_PD: Tensor,
    label_P: Tensor,
    classes: list[int],
    reduction: str,
    num_classes: int,
) -> float:
    by_class = {c: [] for c in classes}
    for feature, label in zip(feature_PD.tolist(), label_P.tolist(), strict=True):
        if label in by_class:
            by_class[label].append(pixel_loss(feature, label))
    groups = [losses for losses in by_class.values() if losses]
    if not groups:
        return 0.0
    if reduction == "pixel":
        groups = [[loss for losses in groups for loss in losses]]
    total = sum(sum(losses) / len(losses) for losses in groups)
    return total / (num_classes if reduction == "every_class" else len(groups))


def anchor_contrast(
    feature_PD: Tensor,
    label_P: Tensor,
    anchor_CD: Tensor,
    tau: float,
    count_positive_twice: bool,
    reduction: str,
) -> float:
    anchors = anchor_CD.tolist()

    def pixel_loss(feature: list[float], label: int) -> float:
        scores = [math.exp(dot(unit(feature), anchor) / tau) for anchor in anchors]
        others = [score for c, score in enumerate(scores) if c != label]
        negatives = scores if count_positive_twice else others
        return -math.log(scores[label] / (scores[label] + sum(negatives)))

    return reduced(
        pixel_loss, feature_PD, label_P, list(range(len(anchors))), reduction, len(anchors)
    )


def similarity(
    feature_PD: Tensor, label_P: Tensor, bank_CQD: Tensor, filled_CQ: Tensor, reduction: str
) -> float:
    queue = {
        c: [bank_CQD[c, q].tolist() for q in range(filled_CQ.shape[1]) if filled_CQ[c, q]]
        for c in range(len(filled_CQ))
    }

    def pixel_loss(feature: list[float], label: int) -> float:
        terms = [1 - dot(unit(feature), unit(positive)) for positive in queue[label]]
        return sum(terms) / len(terms)

    classes = [c for c in queue if queue[c]]
    return reduced(pixel_loss, feature_PD, label_P, classes, reduction, len(queue))

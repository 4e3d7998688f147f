"""Contrast of pixel features with anchors and with a memory bank, and what pixels to take.

Features enter every function as a network gives them, and are brought to length 1 inside
(docs/paper.md, reading 10). Labels are int64 [P], 255 for a pixel that does not count.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.anchors import class_mean, unit
from pipeline.waiting import keep, sent

Reduction = Literal["class", "every_class", "pixel"]
"""How the losses of pixels become one; see `anchor_contrast`."""


def anchor_contrast(
    feature_PD: Tensor,
    label_P: Tensor,
    anchor_CD: Tensor,
    *,
    tau: float,
    count_positive_twice: bool = False,
    reduction: Reduction = "class",
) -> Tensor:
    """L_ac of equation 15: pulls a feature to its class's anchor, away from the others.

    Args:
      label_P: 0..C-1, or 255.
      anchor_CD: unit vectors in the order of the classes; get no gradient.
      count_positive_twice: whether the sum in the denominator ranges over all anchors, as printed,
        rather than over the other ones, as described (docs/paper.md, reading 7).
      reduction: "class" (mean of the means of the classes present), "every_class" (their sum over
        C) or "pixel" (mean).

    Returns:
      scalar, float32 or wider; 0 with a zero gradient where no pixel counts.
    """
    feature_PD, anchor_CD = unit(feature_PD), anchor_CD.detach()
    with torch.autocast(feature_PD.device.type, enabled=False):
        logits_PC = feature_PD @ anchor_CD.to(feature_PD.dtype).T / tau
    positive_P = logits_PC.gather(1, counted_or_0(label_P)[:, None]).squeeze(1)
    denominator_P = logits_PC.logsumexp(dim=1)
    if count_positive_twice:
        denominator_P = denominator_P.logaddexp(positive_P)
    every_C = torch.ones(len(anchor_CD), dtype=torch.bool, device=label_P.device)
    return _reduce(denominator_P - positive_P, label_P, every_C, reduction)


def similarity(
    feature_PD: Tensor,
    label_P: Tensor,
    centre_CD: Tensor,
    held_C: Tensor,
    *,
    reduction: Reduction = "class",
) -> Tensor:
    """L_sim of equation 16: pulls a feature to its class's features in the memory bank.

    The mean of 1 - cos(f, q) over the bank's q is 1 - f . mean(q), all at length 1: what a pixel
    costs does not depend on the size of the bank.

    Args:
      label_P: 0..C-1, or 255.
      centre_CD: mean of the class's features in the bank, each at length 1; gets no gradient.
      held_C: bool, False for a class with an empty bank, which counts nowhere.
      reduction: "class" (mean of the means of the classes present), "every_class" (their sum over
        C) or "pixel" (mean).

    Returns:
      scalar in [0, 2], float32 or wider; 0 with a zero gradient where nothing counts.
    """
    loss_P = 1 - (unit(feature_PD) * centre_CD.detach()[counted_or_0(label_P)]).sum(dim=1)
    return _reduce(loss_P, label_P, held_C, reduction)


def group_by_class(label_P: Tensor) -> tuple[Tensor, Tensor]:
    """The order that brings each class together, and the rank of a pixel inside its class.

    Returns:
      int64 [P], stable; int64 [P], in that order, 0 for the first pixel of a class.
    """
    sorted_P, order_P = label_P.sort(stable=True)
    first_P = torch.searchsorted(sorted_P, sorted_P)
    return order_P, torch.arange(len(label_P), device=label_P.device) - first_P


def counted_or_0(label_P: Tensor) -> Tensor:
    """The labels, and 0 where a pixel does not count: something that can be looked up."""
    return label_P.where(label_P != IGNORE_INDEX, 0)


def top_per_class(
    priority_P: Tensor, label_P: Tensor, *, k: int, num_classes: int
) -> tuple[Tensor, Tensor]:
    """The k pixels of highest priority in each class, class by class, best first.

    Args:
      label_P: a pixel whose label is not in 0..C-1 (ignored, say) is never taken.

    Returns:
      indices and labels, int64, at most k * C long; a class with fewer pixels gives all of them.
      Where the label is 255 nothing is taken: see `keep`.
    """
    best_P = priority_P.argsort(descending=True, stable=True)
    order_P, rank_P = group_by_class(label_P[best_P])
    index_P = best_P[order_P]
    label_P = label_P[index_P]
    taken_P = (label_P >= 0) & (label_P < num_classes) & (rank_P < k)
    label_K, index_K = keep(taken_P, label_P, index_P, most=k * num_classes)
    return index_K, label_K


def sample_per_class(
    label_P: Tensor, *, max_per_class: int, num_classes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """At most `max_per_class` random pixels of each class, class by class: as `top_per_class`.

    Args:
      label_P: a pixel whose label is not in 0..C-1 (ignored, say) is never taken.
      generator: decides alone, wherever it and the labels are.
    """
    drawn_P = torch.rand(len(label_P), generator=generator, device=generator.device)
    # The k-th number is for the k-th pixel that counts, wherever the others are.
    number_P = ((label_P >= 0) & (label_P < num_classes)).cumsum(0) - 1
    priority_P = sent(drawn_P, label_P.device)[number_P.clamp(min=0)]
    return top_per_class(priority_P, label_P, k=max_per_class, num_classes=num_classes)


def _reduce(loss_P: Tensor, label_P: Tensor, counted_C: Tensor, reduction: Reduction) -> Tensor:
    """Mean over the pixels of the counted classes, or over the means of those classes."""
    if reduction not in get_args(Reduction):
        raise ValueError(
            f"unknown reduction {reduction!r}; known: {', '.join(get_args(Reduction))}"
        )
    if reduction == "pixel":
        counted_P = counted_C[counted_or_0(label_P)] & (label_P != IGNORE_INDEX)
        return (loss_P * counted_P).sum() / counted_P.sum().clamp(min=1)
    mean_C1, present_C = class_mean(loss_P[:, None], label_P, num_classes=len(counted_C))
    counted_C = counted_C & present_C
    total = (mean_C1.squeeze(1) * counted_C).sum()
    return total / (len(counted_C) if reduction == "every_class" else counted_C.sum().clamp(min=1))

"""Losses over pixels, and the pseudo-labels that they learn from."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.precision import wide


class PseudoLabel(NamedTuple):
    """What a teacher says about each pixel."""

    label_NHW: Tensor
    """int64, the most likely class."""
    confidence_NHW: Tensor
    """float32 or wider, its probability."""


@torch.no_grad()
def pseudo_label(logits_NCHW: Tensor) -> PseudoLabel:
    """Equations 4 and 10, and the confidence that weights equations 7 and 11.

    The paper's one-hot labels are class indices here. No gradient reaches the teacher.
    """
    confidence_NHW, label_NHW = wide(logits_NCHW).softmax(dim=1).max(dim=1)
    return PseudoLabel(label_NHW, confidence_NHW)


def cross_entropy(logits_NCHW: Tensor, label_NHW: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Mean cross-entropy over the pixels that are not `ignore_index`.

    Args:
      label_NHW: int64.

    Returns:
      scalar, float32 or wider; 0 with a zero gradient where every pixel is ignored.
    """
    return hard_cross_entropy(logits_NCHW, label_NHW, label_NHW != ignore_index)


def ohem_cross_entropy(
    logits_NCHW: Tensor,
    label_NHW: Tensor,
    *,
    min_kept: int,
    threshold: float = 0.7,
    ignore_index: int = 255,
) -> Tensor:
    """Mean cross-entropy over the hard pixels only (online hard example mining).

    Not in the paper, but what the field trains Cityscapes with (docs/paper.md, reading 18).

    Args:
      label_NHW: int64.
      min_kept: where fewer pixels of the whole batch are hard, this many of the hardest count
        (at least one; all that have a label, where they are fewer; ties at the limit together).
      threshold: a pixel is hard where its true class has at most this probability.

    Returns:
      scalar, float32 or wider; 0 with a zero gradient where every pixel is ignored.
    """
    counted_NHW = label_NHW != ignore_index
    loss_NHW = _pixel_cross_entropy(logits_NCHW, label_NHW, counted_NHW)
    prob_NHW = (-loss_NHW.detach()).exp()  # 1, the easiest, where ignored
    num_kept = min(max(min_kept, 1), prob_NHW.numel())
    hardest_P = prob_NHW.flatten().topk(num_kept, largest=False).values
    kept_NHW = counted_NHW & (prob_NHW <= hardest_P[-1].clamp(min=threshold))
    return _mean(loss_NHW * kept_NHW, kept_NHW)


def supervised_loss(
    logits_NCHW_by_student: Sequence[Tensor],
    label_NHW: Tensor,
    *,
    pixel_loss: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
) -> Tensor:
    """L_s of equation 1: every student learns the labelled pixels."""
    return sum(pixel_loss(logits, label_NHW) for logits in logits_NCHW_by_student)


def weighted_cross_entropy(
    logits_NCHW: Tensor, label_NHW: Tensor, weight_NHW: Tensor, valid_NHW: Tensor
) -> Tensor:
    """L_u of equations 7 and 11: cross-entropy weighted by the teacher's confidence.

    The sum over the valid pixels is divided by their number, so that a rejected pixel (valid,
    weight 0) lowers the loss (docs/paper.md, reading 3).

    Args:
      label_NHW: int64 pseudo-labels; anything where not valid.
      weight_NHW: confidence of what is learnt, 0 for what is rejected; gets no gradient.
      valid_NHW: bool, False for padding.

    Returns:
      scalar, float32 or wider; 0 with a zero gradient where no pixel is valid.
    """
    loss_NHW = _pixel_cross_entropy(logits_NCHW, label_NHW, valid_NHW)
    return _mean(loss_NHW * weight_NHW.detach(), valid_NHW)


def hard_cross_entropy(logits_NCHW: Tensor, label_NHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """Mean cross-entropy over the valid pixels, however sure the label is.

    Args:
      label_NHW: int64 pseudo-labels; anything where not valid.

    Returns:
      scalar, float32 or wider; 0 with a zero gradient where no pixel is valid.
    """
    return _mean(_pixel_cross_entropy(logits_NCHW, label_NHW, valid_NHW), valid_NHW)


def weighted_terms(
    supervised: Tensor,
    unsupervised_gen: Tensor,
    unsupervised_pro: Tensor,
    anchor: Tensor,
    similarity: Tensor,
    *,
    lambda_u: float,
    lambda_ctr: float,
) -> dict[str, Tensor]:
    """Equation 17 term by term: L_total is the sum of the values."""
    return {
        "supervised": supervised,
        "unsupervised_gen": lambda_u * unsupervised_gen,
        "unsupervised_pro": lambda_u * unsupervised_pro,
        "anchor": lambda_ctr * anchor,
        "similarity": lambda_ctr * similarity,
    }


def _pixel_cross_entropy(logits_NCHW: Tensor, label_NHW: Tensor, counted_NHW: Tensor) -> Tensor:
    """[N, H, W], float32 or wider: 0 where not counted, whatever the label is there."""
    # Unreduced, because the reduced form adds up in no fixed order on CUDA.
    return F.cross_entropy(
        wide(logits_NCHW),
        label_NHW.masked_fill(~counted_NHW, -100),
        ignore_index=-100,
        reduction="none",
    )


def _mean(loss_NHW: Tensor, counted_NHW: Tensor) -> Tensor:
    return loss_NHW.sum() / counted_NHW.sum().clamp(min=1)

"""Finding errors and doing without them (ELN, Kwon and Kwak, CVPR 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.anchors import unit
from pipeline.precision import wide


def localization_loss(score_NHW: Tensor, right_NHW: Tensor, counted_NHW: Tensor) -> Tensor:
    """Binary cross-entropy of "this pixel is right", the wrong pixels as heavy as the right ones.

    A right pixel weighs 1, a wrong one as much as there are right ones for each wrong one; the sum
    is divided by the number of all counted pixels.

    Args:
      score_NHW: logits.
      right_NHW: bool; anything where not counted.
      counted_NHW: bool, False for pixels without a label.

    Returns:
      scalar, float32 or wider; 0 where nothing is counted, or nothing is right.
    """
    score_NHW = wide(score_NHW)
    loss_NHW = F.binary_cross_entropy_with_logits(
        score_NHW, right_NHW.to(score_NHW), reduction="none"
    )
    right_NHW, wrong_NHW = counted_NHW & right_NHW, counted_NHW & ~right_NHW
    weight = right_NHW.sum() / wrong_NHW.sum().clamp(min=1)
    total = (loss_NHW * right_NHW).sum() + weight * (loss_NHW * wrong_NHW).sum()
    return total / counted_NHW.sum().clamp(min=1)


def class_contrast(
    query_PD: Tensor, key_PD: Tensor, label_P: Tensor, *, num_classes: int, tau: float
) -> Tensor:
    """Pulls the keys of each class to its queries, and those of other classes away from them.

    The mean over the classes present of -log(S_cc / sum_d S_cd) / n_c, where S_cd adds up
    exp(q . k / tau) over all pairs of the n_c queries of class c and the keys of class d, all at
    length 1. As in the code, the logarithm is one of sums, and not a sum over the pixels.

    Args:
      query_PD: get no gradient.
      key_PD: the features that learn, of the same pixels.
      label_P: int64, of queries and keys; 255 for a pixel that is neither.
      tau: at least 0.05: at less float32 takes the farthest pairs for 0.

    Returns:
      scalar, float32 or wider; 0 with a zero gradient where fewer than two classes are present.
    """
    counted_P = label_P != IGNORE_INDEX
    with torch.autocast(key_PD.device.type, enabled=False):
        cosine_PP = unit(query_PD.detach()) @ unit(key_PD).T
        # Divided by exp(1 / tau), which the fraction does not notice: no sum overflows.
        pair_PP = ((cosine_PP - 1) / tau).exp()
        member_PC = F.one_hot(label_P.where(counted_P, 0), num_classes).to(pair_PP)
        member_PC = member_PC * counted_P[:, None]
        sum_CC = member_PC.T @ pair_PP @ member_PC
    num_C = member_PC.sum(dim=0)
    present_C = num_C > 0
    same_C, all_C = (
        total_C.where(present_C, 1.0).log() for total_C in (sum_CC.diagonal(), sum_CC.sum(dim=1))
    )
    return ((all_C - same_C) / num_C.clamp(min=1)).sum() / present_C.sum().clamp(min=1)


def window_contrast(
    query_NDHW: Tensor,
    key_NDHW: Tensor,
    label_NHW: Tensor,
    *,
    num_classes: int,
    tau: float,
    windows: int,
    side: int,
    generator: torch.Generator,
) -> Tensor:
    """Mean of `class_contrast` over random square windows, each at one place of all images.

    Args:
      label_NHW: as `class_contrast`, at the size of the features.
      side: of a window; of a smaller image its whole side is taken.
    """
    sizes, losses = label_NHW.shape[-2:], []
    for drawn in torch.rand(windows, 2, generator=generator).tolist():
        parts = [min(side, size) for size in sizes]
        starts = [
            int(u * (size - part + 1)) for u, size, part in zip(drawn, sizes, parts, strict=True)
        ]
        window = ..., *(slice(a, a + part) for a, part in zip(starts, parts, strict=True))
        query_PD, key_PD = (
            value[window].movedim(1, -1).flatten(0, 2) for value in (query_NDHW, key_NDHW)
        )
        label_P = label_NHW[window].flatten()
        losses.append(class_contrast(query_PD, key_PD, label_P, num_classes=num_classes, tau=tau))
    return torch.stack(losses).mean()

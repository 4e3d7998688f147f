"""Who of two students may teach which pixel (dual student, Ke et al., ICCV 2019; arXiv:1909.01804).

In each function a student speaks twice of the same pixels: of the warped image, and of the plain
one, warped afterwards. Nothing here has a gradient.
"""

import torch
from torch import Tensor

from pipeline.losses.segmentation import pseudo_label
from pipeline.precision import wide


@torch.no_grad()
def stable(warped_NCHW: Tensor, plain_NCHW: Tensor, *, threshold: float) -> Tensor:
    """Where a student names the same class twice, and at least once is surer than `threshold`.

    Args:
      warped_NCHW, plain_NCHW: logits.

    Returns:
      bool [N, H, W].
    """
    first, second = pseudo_label(warped_NCHW), pseudo_label(plain_NCHW)
    sure_NHW = torch.maximum(first.confidence_NHW, second.confidence_NHW) > threshold
    return (first.label_NHW == second.label_NHW) & sure_NHW


@torch.no_grad()
def change(warped_NCHW: Tensor, plain_NCHW: Tensor) -> Tensor:
    """Mean over the classes of the squared difference of logits; float32 [N, H, W]."""
    return (wide(warped_NCHW) - wide(plain_NCHW)).square().mean(dim=1)


@torch.no_grad()
def taught(
    own_stable_NHW: Tensor,
    other_stable_NHW: Tensor,
    own_change_NHW: Tensor,
    other_change_NHW: Tensor,
) -> Tensor:
    """Where a student learns from the other: that is stable, and oneself is not, or changes more.

    Where both are stable and change alike, each learns from the other.

    Returns:
      bool [N, H, W].
    """
    no_worse_NHW = other_change_NHW <= own_change_NHW
    return other_stable_NHW & (~own_stable_NHW | no_worse_NHW)

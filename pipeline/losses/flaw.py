"""Maps of flaws (GCT, Ke et al., ECCV 2020): what a detector learns, and who may teach where.

Maps are [N, H, W]; nothing here has a gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import gaussian_blur


def smooth(map_NHW: Tensor, part: int) -> Tensor:
    """Gaussian blur with a kernel of 1/`part` of the shorter side, odd, at least 3."""
    size = max(min(map_NHW.shape[-2:]) // part, 2) // 2 * 2 + 1
    return gaussian_blur(map_NHW[:, None], [size, size]).squeeze(1)


def stretch(map_NHW: Tensor) -> Tensor:
    """Each map from 0 to 1; a constant one becomes 0."""
    lowest, highest = map_NHW.amin(dim=(1, 2)), map_NHW.amax(dim=(1, 2))
    return (map_NHW - lowest[:, None, None]) / (highest - lowest + 1e-9)[:, None, None]


@torch.no_grad()
def flaw_target(
    prob_NCHW: Tensor, label_NHW: Tensor, counted_NHW: Tensor, *, mu: float, nu: int
) -> Tensor:
    """What the detector is to say of labelled images.

    The distance of prediction and truth, summed over the classes and times `mu`, then blurred,
    `nu` times dilated and blurred again, and stretched.

    Args:
      label_NHW: int64, 0..C-1 where counted.
      counted_NHW: bool; elsewhere there is no flaw.
    """
    true_NCHW = F.one_hot(label_NHW.where(counted_NHW, 0), prob_NCHW.shape[1]).movedim(-1, 1)
    flaw_NHW = mu * (prob_NCHW - true_NCHW).abs().sum(dim=1) * counted_NHW
    flaw_NHW = smooth(flaw_NHW, 8)
    for _ in range(nu):
        dilated_N1HW = F.max_pool2d(flaw_NHW[:, None], 3, stride=1, padding=1)
        flaw_NHW = smooth(dilated_N1HW.squeeze(1), 4)
    return stretch(flaw_NHW)


@torch.no_grad()
def readable(flaw_NHW: Tensor, *, least: float = 0.1) -> Tensor:
    """A detector's map made comparable: no negative flaws, smooth, stretched.

    Args:
      least: a map that nowhere exceeds it has no flaw.
    """
    flaw_NHW = smooth(flaw_NHW.clamp(min=0), 16)
    return stretch(flaw_NHW * (flaw_NHW.amax(dim=(1, 2)) > least)[:, None, None])


@torch.no_grad()
def less_flawed(own_NHW: Tensor, other_NHW: Tensor, *, threshold: float) -> tuple[Tensor, Tensor]:
    """Where one's own prediction is at least as good as the other's, and where both are bad.

    Args:
      threshold: a flaw above it is as bad as any.

    Returns:
      two bool [N, H, W].
    """
    own_bad_NHW, other_bad_NHW = own_NHW > threshold, other_NHW > threshold
    own_NHW, other_NHW = own_NHW.where(~own_bad_NHW, 1.0), other_NHW.where(~other_bad_NHW, 1.0)
    return own_NHW <= other_NHW, own_bad_NHW & other_bad_NHW

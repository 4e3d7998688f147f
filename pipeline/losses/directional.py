"""Directional contrast (CAC, Lai et al., CVPR 2021): who is less sure learns from who is surer."""

import torch
from torch import Tensor

from pipeline.losses.anchors import unit


def directional_contrast(
    feature_PD: Tensor,
    target_PD: Tensor,
    label_P: Tensor,
    negative_MD: Tensor,
    negative_label_M: Tensor,
    *,
    tau: float,
) -> Tensor:
    """Pulls each feature to its counterpart, away from the features of other classes.

    -log of exp(f . t / tau) over the sum of that and of exp(f . n / tau) for all negatives n whose
    class is not the feature's own; all at length 1 (the paper's equations 2 and 3).

    Args:
      target_PD: the same pixels in the surer view; get no gradient.
      label_P: int64, the features' own (pseudo) classes.
      negative_MD: get no gradient.
      negative_label_M: int64; one that is no class (255) is nobody's negative.

    Returns:
      scalar, float32 or wider: the mean over the pixels; 0 with a zero gradient where P is 0.
    """
    feature_PD, target_PD = unit(feature_PD), unit(target_PD.detach())
    positive_P = (feature_PD * target_PD).sum(dim=1) / tau
    with torch.autocast(feature_PD.device.type, enabled=False):
        against_PM = feature_PD @ unit(negative_MD.detach()).T / tau
    counted_PM = (negative_label_M != label_P[:, None]) & (negative_label_M != 255)
    against_PM = against_PM.masked_fill(~counted_PM, -torch.inf)
    everything_P = torch.cat([positive_P[:, None], against_PM], dim=1).logsumexp(dim=1)
    return (everything_P - positive_P).sum() / max(len(label_P), 1)


def surer(confidence_P: Tensor, other_P: Tensor, *, threshold: float) -> Tensor:
    """Bool [P]: the pixels of which the other view is sure, and surer than this one."""
    return (other_P > threshold) & (confidence_P < other_P)

"""Agreement of a student's prediction with somebody else's, pixel by pixel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.losses.segmentation import PseudoLabel, weighted_cross_entropy
from pipeline.precision import wide


@torch.no_grad()
def probabilities(logits_NCHW: Tensor) -> Tensor:
    """Float32 [N, C, H, W]; no gradient reaches who says them."""
    return wide(logits_NCHW).softmax(dim=1)


def squared_difference(logits_NCHW: Tensor, target_NCHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """Mean over the valid pixels of the squared distance between two distributions.

    Args:
      logits_NCHW: the student's.
      target_NCHW: probabilities; get no gradient.
      valid_NHW: bool.

    Returns:
      scalar in [0, 2], float32 or wider: summed, not averaged, over the classes; 0 where nothing
      is valid.
    """
    difference_NCHW = wide(logits_NCHW).softmax(dim=1) - target_NCHW.detach()
    distance_NHW = difference_NCHW.square().sum(dim=1)
    return (distance_NHW * valid_NHW).sum() / valid_NHW.sum().clamp(min=1)


def confident_share(confidence_NHW: Tensor, valid_NHW: Tensor, *, threshold: float) -> Tensor:
    """Share of the valid pixels that are more confident than `threshold`; 0 if none is valid."""
    confident_NHW = (confidence_NHW > threshold) & valid_NHW
    return confident_NHW.sum() / valid_NHW.sum().clamp(min=1)


def confident_cross_entropy(
    logits_NCHW: Tensor, taught: PseudoLabel, valid_NHW: Tensor, *, threshold: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the pixels that are at least as confident as `threshold`.

    Returns:
      scalar, float32 or wider: their sum over the number of all valid pixels; and their share.
    """
    confident_NHW = taught.confidence_NHW >= threshold
    loss = weighted_cross_entropy(logits_NCHW, taught.label_NHW, confident_NHW, valid_NHW)
    share = (confident_NHW & valid_NHW).sum() / valid_NHW.sum().clamp(min=1)
    return loss, share


def fuzzy_positives(prob_NCHW: Tensor, *, mass: float, most: int) -> Tensor:
    """The likeliest class of each pixel, and those after it while the sum stays below `mass`.

    Args:
      most: no more classes than these, whatever they reach.

    Returns:
      bool [N, C, H, W], at least one class a pixel.
    """
    sorted_NCHW, order_NCHW = prob_NCHW.sort(dim=1, descending=True, stable=True)
    taken_NCHW = sorted_NCHW.cumsum(dim=1) < mass
    taken_NCHW[:, most:] = False
    taken_NCHW[:, 0] = True
    return torch.zeros_like(taken_NCHW).scatter(1, order_NCHW, taken_NCHW)


def fuzzy_positive_loss(logits_NCHW: Tensor, positive_NCHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """Pushes every positive class of a pixel above every other one (FPL, equation 6).

    log(1 + sum of e^z over the others * sum of e^-z over the positives), which is cross-entropy
    where one class is positive; averaged over the valid pixels.

    Args:
      positive_NCHW: bool, at least one class a pixel.

    Returns:
      scalar, float32 or wider; 0 where nothing is valid.
    """
    logits_NCHW = wide(logits_NCHW)
    lowest = torch.finfo(torch.float32).min
    others_NHW = logits_NCHW.masked_fill(positive_NCHW, lowest).logsumexp(dim=1)
    positives_NHW = (-logits_NCHW).masked_fill(~positive_NCHW, lowest).logsumexp(dim=1)
    loss_NHW = F.softplus(others_NHW + positives_NHW)
    return (loss_NHW * valid_NHW).sum() / valid_NHW.sum().clamp(min=1)


def negative_loss(logits_NCHW: Tensor, absent_NCHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """Pushes down the classes that pixels are sure not to have (PS-MT's code).

    Args:
      absent_NCHW: bool.

    Returns:
      scalar, float32 or wider: the mean of -log(1 - p) over all absent classes of all valid pixels;
      0 where there is none.
    """
    prob_NCHW = wide(logits_NCHW).softmax(dim=1)
    counted_NCHW = absent_NCHW & valid_NHW[:, None]
    loss_NCHW = -torch.log1p(-prob_NCHW.clamp(max=1 - 1e-6)) * counted_NCHW
    return loss_NCHW.sum() / counted_NCHW.sum().clamp(min=1)

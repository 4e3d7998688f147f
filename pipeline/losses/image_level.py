"""From labels of images to soft labels of pixels (PseudoSeg, Zou et al., ICLR 2021)."""

import torch
from torch import Tensor

from pipeline.precision import wide


def classes_in(label_NHW: Tensor, *, num_classes: int) -> Tensor:
    """Bool [N, C]: the classes of which an image has a pixel.

    Args:
      label_NHW: int64; C or more (255, ignored) is no class.
    """
    label_NP = label_NHW.flatten(1).clamp(max=num_classes)
    found_NC = torch.zeros(len(label_NP), num_classes + 1, dtype=torch.bool, device=label_NP.device)
    return found_NC.scatter(1, label_NP, True)[:, :num_classes]


@torch.no_grad()
def activation_maps(feature_NDHW: Tensor, weight_CD: Tensor, present_NC: Tensor) -> Tensor:
    """Where an image shows each class: Grad-CAM of a linear classifier of the features' mean.

    The gradient of such a logit is w_c / (H W) for every image and at every place, and so is its
    mean, by which Grad-CAM weights the channels: relu(w_c . f) / (H W) is Grad-CAM.

    Args:
      feature_NDHW: what the classifier averages.
      weight_CD: the classifier's.
      present_NC: bool, the classes to be shown; others are 0.

    Returns:
      float32 or wider [N, C, H, W], 1 at the highest place of a class that is above 1e-5
      anywhere, less where it is not.
    """
    with torch.autocast(feature_NDHW.device.type, enabled=False):
        raw_NCHW = torch.einsum("ndhw,cd->nchw", wide(feature_NDHW), wide(weight_CD)).relu()
    raw_NCHW = raw_NCHW / feature_NDHW[0, 0].numel() * present_NC[..., None, None]
    return raw_NCHW / raw_NCHW.amax(dim=(2, 3), keepdim=True).clamp(min=1e-5)


@torch.no_grad()
def calibrated_mean(first_NCHW: Tensor, second_NCHW: Tensor) -> Tensor:
    """Mean of two softmax, of logits over the root mean square of all of them together.

    However large the logits are, no more than their ratio decides how flat the mean is.

    Returns:
      probabilities, float32 or wider.
    """
    both_2NCHW = wide(torch.stack([first_NCHW, second_NCHW]))
    scale = (both_2NCHW.square().mean() + 1e-8).rsqrt()
    return (both_2NCHW * scale).softmax(dim=2).mean(dim=0)


@torch.no_grad()
def sharpen(prob_NCHW: Tensor, *, temperature: float) -> Tensor:
    """p^(1 / T) over the sum of that over the classes; T < 1 sharpens."""
    return (prob_NCHW.log() / temperature).softmax(dim=1)


def soft_cross_entropy(
    logits_NCHW: Tensor, target_NCHW: Tensor, learnt_NHW: Tensor, valid_NHW: Tensor
) -> Tensor:
    """Cross-entropy with soft labels of the learnt pixels, by the number of the valid ones.

    Args:
      target_NCHW: probabilities; get no gradient.
      learnt_NHW: bool; those that are not valid do not count.
      valid_NHW: bool.

    Returns:
      scalar, float32 or wider; 0 with a zero gradient where nothing is learnt.
    """
    log_prob_NCHW = wide(logits_NCHW).log_softmax(dim=1)
    loss_NHW = -(target_NCHW.detach() * log_prob_NCHW).sum(dim=1)
    return (loss_NHW * (learnt_NHW & valid_NHW)).sum() / valid_NHW.sum().clamp(min=1)

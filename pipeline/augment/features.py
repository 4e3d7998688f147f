"""Perturbations of feature maps: noise, dropped channels and places, and what an adversary does.

Features are [N, D, h, w]; each function returns new ones of the same shape.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.precision import wide


def uniform_noise(feature_NDHW: Tensor, generator: torch.Generator, *, reach: float) -> Tensor:
    """Each value times a factor in 1 +- `reach`, the same for every image (CCT's F-Noise)."""
    shape = feature_NDHW.shape[1:]
    noise_DHW = torch.rand(shape, generator=generator).mul(2).sub(1).mul(reach)
    return feature_NDHW * (1 + noise_DHW.to(feature_NDHW))


def drop_most_active(
    feature_NDHW: Tensor, generator: torch.Generator, *, least: float, greatest: float
) -> Tensor:
    """Zeroes the places whose mean activation is near the image's highest (CCT's F-Drop).

    A threshold, drawn from `least` to `greatest` for the whole batch, is a share of that highest.
    """
    threshold = least + (greatest - least) * torch.rand((), generator=generator).item()
    attention_N1HW = feature_NDHW.detach().mean(dim=1, keepdim=True)
    highest_N111 = attention_N1HW.amax(dim=(2, 3), keepdim=True)
    return feature_NDHW * (attention_N1HW < threshold * highest_N111)


def drop_channels(feature_NDHW: Tensor, generator: torch.Generator, *, prob: float) -> Tensor:
    """Zeroes whole channels with a probability, and scales the others up to make up for it."""
    if prob >= 1:
        return torch.zeros_like(feature_NDHW)
    kept_ND = torch.rand(feature_NDHW.shape[:2], generator=generator) >= prob
    return feature_NDHW * (kept_ND[..., None, None] / (1 - prob)).to(feature_NDHW)


def keep_where(feature_NDHW: Tensor, mask_NHW: Tensor) -> Tensor:
    """Zeroes what lies outside a mask of the image's size."""
    size = feature_NDHW.shape[-2:]
    return feature_NDHW * F.interpolate(mask_NHW[:, None].to(feature_NDHW), size=size)


def cut_out(mask_NHW: Tensor, generator: torch.Generator, *, share: float) -> Tensor:
    """Bool [N, H, W]: False in a random rectangle of each image's box around its mask.

    Args:
      share: of each side of the box.
    """
    kept_NHW = torch.ones_like(mask_NHW)
    place_N2 = torch.rand(len(mask_NHW), 2, generator=generator).tolist()
    for kept, mask, place in zip(kept_NHW, mask_NHW, place_N2, strict=True):
        rows, columns = (mask.any(dim=d).nonzero().flatten().tolist() for d in (1, 0))
        if rows:
            spans = [
                random_span(side[0], side[-1] + 1, share, u)
                for side, u in zip((rows, columns), place, strict=True)
            ]
            kept[spans[0], spans[1]] = False
    return kept_NHW


def random_span(start: int, stop: int, share: float, u: float) -> slice:
    """A part of `range(start, stop)` that has this share of it, at the place u in [0, 1)."""
    length = max(1, round(share * (stop - start)))
    first = start + int(u * (stop - start - length + 1))
    return slice(first, first + length)


def adversarial_noise(
    predict: Callable[[Tensor], Tensor],
    feature_NDHW: Tensor,
    generator: torch.Generator,
    *,
    probe: float,
    size: float,
) -> Tensor:
    """The noise that changes a prediction most, by one step of power iteration.

    Virtual adversarial training (Miyato et al., arXiv:1704.03976) on features: a random direction,
    a step of length `probe` along it, and the gradient there of the divergence from the prediction
    without noise.

    Args:
      predict: features to logits.
      probe: long enough that the divergence is not rounding alone.
      size: length of each image's noise.

    Returns:
      [N, D, h, w], without graph.
    """
    # In half precision a probe that short would be lost, and so would its gradient.
    feature_NDHW = wide(feature_NDHW)
    noise = torch.randn(feature_NDHW.shape, generator=generator).to(feature_NDHW)
    noise = (probe * unit_of(noise)).requires_grad_()
    full = torch.autocast(feature_NDHW.device.type, enabled=False)
    with full, torch.no_grad():
        target_NCHW = wide(predict(feature_NDHW)).softmax(dim=1)
    with full, torch.enable_grad():
        log_prob = wide(predict(feature_NDHW.detach() + noise)).log_softmax(dim=1)
        divergence = F.kl_div(log_prob, target_NCHW, reduction="batchmean")
        (gradient,) = torch.autograd.grad(divergence, noise)
    return size * unit_of(gradient)


def unit_of(noise_NDHW: Tensor) -> Tensor:
    """The noise of each image at length 1; zero stays zero."""
    return F.normalize(noise_NDHW.flatten(1), dim=1).unflatten(1, noise_NDHW.shape[1:])

"""A discriminator of ground truth and predictions, and what a network learns from it.

As in s4GAN (Mittal et al., PAMI 2019; arXiv:1908.05724). N images of each kind, D features; only
those that are counted have a say.
"""

import torch.nn.functional as F
from torch import Tensor

from pipeline.precision import wide


def mean_of(value: Tensor, counted_N: Tensor) -> Tensor:
    """Mean of [N, ...] over the counted images, float32 or wider; 0 if there is none."""
    value = wide(value)
    weight = counted_N.to(value).reshape(-1, *[1] * (value.ndim - 1))
    return (value * weight).sum(dim=0) / weight.sum().clamp(min=1)


def real_or_fake(
    real_N: Tensor, fake_N: Tensor, counted_real_N: Tensor, counted_fake_N: Tensor
) -> Tensor:
    """What the discriminator learns: binary cross-entropy, the mean of both kinds'.

    Args:
      real_N, fake_N: its logits; high is "ground truth".
      counted_real_N, counted_fake_N: bool.
    """
    real = mean_of(F.softplus(-wide(real_N)), counted_real_N)
    fake = mean_of(F.softplus(wide(fake_N)), counted_fake_N)
    return (real + fake) / 2


def feature_matching(
    real_ND: Tensor, fake_ND: Tensor, counted_real_N: Tensor, counted_fake_N: Tensor
) -> Tensor:
    """Mean over D of |mean over N of the real features - that of the fake ones|.

    Args:
      real_ND: get no gradient.

    Returns:
      scalar, float32 or wider; 0 unless images of both kinds are counted.
    """
    real_D = mean_of(real_ND.detach(), counted_real_N)
    fake_D = mean_of(fake_ND, counted_fake_N)
    both = counted_real_N.any() & counted_fake_N.any()
    return (real_D - fake_D).abs().mean() * both

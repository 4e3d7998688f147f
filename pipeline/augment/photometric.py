"""The colour part of strong augmentations; float32 images in [0, 1] in and out."""

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F


def jitter(image_CHW: Tensor, generator: torch.Generator) -> Tensor:
    """Colour jitter (p 0.8), grey (p 0.2), Gaussian blur (p 0.5), as in FixMatch and UniMatch.

    Brightness, contrast and saturation factors in [0.5, 1.5], hue in [-0.25, 0.25], blur's sigma
    in [0.1, 2].
    """
    u = torch.rand(8, generator=generator, dtype=torch.float64).tolist()
    if u[0] < 0.8:
        image_CHW = F.adjust_brightness(image_CHW, 0.5 + u[1])
        image_CHW = F.adjust_contrast(image_CHW, 0.5 + u[2])
        image_CHW = F.adjust_saturation(image_CHW, 0.5 + u[3])
        image_CHW = F.adjust_hue(image_CHW, (u[4] - 0.5) / 2)
    if u[5] < 0.2:
        image_CHW = F.rgb_to_grayscale(image_CHW, num_output_channels=3)
    if u[6] < 0.5:
        image_CHW = blur(image_CHW, 0.1 + 1.9 * u[7])
    return image_CHW.clamp(0, 1)


def random_intensity(image_CHW: Tensor, generator: torch.Generator, *, most: int = 3) -> Tensor:
    """One to `most` random changes of `INTENSITY`, each of random strength, as in AugSeg."""
    drawn = torch.rand(1 + 2 * most, generator=generator, dtype=torch.float64).tolist()
    for i in range(1 + int(drawn[0] * most)):
        change = INTENSITY[int(drawn[1 + 2 * i] * len(INTENSITY))]
        image_CHW = change(image_CHW, drawn[2 + 2 * i])
    return image_CHW.clamp(0, 1)


def blur(image_CHW: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, the kernel three deviations wide on each side."""
    kernel = 2 * max(1, round(3 * sigma)) + 1
    return F.gaussian_blur(image_CHW, [kernel, kernel], [sigma, sigma])


def fade(strength: float) -> float:
    """A factor in [0.05, 0.95]."""
    return 0.05 + 0.9 * strength


INTENSITY: tuple[Callable[[Tensor, float], Tensor], ...] = (
    lambda image, strength: image,
    lambda image, strength: F.autocontrast(image),
    lambda image, strength: F.equalize(image),
    lambda image, strength: blur(image, 0.1 + 1.9 * strength),
    lambda image, strength: F.adjust_contrast(image, fade(strength)),
    lambda image, strength: F.adjust_brightness(image, fade(strength)),
    lambda image, strength: F.adjust_saturation(image, fade(strength)),
    lambda image, strength: F.adjust_sharpness(image, fade(strength)),
    lambda image, strength: F.posterize(image, 4 + int(strength * 4)),
    lambda image, strength: F.solarize(image, strength),
    lambda image, strength: F.adjust_hue(image, strength - 0.5),
)
"""AugSeg's changes (arXiv:2212.04976): image and a strength in [0, 1) to image.

Nothing, stretched and equalised histograms, blur; less contrast, light, colour and sharpness; 4 to
7 bits; inverted above a threshold; another hue.
"""

KINDS = {"jitter": jitter, "intensity": random_intensity}
"""By the name that a method's `Views` has."""

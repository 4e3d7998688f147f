"""The colour part of a strong augmentation, as FixMatch's and UniMatch's users know it."""

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F


def jitter(image_CHW: Tensor, generator: torch.Generator) -> Tensor:
    """Colour jitter (p 0.8), grey (p 0.2), Gaussian blur (p 0.5); float32 in [0, 1] in and out.

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
        sigma = 0.1 + 1.9 * u[7]
        kernel = 2 * max(1, round(3 * sigma)) + 1
        image_CHW = F.gaussian_blur(image_CHW, [kernel, kernel], [sigma, sigma])
    return image_CHW.clamp(0, 1)

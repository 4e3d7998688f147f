"""The weak augmentation: random resize, crop, flip, the same for an image and its mask."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from pipeline.data.base import IGNORE_INDEX

FILL = (124, 116, 104)
"""What lies beyond the image: ImageNet's mean colour."""


@dataclass(frozen=True)
class Placement:
    """What was drawn for one image: its new size, the crop's corner, the flip."""

    height: int
    width: int
    top: int
    left: int
    flip: bool


def draw_placement(
    height: int,
    width: int,
    *,
    crop: tuple[int, int],
    scales: tuple[float, ...],
    flip: float,
    generator: torch.Generator,
) -> Placement:
    """Draws one factor of `scales`, a crop position in the resized image, and a flip."""
    drawn = torch.rand(4, generator=generator, dtype=torch.float64)
    u_scale, u_top, u_left, u_flip = drawn.tolist()
    scale = scales[int(u_scale * len(scales))]
    new_h, new_w = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (
        int(u * (max(new - side, 0) + 1))
        for u, new, side in ((u_top, new_h, crop[0]), (u_left, new_w, crop[1]))
    )
    return Placement(new_h, new_w, top, left, u_flip < flip)


def place(
    image_HWC: np.ndarray, mask_HW: np.ndarray, placement: Placement, crop: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Resizes, crops and flips; bilinear for the image, nearest neighbour for the mask.

    Returns:
      image uint8 [*crop, 3], mask uint8 [*crop] with 255 beyond the image, valid bool [*crop]:
      False beyond the image.
    """
    size = (placement.width, placement.height)
    if image_HWC.shape[:2] != (placement.height, placement.width):
        image_HWC = np.asarray(Image.fromarray(image_HWC).resize(size, Image.Resampling.BILINEAR))
        mask_HW = np.asarray(Image.fromarray(mask_HW).resize(size, Image.Resampling.NEAREST))
    rows = slice(placement.top, placement.top + crop[0])
    columns = slice(placement.left, placement.left + crop[1])
    cut, cut_mask = image_HWC[rows, columns], mask_HW[rows, columns]
    h, w = cut_mask.shape
    image = np.empty((*crop, 3), np.uint8)
    for channel, value in enumerate(FILL):  # many times faster than the three at once
        image[h:, :, channel] = image[:h, w:, channel] = value
    mask = np.full(crop, IGNORE_INDEX, np.uint8)
    valid = np.zeros(crop, bool)
    image[:h, :w], mask[:h, :w], valid[:h, :w] = cut, cut_mask, True
    if placement.flip:
        image, mask, valid = image[:, ::-1], mask[:, ::-1], valid[:, ::-1]
    return image, mask, valid

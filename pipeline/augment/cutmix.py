"""CutMix: the paper's strong augmentation, boxes of one image pasted into another.

Dimensions beside the usual ones: B boxes of an image.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pipeline.typed import ConfigError, at_least, within
from pipeline.waiting import sent


@dataclass(frozen=True)
class CutMixConfig:
    """Which boxes are pasted, and from where (section 4.1)."""

    num_boxes: int = 3
    ratio: tuple[float, float] = (0.25, 0.5)
    overlap: Literal["union", "xor"] = "union"
    prob: float = 1.0
    """Share of the images that are mixed."""
    partner: Literal["next", "drawn"] = "next"
    """The next image of the batch, or one drawn for it beside the batch."""

    def check(self, key: str) -> None:
        """There are boxes, and their share of the area is a share."""
        within(key, "prob", self.prob, 0.0, 1.0)
        at_least(key, "num_boxes", self.num_boxes, 1)
        low, high = self.ratio
        if not 0 < low <= high <= 1:
            raise ConfigError(
                f"{key}.ratio: {list(self.ratio)}; expected [least, greatest], "
                "more than 0 and at most 1"
            )


def cutmix_mask(
    num: int,
    height: int,
    width: int,
    *,
    num_boxes: int = 3,
    ratio: tuple[float, float] = (0.25, 0.5),
    overlap: Literal["union", "xor"] = "union",
    generator: torch.Generator,
) -> Tensor:
    """Random boxes, of random shape, wholly inside the image (docs/paper.md, reading 14).

    Args:
      ratio: least and greatest share of the image's area that the boxes of one image have
        together; each box draws its own share and takes 1 / num_boxes of it.
      overlap: "union" of the boxes, or "xor": only what lies under an odd number of them.

    Returns:
      bool [N, H, W] on the generator's device, True where the partner's pixel is taken.
    """
    low, high = ratio
    share_NB, shape_NB, down_NB, across_NB = torch.rand(
        4, num, num_boxes, generator=generator, device=generator.device
    )
    area_NB = low + (high - low) * share_NB
    tall_NB = area_NB**shape_NB
    scale = math.sqrt(1 / num_boxes)
    rows_NBH = _interval(scale * tall_NB, down_NB, height)
    columns_NBW = _interval(scale * area_NB / tall_NB, across_NB, width)
    count_NHW = (rows_NBH[..., :, None] & columns_NBW[..., None, :]).sum(dim=1)
    return count_NHW > 0 if overlap == "union" else count_NHW % 2 == 1


class CutMix:
    """The boxes of one batch, pasted alike into its images, labels and confidences."""

    def __init__(
        self,
        config: CutMixConfig,
        num: int,
        size: torch.Size,
        *,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        box_NHW = cutmix_mask(
            num,
            *size,
            num_boxes=config.num_boxes,
            ratio=config.ratio,
            overlap=config.overlap,
            generator=generator,
        )
        if config.prob < 1:
            mixed_N = torch.rand(num, generator=generator) < config.prob
            box_NHW &= mixed_N[:, None, None]
        self.box_NHW = sent(box_NHW, device)
        self.drawn_partners = config.partner == "drawn"

    def __call__(self, value: Tensor) -> Tensor:
        """Mixes [N, ..., H, W]; drawn partners are the second half of [2 N, ..., H, W]."""
        own, partner = value.chunk(2) if self.drawn_partners else (value, value.roll(-1, dims=0))
        return mix(own, partner, self.box_NHW)


def mix(own: Tensor, partner: Tensor, mask_NHW: Tensor) -> Tensor:
    """The partner's pixels where the mask is True, else one's own; all are [N, ..., H, W]."""
    between = [1] * (own.ndim - mask_NHW.ndim)
    mask = mask_NHW.reshape(mask_NHW.shape[0], *between, *mask_NHW.shape[1:])
    return torch.where(mask, partner, own)


def _interval(share_NB: Tensor, place_NB: Tensor, size: int) -> Tensor:
    """Bool [N, B, size]: True over a share of the size, at a place from 0 (start) to 1 (end)."""
    length_NB = (share_NB * size).round()
    start_NB = (place_NB * (size - length_NB)).round()
    pixel = torch.arange(size, device=share_NB.device)
    return (pixel >= start_NB[..., None]) & (pixel < (start_NB + length_NB)[..., None])

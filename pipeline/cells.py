"""Labels, and whatever else pixels have, where a network's feature cells lie."""

import torch
from torch import Tensor

from pipeline.data.base import IGNORE_INDEX


def at_cells(value_NHW: Tensor, size: torch.Size, *, align_corners: bool) -> Tensor:
    """The values of those pixels that lie where feature cells do: [N, *size].

    Args:
      size: rows and columns of the features.
      align_corners: whether the network's upsampling puts the first and the last cell on the
        image's border, or each in the middle of its share of the image.
    """
    index = [
        cell_positions(cells, pixels, align_corners=align_corners).to(value_NHW.device)
        for cells, pixels in zip(size, value_NHW.shape[-2:], strict=True)
    ]
    return value_NHW[:, index[0][:, None], index[1]]


def cell_positions(num_cells: int, num_pixels: int, *, align_corners: bool) -> Tensor:
    """Int64 [num_cells]: the pixel nearest to each cell's place, along one side."""
    cell = torch.arange(num_cells, dtype=torch.float64)
    if align_corners:
        return (cell * (num_pixels - 1) / max(num_cells - 1, 1)).round().long()
    return ((cell + 0.5) * num_pixels / num_cells).floor().long()


def cells_of(
    feature_NDHW: Tensor, label_NHW: Tensor, *of_pixels_NHW: Tensor, align_corners: bool
) -> tuple[Tensor, ...]:
    """The cells that have a label: their features [P, D], labels [P] and what else pixels have [P].

    Args:
      label_NHW: of the images; 255 for a pixel that does not count.
    """
    values = [
        at_cells(value, feature_NDHW.shape[-2:], align_corners=align_corners)
        for value in (label_NHW, *of_pixels_NHW)
    ]
    counted_NHW = values[0] != IGNORE_INDEX
    return (feature_NDHW.movedim(1, -1)[counted_NHW], *(value[counted_NHW] for value in values))

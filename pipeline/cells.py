"""Labels, and whatever else pixels have, where a network's feature cells lie."""

from functools import cache

import torch
from torch import Tensor


def at_cells(value_NHW: Tensor, size: torch.Size, *, align_corners: bool) -> Tensor:
    """The values of those pixels that lie where feature cells do: [N, *size].

    Args:
      value_NHW: dimensions between images and rows stay as they are.
      size: rows and columns of the features.
      align_corners: whether the network's upsampling puts the first and the last cell on the
        image's border, or each in the middle of its share of the image.
    """
    rows, columns = (
        cell_positions(cells, pixels, value_NHW.device, align_corners=align_corners)
        for cells, pixels in zip(size, value_NHW.shape[-2:], strict=True)
    )
    return value_NHW[..., rows[:, None], columns]


@cache
def cell_positions(
    num_cells: int, num_pixels: int, device: torch.device, *, align_corners: bool
) -> Tensor:
    """Int64 [num_cells]: the pixel nearest to each cell's place, along one side.

    Kept, since to bring it to a GPU is to wait for one.
    """
    with torch.inference_mode(False):  # it may be kept for a training
        cell = torch.arange(num_cells, dtype=torch.float64)
        if align_corners:
            cell = (cell * (num_pixels - 1) / max(num_cells - 1, 1)).round()
        else:
            cell = ((cell + 0.5) * num_pixels / num_cells).floor()
        return cell.long().to(device)


def cells_of(
    feature_NDHW: Tensor, label_NHW: Tensor, *of_cells_NHW: Tensor, align_corners: bool
) -> tuple[Tensor, ...]:
    """All cells: their features [P, D], labels [P] and what else they have [P].

    Args:
      label_NHW: of the images' pixels; 255 for one that does not count.
    """
    label_NHW = at_cells(label_NHW, feature_NDHW.shape[-2:], align_corners=align_corners)
    values = (feature_NDHW.movedim(1, -1), label_NHW, *of_cells_NHW)
    return tuple(value.flatten(0, 2) for value in values)

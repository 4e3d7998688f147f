"""Geometric warping by a spline through moved points (ADS-SemiSeg's DGW, arXiv:2203.02792).

A point is (row, column) in pixels; K points. The same warp is laid on images, predictions and
masks, so that they stay in register.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.typed import at_least


@dataclass(frozen=True)
class WarpConfig:
    """Which points move, and how far: one in each block of the image; the corners stay."""

    blocks: int = 3
    """Of each side."""
    spread: float = 0.1
    """Standard deviation of a point from the middle of its block, in blocks."""
    reach: float = 0.2
    """That of its way from there."""

    def check(self, key: str) -> None:
        """There are points; deviations are not negative."""
        at_least(key, "blocks", self.blocks, 1)
        at_least(key, "spread", self.spread, 0)
        at_least(key, "reach", self.reach, 0)


def draw_points(
    size: torch.Size, config: WarpConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Where K points are, and where they move to.

    Returns:
      two float64 [K, 2]; the four corners first, which do not move.
    """
    zero, last_2 = torch.zeros(()), torch.tensor(size, dtype=torch.float64) - 1
    block_2 = torch.tensor(size, dtype=torch.float64) / config.blocks
    number = torch.arange(config.blocks, dtype=torch.float64)
    middle_K2 = (torch.cartesian_prod(number, number).reshape(-1, 2) + 0.5) * block_2
    way_K2, place_K2 = (
        torch.randn(2, *middle_K2.shape, generator=generator, dtype=torch.float64) * block_2
    )
    source_K2 = (middle_K2 + config.spread * place_K2).clamp(zero, last_2)
    moved_K2 = (source_K2 + config.reach * way_K2).clamp(zero, last_2)
    end = torch.tensor([0.0, 1.0], dtype=torch.float64)
    corner_42 = torch.cartesian_prod(end, end) * last_2
    return torch.cat([corner_42, source_K2]), torch.cat([corner_42, moved_K2])


def sampling_grid(source_K2: Tensor, moved_K2: Tensor, size: torch.Size) -> Tensor:
    """For each pixel of the warped image, the place where it was before.

    The spline f(p) = p + a + A p + sum of w_k |p - moved_k|, of order 1 as in the paper's code,
    with f(moved_k) = source_k, sum of w_k = 0 and sum of w_k moved_k = 0.

    Args:
      source_K2, moved_K2: float64, not all on one line. Where moved ones meet, as one at the border
        may meet a corner, the spline passes through the mean of their sources.

    Returns:
      float64 [H, W, 2], (column, row) from -1 to 1 between the centres of the outermost pixels, as
      `grid_sample` has it with `align_corners`.
    """
    # In float64 throughout: an autocast would take float32 products down to bfloat16.
    affine_K3 = F.pad(moved_K2, (0, 1), value=1.0)
    distance_KK = torch.linalg.vector_norm(moved_K2[:, None] - moved_K2, dim=2)
    top = torch.cat([distance_KK, affine_K3], dim=1)
    system = torch.cat([top, F.pad(affine_K3.T, (0, 3))])
    wanted = F.pad(source_K2 - moved_K2, (0, 0, 0, 3))
    solution = torch.linalg.lstsq(system, wanted, driver="gelsd").solution
    row_H, column_W = (torch.arange(side, dtype=torch.float64) for side in size)
    place_HW2 = torch.stack(torch.meshgrid(row_H, column_W, indexing="ij"), dim=2)
    distance_HWK = torch.hypot(
        row_H[:, None, None] - moved_K2[:, 0], column_W[:, None] - moved_K2[:, 1]
    )
    terms = torch.cat([distance_HWK, F.pad(place_HW2, (0, 1), value=1.0)], dim=2)
    before_HW2 = place_HW2 + terms @ solution
    last_2 = torch.tensor(size, dtype=torch.float64) - 1
    return (2 * before_HW2 / last_2 - 1).flip(2)


@torch.no_grad()
def warp(value_NDHW: Tensor, grid_HW2: Tensor) -> Tensor:
    """The value of each pixel's place in the grid, bilinear; 0 beyond the border; without graph.

    Args:
      grid_HW2: the same for all images.

    Returns:
      float32 [N, D, H, W].
    """
    grid_HW2 = grid_HW2.float().to(value_NDHW.device)
    grid_NHW2 = grid_HW2.expand(len(value_NDHW), -1, -1, -1)
    return F.grid_sample(value_NDHW.float(), grid_NHW2, align_corners=True)


def warp_mask(mask_NHW: Tensor, grid_HW2: Tensor) -> Tensor:
    """Bool [N, H, W]: True where all that a pixel is mixed from is True, and within the image."""
    return warp(mask_NHW[:, None].float(), grid_HW2).squeeze(1) > 0.99

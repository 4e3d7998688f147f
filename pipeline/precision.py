"""The precision that losses are computed in."""

import torch
from torch import Tensor


def wide(value: Tensor) -> Tensor:
    """`value` as float32, or as it is where it is wider."""
    return value.to(torch.promote_types(value.dtype, torch.float32))

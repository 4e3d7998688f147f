"""Rows that count, without waiting for a GPU.

To choose rows by a mask is to wait: the host has to know how many there are. With CUDA rows that do
not count stay, and have the label 255. On a CPU nobody waits, and fewer rows are less work: there,
and on other devices, they are dropped.
"""

import torch
from torch import Tensor

from pipeline.data.base import IGNORE_INDEX


def waits(device: torch.device) -> bool:
    """Whether what waits for results there costs more than rows that do not count."""
    return device.type == "cuda"


def keep(
    counted: Tensor, label: Tensor, *values: Tensor, most: int | None = None
) -> tuple[Tensor, ...]:
    """The labels of what counts, and its values.

    Args:
      counted: bool, of any shape.
      label: int64, of that shape; what already is 255 must not count.
      values: of that shape, with further dimensions or without.
      most: how many can count, at most.

    Returns:
      labels [P] and values [P, ...], in order. With CUDA of all, and 255 is the label of what does
      not count; where that is more than `most`, of so many, what counts first. Else of what counts.
    """
    if not waits(label.device):
        return tuple(value[counted] for value in (label, *values))
    label = label.masked_fill(~counted, IGNORE_INDEX)
    rows = [value.flatten(0, counted.ndim - 1) for value in (label, *values)]
    if most is not None and most < len(rows[0]):
        first_P = (~counted).flatten().byte().argsort(stable=True)[:most]
        rows = [value[first_P] for value in rows]
    return tuple(rows)


def counts(value: Tensor, number: int) -> Tensor:
    """How often each of 0..number-1 is there: int64 [number]. Other values are not counted."""
    value_P = value.flatten()
    value_P = value_P.where((value_P >= 0) & (value_P < number), number)
    if not waits(value.device):
        return value_P.bincount(minlength=number + 1)[:number]
    return value_P.new_zeros(number + 1).scatter_add_(0, value_P, torch.ones_like(value_P))[:number]


def sent(value: Tensor, device: torch.device | str) -> Tensor:
    """What was made on the CPU, on a device."""
    if torch.device(device).type == "cuda" and value.device.type == "cpu":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)

"""Weights that grow in the course of a training."""

import math


def sigmoid_ramp(progress: float, length: float) -> float:
    """exp(-5 (1 - p / length)^2), from 0.0067 at the beginning to 1 (Laine and Aila, ICLR 2017).

    Args:
      progress: share of training done.
      length: share of training that the ramp takes; 0 for none.
    """
    if progress >= length:
        return 1.0
    return math.exp(-5 * (1 - progress / length) ** 2)


def cosine_ramp(progress: float, length: float) -> float:
    """(1 - cos(pi p / length)) / 2, from 0 at the beginning to 1; 1 where `length` is 0."""
    if progress >= length:
        return 1.0
    return (1 - math.cos(math.pi * progress / length)) / 2


def linear_ramp(progress: float, first: float, last: float) -> float:
    """From `first` at the beginning to `last` at the end of training."""
    return first + (last - first) * progress

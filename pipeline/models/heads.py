"""Heads beside the classifier."""

from torch import nn


class ProjectionHead(nn.Sequential):
    """The paper's Conv-ReLU-Dropout-Conv: features to the space of the anchors (section 4.1)."""

    def __init__(self, inputs: int, dim: int, *, norm: bool = False) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, padding=1),
            *([nn.BatchNorm2d(inputs)] if norm else []),
            nn.ReLU(inplace=True),
            nn.Dropout2d(0.1),
            nn.Conv2d(inputs, dim, 1),
        )

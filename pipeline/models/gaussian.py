"""What makes a pixel's representation a Gaussian (PRCL, Xie et al., AAAI 2023): two heads."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.deeplab import DeepLabV3Plus, conv_norm_relu, initialise
from pipeline.precision import wide
from pipeline.processes import spread

LEAST = 1e-6
"""What the exponential of a head's output is raised by, so that no variance is 0."""


class FusedOutput(NamedTuple):
    """What a network says, and what its decoder gets."""

    logits: Tensor
    """[N, C, H, W], at the image's size."""
    coarse: Tensor
    """[N, C, h, w], the same logits before they are upsampled."""
    fused: Tensor
    """[N, D, h, w]: the ASPP's output beside low-level features."""


class Fused(nn.Module):
    """A segmentation network that shows what its decoder gets."""

    def __init__(self, network: DeepLabV3Plus) -> None:
        super().__init__()
        self.network = network

    def forward(self, image_NCHW: Tensor) -> FusedOutput:
        """The network's own logits, and where they come from."""
        return spread(self.whole, image_NCHW)

    def whole(self, image_NCHW: Tensor) -> FusedOutput:
        """The same, of all images in this process."""
        network = self.network
        low, high = network.trunk(image_NCHW)
        fused = network.fuse(network.aspp(high), low)
        coarse = network.classifier(network.decoder(fused))
        return FusedOutput(network.upsample(coarse, image_NCHW.shape[-2:]), coarse, fused)


class MeanHead(nn.Sequential):
    """Conv-BN-ReLU-Conv: features to the means of Gaussians."""

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__(*conv_norm_relu(inputs, dim, kernel=3), nn.Conv2d(dim, dim, 1))
        initialise(self)


class VarianceHead(nn.Module):
    """Linear-BN-ReLU-Linear-BN, pixel by pixel: features to the variances of Gaussians.

    Each row of a weight counts by its direction alone. The last norm has one scale and one shift
    for all dimensions, and a sigmoid ends it.
    """

    def __init__(self, inputs: int, dim: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, dim, 1, bias=False)
        self.norm = nn.BatchNorm2d(dim)
        self.second = nn.Conv2d(dim, dim, 1, bias=False)
        self.standard = nn.BatchNorm2d(dim, affine=False)
        self.scale = nn.Parameter(torch.ones(1))
        self.shift = nn.Parameter(torch.zeros(1))
        initialise(self)

    def forward(self, feature_NDHW: Tensor) -> Tensor:
        """Float32 or wider, from about `LEAST` to 1."""
        hidden = F.conv2d(feature_NDHW, F.normalize(self.first.weight, dim=1))
        hidden = self.norm(hidden).relu()
        value = self.standard(F.conv2d(hidden, F.normalize(self.second.weight, dim=1)))
        value = self.scale * wide(value) + self.shift
        return torch.logaddexp(value, value.new_tensor(math.log(LEAST))).sigmoid()

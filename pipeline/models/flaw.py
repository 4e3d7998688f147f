"""GCT's flaw detector: where a prediction is wrong."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HalfInstanceNorm(nn.Module):
    """Batch norm of one half of the channels, instance norm of the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.batch = nn.BatchNorm2d(self.half)
        self.instance = nn.InstanceNorm2d(channels - self.half)

    def forward(self, value_NDHW: Tensor) -> Tensor:
        """Of the same shape."""
        first, second = value_NDHW.tensor_split([self.half], dim=1)
        return torch.cat([self.batch(first), self.instance(second)], dim=1)


class FlawDetector(nn.Module):
    """From an image and a prediction of it to a map of flaws, about 0 where it is right.

    So many blocks at strides 2, 4 and so on, and a last convolution at twice the last stride, whose
    output is upsampled. Images have to be larger than that.
    """

    def __init__(self, num_classes: int, width: int, blocks: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3 + num_classes
        for number in range(blocks):
            outputs = width * 2**number
            layers += block(inputs, outputs, kernel=4, stride=2)
            if number > 0:
                layers += block(outputs, outputs, kernel=3, stride=1)
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, 1, 4, stride=2, padding=1))

    def forward(self, image_N3HW: Tensor, prob_NCHW: Tensor) -> Tensor:
        """[N, H, W]."""
        flaw = self.layers(torch.cat([image_N3HW, prob_NCHW], dim=1))
        size = image_N3HW.shape[-2:]
        return F.interpolate(flaw, size=size, mode="bilinear", align_corners=True).squeeze(1)


def block(inputs: int, outputs: int, *, kernel: int, stride: int) -> list[nn.Module]:
    """Convolution, norm, leaky ReLU."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=1),
        HalfInstanceNorm(outputs),
        nn.LeakyReLU(0.2, inplace=True),
    ]

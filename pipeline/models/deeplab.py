"""DeepLabV3+ (Chen et al., ECCV 2018), dense as in the semi-supervised field.

ASPP 6/12/18 with image pooling, low-level features reduced to 48 channels, two 3x3 convolutions;
no separable ones, no dropout in the ASPP, no auxiliary head.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.deeplabv3 import ASPP

from pipeline.config import NetworkConfig
from pipeline.models.backbone import Trunk, load_pretrained
from pipeline.models.heads import ProjectionHead
from pipeline.processes import spread
from pipeline.seeding import drawn_from, stream


class Output(NamedTuple):
    """What a segmentation network returns."""

    logits: Tensor
    """[N, C, H, W], at the image's size."""
    aspp: Tensor
    """[N, D, H / s, W / s]; s is `output_stride`, or less where the trunk's stages are cut."""
    decoder: Tensor
    """[N, D, H / low_level_stride, W / low_level_stride], before the classifier."""


class DeepLabV3Plus(nn.Module):
    """Any image size works; images are RGB in [0, 1]."""

    def __init__(self, config: NetworkConfig, num_classes: int) -> None:
        super().__init__()
        self.trunk = Trunk(config)
        self.pretrained = True
        """Whether all of the trunk is, if any of it."""
        self.multiple = self.trunk.multiple
        width, low, out = config.decoder_channels, config.low_level_channels, config.aspp_channels
        self.aspp = ASPP(self.trunk.out_channels, config.aspp_rates, out)
        self.aspp.project[-1] = nn.Identity()  # torchvision's dropout, which DeepLabV3+ has not
        self.low_level = conv_norm_relu(self.trunk.low_level_channels, low, kernel=1)
        self.decoder = nn.Sequential(
            conv_norm_relu(out + low, width, kernel=3), conv_norm_relu(width, width, kernel=3)
        )
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.num_classes = num_classes
        self.align_corners = config.align_corners
        for part in (self.aspp, self.low_level, self.decoder, self.classifier):
            initialise(part)

    def forward(self, image_NCHW: Tensor) -> Output:
        """Logits at the image's size, and the features that they come from."""
        return spread(self.whole, image_NCHW)

    def whole(self, image_NCHW: Tensor) -> Output:
        """The same, of all images in this process."""
        return self.decode(*self.trunk(image_NCHW), image_NCHW.shape[-2:])

    def blocks(self) -> list[nn.Module]:
        """Parts between whose ends a network's memory lies: of the trunk, and what follows it."""
        return [*self.trunk.blocks(), self.aspp, self.decoder]

    def decode(self, low: Tensor, high: Tensor, size: torch.Size) -> Output:
        """What follows the trunk; `size` is the image's."""
        aspp = self.aspp(high)
        logits, decoder = self.classify(self.fuse(aspp, low), size)
        return Output(logits, aspp, decoder)

    def fuse(self, aspp: Tensor, low: Tensor) -> Tensor:
        """What the decoder gets: the ASPP's output beside low-level features."""
        return torch.cat([self.upsample(aspp, low.shape[-2:]), self.low_level(low)], dim=1)

    def classify(self, fused: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
        """Logits and the decoder's features, of what `fuse` returned."""
        decoder = self.decoder(fused)
        padded = torch.Size(-(-side // self.multiple) * self.multiple for side in size)
        logits = self.upsample(self.classifier(decoder), padded)
        return (logits if padded == size else logits[..., : size[0], : size[1]]), decoder

    def upsample(self, value_NDHW: Tensor, size: torch.Size) -> Tensor:
        """Bilinear."""
        return F.interpolate(
            value_NDHW, size=size, mode="bilinear", align_corners=self.align_corners
        )


def conv_norm_relu(inputs: int, outputs: int, *, kernel: int) -> nn.Sequential:
    """Convolution of equal size, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def initialise(part: nn.Module) -> None:
    """He's initialisation of the convolutions; biases zero."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Projected(nn.Module):
    """A segmentation network with its projection head, so that a teacher averages both."""

    def __init__(
        self, network: DeepLabV3Plus, projection: ProjectionHead | None, source: str
    ) -> None:
        super().__init__()
        self.network = network
        self.projection = projection
        self.source = source

    def forward(self, image_NCHW: Tensor) -> Output:
        """The network's output."""
        return self.network(image_NCHW)

    def project(self, output: Output) -> Tensor:
        """Projections [N, D, h, w] of the output's features."""
        return self.projection(getattr(output, self.source))


class NetworkFactory:
    """Builds networks of one configuration, each initialised by its own name.

    Two networks of one factory share the pretrained trunk and differ in all that is drawn.
    """

    def __init__(self, config: NetworkConfig, num_classes: int, seed: int) -> None:
        self.config = config
        self.num_classes = num_classes
        self.seed = seed

    def network(self, name: str) -> DeepLabV3Plus:
        """A segmentation network whose new layers are drawn from the stream called `name`."""
        with drawn_from(self.seed, "network", name):
            network = DeepLabV3Plus(self.config, self.num_classes)
            load_pretrained(network.trunk, self.config)
        return network

    def classifier(self, name: str, inputs: int) -> nn.Conv2d:
        """A classifier of features, drawn as `network` draws its own."""
        with drawn_from(self.seed, "classifier", name):
            classifier = nn.Conv2d(inputs, self.num_classes, 1)
            initialise(classifier)
        return classifier

    def stream(self, name: str) -> torch.Generator:
        """The stream called `name` for what else a method initialises."""
        return stream(self.seed, name)

    def projection(self, name: str, source: str, dim: int, *, norm: bool = False) -> ProjectionHead:
        """A projection head for the features called `source`, drawn as `network` draws."""
        channels = {"aspp": self.config.aspp_channels, "decoder": self.config.decoder_channels}
        with drawn_from(self.seed, "projection", name):
            return ProjectionHead(channels[source], dim, norm=norm)

"""ELN's error localisation network: which pixels of a prediction are right."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.losses.unreliable import entropy
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.precision import wide


class ErrorLocalizer(nn.Module):
    """A segmentation network that sees an image beside a prediction of it.

    It takes the network over: its first convolution is replaced by one of more channels.
    """

    def __init__(self, network: DeepLabV3Plus, num_classes: int) -> None:
        """Makes one.

        Args:
          network: of one class.
          num_classes: of the predictions.
        """
        super().__init__()
        self.network = network
        widen(network.trunk.body, 3 + 1 + num_classes)
        network.pretrained = False

    def forward(self, image_N3HW: Tensor, logits_NCHW: Tensor, *, dropout: bool = True) -> Tensor:
        """Logits [N, H, W] of "this pixel is right"; the prediction gets no gradient.

        Args:
          image_N3HW: in [0, 1].
          dropout: whether what is dropped in training is dropped.
        """
        network, trunk = self.network, self.network.trunk
        drop = partial(F.dropout, training=self.training and dropout)
        logits_NCHW = wide(logits_NCHW.detach())
        doubt_N1HW = entropy(logits_NCHW.softmax(dim=1))[:, None]
        image_N3HW = (image_N3HW - trunk.mean) / trunk.std
        maps = trunk.body(torch.cat([image_N3HW, doubt_N1HW, logits_NCHW], dim=1))
        low = network.low_level(maps[trunk.low_level])
        aspp = network.upsample(drop(network.aspp(maps[-1]), 0.5), low.shape[-2:])
        first, second = network.decoder
        feature = drop(first(torch.cat([aspp, low], dim=1)), 0.5)
        score = network.classifier(drop(second(feature), 0.1))
        return network.upsample(score, image_N3HW.shape[-2:]).squeeze(1)


def widen(network: nn.Module, inputs: int) -> None:
    """Replaces the network's first convolution by a new one of so many input channels."""
    name, old = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    new = type(old)(  # of its own class, which may know its own padding
        inputs,
        old.out_channels,
        old.kernel_size,
        stride=old.stride,
        padding=old.padding,
        dilation=old.dilation,
        bias=old.bias is not None,
    )
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, new)

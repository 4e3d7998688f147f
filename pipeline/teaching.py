"""What several methods ask of their teachers, and of their parameters, alike."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch
from pipeline.config import at_least, within
from pipeline.losses.segmentation import PseudoLabel
from pipeline.unlabeled import boxes_of, labels_of, measured


@dataclass(frozen=True)
class Weighted:
    """Parameters of a method with one weight."""

    lambda_u: float = 1.0

    def check(self, key: str) -> None:
        """A weight."""
        at_least(key, "lambda_u", self.lambda_u, 0)


@dataclass(frozen=True)
class Thresholded(Weighted):
    """Parameters of a method with a threshold of confidence."""

    threshold: float = 0.95

    def check(self, key: str) -> None:
        """A weight and a probability."""
        super().check(key)
        within(key, "threshold", self.threshold, 0.0, 1.0)


class Lesson(NamedTuple):
    """Mixed images, and what each network says of the unmixed ones, mixed alike."""

    image: Tensor
    valid: Tensor
    labels: dict[str, PseudoLabel]
    measured: dict[str, Tensor]
    """For the log."""


def mixed_lesson(
    batch: Batch,
    config: CutMixConfig,
    networks: Mapping[str, nn.Module],
    image_NCHW: Tensor,
    *,
    called: str = "{}",
) -> Lesson:
    """CutMixes images and the labels that networks give to the weak views.

    Args:
      image_NCHW: what students see, mixed: the weak views or strong ones.
      called: a network's name in the log, by its own.
    """
    mixed = boxes_of(batch, config)
    valid, truth = mixed(batch.valid_u), mixed(batch.truth_u)
    labels = labels_of(networks, batch.image_u, mixed)
    found: dict[str, Tensor] = {}
    for name, label in labels.items():
        found |= measured(label, truth, valid, teacher=called.format(name))
    return Lesson(mixed(image_NCHW), valid, labels, found)

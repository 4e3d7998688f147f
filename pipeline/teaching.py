"""What several methods ask of their teachers, and of their parameters, alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.func import functional_call

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch
from pipeline.losses.segmentation import PseudoLabel
from pipeline.typed import at_least, within
from pipeline.unlabeled import boxes_of, labels_of

OTHER = {"first": "second", "second": "first"}
"""Two networks that teach each other."""


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


def mixed_lesson(
    batch: Batch,
    config: CutMixConfig,
    networks: Mapping[str, nn.Module],
    image_NCHW: Tensor,
    *,
    measure: Callable[..., None],
    called: str = "{}",
) -> Lesson:
    """CutMixes images and the labels that networks give to the weak views.

    Args:
      image_NCHW: what students see, mixed: the weak views or strong ones.
      measure: the method's, which notes for the log how right they are.
      called: a network's name there, by its own.
    """
    mixed = boxes_of(batch, config)
    valid, truth = mixed(batch.valid_u), mixed(batch.truth_u)
    labels = labels_of(networks, batch.image_u, mixed)
    for name, label in labels.items():
        measure(label, truth, valid, teacher=called.format(name))
    return Lesson(mixed(image_NCHW), valid, labels)


def frozen(module: nn.Module, *inputs: Tensor) -> Any:
    """What a module returns, with a gradient for its inputs and none for its parameters."""
    fixed = {name: value.detach() for name, value in module.named_parameters()}
    return functional_call(module, fixed, inputs)


def with_own_rate(
    groups: list[dict[str, Any]], part: nn.Module, scale: float
) -> list[dict[str, Any]]:
    """Groups of parameters, each split in two: those of a part learn at `scale` times the rate."""
    mine = {id(parameter) for parameter in part.parameters()}
    split = []
    for group in groups:
        for own in (False, True):
            params = [p for p in group["params"] if (id(p) in mine) == own]
            before = group.get("lr_scale", 1.0)
            split.append(group | {"params": params, "lr_scale": scale * before if own else before})
    return split

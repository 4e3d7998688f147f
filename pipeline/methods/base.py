"""What a method is, and how one is found.

A method is one file here with two classes: `Config`, a frozen dataclass of its parameters, and
`Method`, a `MethodBase`. The file's name is the method's name in params.yaml.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

import pipeline.methods
from pipeline.batch import Batch, Views
from pipeline.config import RecipeConfig
from pipeline.losses.segmentation import (
    PseudoLabel,
    cross_entropy,
    ohem_cross_entropy,
    supervised_loss,
)
from pipeline.models.deeplab import NetworkFactory, Output
from pipeline.typed import ConfigError, did_you_mean, from_mapping
from pipeline.unlabeled import forward_each, measured


@dataclass(frozen=True)
class Setting:
    """What a run gives to its method: networks, the labelled pixels' loss, a time to begin."""

    networks: NetworkFactory
    labeled_loss: Callable[[Tensor, Tensor], Tensor]
    """(logits [N, C, H, W], label [N, H, W]) -> scalar; plain or OHEM, as the recipe says."""
    unsupervised_from: float = 0.0
    """Share of training after which the unlabelled images join."""
    num_unlabeled: int = 0
    """Of the whole split."""


def setting_of(recipe: RecipeConfig, num_classes: int, seed: int, num_unlabeled: int) -> Setting:
    """The setting that a recipe describes."""
    loss = cross_entropy
    if recipe.labeled_loss == "ohem":
        loss = partial(
            ohem_cross_entropy,
            threshold=recipe.ohem_threshold,
            min_kept=recipe.ohem_min_kept * (recipe.batch // recipe.accumulate),
        )
    networks = NetworkFactory(recipe.network, num_classes, seed)
    return Setting(networks, loss, recipe.unsupervised_from, num_unlabeled)


class MethodBase(nn.Module):
    """A way to train a segmentation network from labelled and unlabelled images.

    All that must survive an interruption is a parameter or a buffer.
    """

    views: Views = Views(unlabeled=True)
    """What the loader must give."""

    def __init__(self, config: Any, setting: Setting) -> None:
        super().__init__()
        self.config = config
        self.num_classes = setting.networks.num_classes
        self.labeled_loss = setting.labeled_loss
        self.unsupervised_from = setting.unsupervised_from
        self.diagnostics: dict[str, Tensor] = {}
        """What is worth a line in the log of the last step: scalars and vectors, detached."""
        self.measuring = True
        """Whether this step is logged: what only the log needs may wait for one that is."""
        self.snapshot: dict[str, Tensor] = {}
        """What figures show of the last logged step: a few images' worth, detached."""

    def before_step(self, progress: float, unlabeled: Sequence[Tensor]) -> None:
        """Called before each step, for methods that train in phases.

        Args:
          progress: as in `losses`.
          unlabeled: every unlabelled image whole, float32 [1, 3, H, W] on the method's device;
            number k is the one that `Batch.index_u` calls k.
        """

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The weighted scalar terms of one step, whose sum is minimised.

        Args:
          progress: the share of training that is done, in [0, 1).
        """
        raise NotImplementedError  # abstract

    def after_backward(self, progress: float) -> None:
        """Called once `losses` has been followed back: banks, queues, prototypes."""

    def after_update(self, progress: float) -> None:
        """Called after each optimiser step, which may be of several passes: teachers."""

    def measure(
        self, taught: PseudoLabel, truth_NHW: Tensor, valid_NHW: Tensor, *, teacher: str = "teacher"
    ) -> None:
        """Notes, where this step is logged, how right a teacher's labels are and how sure."""
        if self.measuring:
            self.diagnostics |= measured(
                taught, truth_NHW, valid_NHW, num_classes=self.num_classes, teacher=teacher
            )

    def predictor(self) -> nn.Module:
        """The network that is evaluated: images in [0, 1] to `Output`."""
        raise NotImplementedError  # abstract

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Trainable parameters in groups: weight decay spares norms and biases.

        A group's `lr_scale`, if it has one, multiplies the recipe's learning rate.
        """
        trained = [p for p in self.parameters() if p.requires_grad]
        return [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]


class Seen(NamedTuple):
    """What students are shown of the unlabelled images, and what they learn about them."""

    images_NCHW: tuple[Tensor, ...]
    """Each passes every student, after the labelled images."""
    valid_NHW: Tensor
    """bool, False for padding; the same for all images."""
    target: Any
    """The method's own: what teachers say."""


class Consistency(MethodBase):
    """A method whose students learn, beside labels, what somebody says about unlabelled images.

    A subclass makes `students`, and `teachers` under the names of those whom they follow; it says
    in `observe` what is seen and in `unsupervised` what is learnt from it.
    """

    students: nn.ModuleDict
    """The first is evaluated."""

    def __init__(self, config: Any, setting: Setting) -> None:
        super().__init__(config, setting)
        self.teachers = nn.ModuleDict()
        self.joint_pass: bool = getattr(config, "joint_pass", True)
        """Whether labelled and unlabelled images pass a student together."""

    def observe(self, batch: Batch, progress: float) -> Seen:
        """The unlabelled images as students see them, and what is said of them.

        Args:
          progress: share of training done since the unlabelled images joined.
        """
        raise NotImplementedError  # abstract

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """The weighted terms of the unlabelled images, each called `unsupervised...`.

        Args:
          outputs: by student, of the labelled images and then of each of those of `seen`.
        """
        raise NotImplementedError  # abstract

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The labelled pixels' loss of all students, and the method's own terms."""
        self.diagnostics = {}
        seen = None
        if progress >= self.unsupervised_from:
            seen = self.observe(
                batch, (progress - self.unsupervised_from) / (1 - self.unsupervised_from)
            )
        images = seen.images_NCHW if seen is not None else ()
        outputs = {
            name: forward_each(student, batch.image_l, *images, together=self.joint_pass)
            for name, student in self.students.items()
        }
        logits_l = [first.logits for first, *_ in outputs.values()]
        terms = {
            "supervised": supervised_loss(logits_l, batch.label_l, pixel_loss=self.labeled_loss)
        }
        if seen is not None:
            terms |= self.unsupervised(outputs, seen)
        return terms

    def after_update(self, progress: float) -> None:
        """Each teacher follows the student of its name."""
        for name, teacher in self.teachers.items():
            teacher.follow(self.students[name])

    def predictor(self) -> nn.Module:
        """The first student."""
        return next(iter(self.students.values()))


def available() -> list[str]:
    """The names of all methods: the files of this folder."""
    files = (module.name for module in pkgutil.iter_modules(pipeline.methods.__path__))
    return sorted(name for name in files if name != "base")


def module_of(name: str, key: str) -> ModuleType:
    """The file of the method called `name`; an unknown name is a ConfigError at `key`."""
    if name not in available():
        raise ConfigError(f"{key}: no method {name!r}; {did_you_mean(name, available())}")
    return importlib.import_module(f"pipeline.methods.{name}")


def resolve(name: str, *layers: Mapping[str, Any], key: str) -> Any:
    """The method's typed parameters: its defaults, overlaid by each of `layers` in turn.

    A nested mapping is overlaid key by key.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = overlay(merged, layer)
    return from_mapping(module_of(name, key).Config, merged, key)


def overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `top` in it, mappings merged at every depth."""
    merged = dict(base)
    for name, value in top.items():
        both = isinstance(merged.get(name), Mapping) and isinstance(value, Mapping)
        merged[name] = overlay(merged[name], value) if both else value
    return merged


def build(name: str, config: Any, setting: Setting) -> MethodBase:
    """The method called `name` with its networks, initialised by the setting's seed."""
    return module_of(name, "method").Method(config, setting)

"""The sections of params.yaml, as frozen dataclasses (`pipeline.params` reads them).

Each section is one dataclass below, but for `methods`: a method's parameters are
declared beside the method (`pipeline/methods/<name>.py`, class `Config`). Every error names the
key, what was found, and what is expected.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.typed import ConfigError, at_least, reference, within

SOURCES = Path(__file__).parent / "data/sources"
"""A file for each format of data set."""


@dataclass(frozen=True)
class Draw:
    """How an embedded data set is drawn (`pipeline/data/mini.py`)."""

    size: int
    """Image height in pixels; a street image is twice as wide."""
    fine: int
    """Training images with a fine mask."""
    coarse: int
    """Training images with a coarse mask (VOC layout only; 0 for a street)."""
    val: int
    seed: int = 0

    def check(self, key: str) -> None:
        """Sizes that can be drawn."""
        at_least(key, "size", self.size, 32)
        at_least(key, "fine", self.fine, 1)
        at_least(key, "coarse", self.coarse, 0)
        at_least(key, "val", self.val, 1)


@dataclass(frozen=True)
class DatasetConfig:
    """One data set: which format it has, and where its files come from."""

    source: str
    """The file of `pipeline/data/sources/` that reads it."""
    draw: Draw | None = None
    """Draw it (embedded data sets) rather than fetch the published one."""
    folder: str | None = None
    """Folder below `$STPG_DATA` that holds it; by default the source's own name for it."""
    height: int | None = None
    """Shrink larger images to this height when preparing (masks by nearest neighbour)."""
    val_share: float = 0.2
    """Of a folder without val.txt: share of its images with masks that are drawn for validation."""
    val_seed: int = 0
    """Which ones."""

    def check(self, key: str) -> None:
        """A known format; a drawn set needs one that is drawn, drawn validation images a folder."""
        reference(f"{key}.source", self.source, source_names())
        within(key, "val_share", self.val_share, 0.01, 0.9)
        if self.source != "folder" and (self.val_share, self.val_seed) != (0.2, 0):
            raise ConfigError(
                f"{key}: val_share or val_seed with source {self.source}; expected source folder, "
                "whose validation images alone are drawn"
            )
        if self.height is not None:
            at_least(key, "height", self.height, 32)
        if self.draw is not None and self.source not in ("voc", "cityscapes"):
            raise ConfigError(
                f"{key}.draw: {self.source} data cannot be drawn; expected source voc or cityscapes"
            )
        if self.draw is not None and self.source == "cityscapes" and self.draw.coarse:
            raise ConfigError(
                f"{key}.draw.coarse: {self.draw.coarse}; expected 0: a street has fine masks only"
            )


def source_names() -> list[str]:
    """The formats of data sets, by the names of their files."""
    return sorted(path.stem for path in SOURCES.glob("[a-z]*.py"))


@dataclass(frozen=True)
class SplitConfig:
    """Which training images keep their labels."""

    dataset: str
    protocol: Literal["blender", "classic", "standard"]
    """Drawn from: all of VOC's augmented set, its finely annotated images, every training image."""
    partition: int
    """k of 1/k: ceil(N / k) images are labelled."""
    seed: int = 0
    labeled: str | None = None
    """A published list of the labelled images, below data/lists/, instead of drawing one."""
    unlabeled: str | None = None
    """Its list of unlabelled images; by default all the rest."""

    def check(self, key: str) -> None:
        """A list of unlabelled images makes sense only beside one of labelled images."""
        at_least(key, "partition", self.partition, 1)
        if self.unlabeled is not None and self.labeled is None:
            raise ConfigError(f"{key}.unlabeled: {self.unlabeled!r} without {key}.labeled")


@dataclass(frozen=True)
class NetworkConfig:
    """DeepLabV3+ (`pipeline/models/deeplab.py`) on a timm trunk."""

    trunk: str
    """A timm model name, with its weights' tag if it has one: `resnet50.tv_in1k`."""
    weights: str
    """`none`, `timm` (its hub or cache), `package:<name>`, or `file:<path below $STPG_DATA>`.

    DVC does not follow the file: give another one another name.
    """
    output_stride: Literal[8, 16, 32] = 16
    """Not of a plain ViT, whose stride is its patch."""
    trunk_stages: int = 5
    """How many of the trunk's stages are used, from the image on; DeepLabV3+ uses all. ConvNeXts
    have 4; a plain ViT has 4, quarters of its blocks."""
    low_level_stride: Literal[2, 4, 8, 14, 16] = 4
    """Stride of the features that the decoder fuses, and so of its output; a plain ViT's patch."""
    low_level_channels: int = 48
    aspp_channels: int = 256
    aspp_rates: tuple[int, ...] = (6, 12, 18)
    decoder_channels: int = 256
    align_corners: bool = True
    """Of the upsampling: true as in the field; false fits crops of whole strides (64, 128)."""

    def check(self, key: str) -> None:
        """Sizes that make a network."""
        within(key, "trunk_stages", self.trunk_stages, 3, 5)
        for name in ("low_level_channels", "aspp_channels", "decoder_channels"):
            at_least(key, name, getattr(self, name), 1)
        for i, rate in enumerate(self.aspp_rates):
            at_least(key, f"aspp_rates[{i}]", rate, 1)


@dataclass(frozen=True)
class RecipeConfig:
    """What all methods share on one data set: images, batch, length, learning rate, network."""

    crop: tuple[int, int]
    """Height and width of a training crop, in pixels."""
    batch: int
    """Labelled images a step; as many unlabelled ones."""
    steps: int
    lr: float
    network: NetworkConfig
    trunk_lr: float = 1.0
    """The trunks' learning rate by `lr`."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """The paper's SGD; AdamW learns small networks in few steps."""
    accumulate: int = 1
    """Parts of a batch that are passed one after the other: less memory, but batch statistics and
    what a method compares are of a part."""
    warm_up: int = 0
    """Steps in which the learning rate rises to `lr`, beside the polynomial decay."""
    labeled_loss: Literal["cross_entropy", "ohem"] = "cross_entropy"
    """Of the labelled pixels; the paper says cross-entropy, its code uses OHEM on Cityscapes."""
    ohem_threshold: float = 0.7
    ohem_min_kept: int = 50_000
    """Pixels kept per image at least."""
    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 1.75, 2.0)
    """Factors of the random resize of the weak augmentation."""
    flip: float = 0.5
    unsupervised_from: float = 0.0
    """Share of training after which the unlabelled images join, whatever the method."""

    def check(self, key: str) -> None:
        """A batch of one is refused: the pooled branch of the ASPP normalises over the batch."""
        if min(self.crop) < 32:
            raise ConfigError(f"{key}.crop: {list(self.crop)}; expected height and width >= 32")
        at_least(key, "batch", self.batch, 2)
        at_least(key, "accumulate", self.accumulate, 1)
        if self.batch % self.accumulate or self.batch // self.accumulate < 2:
            raise ConfigError(
                f"{key}.accumulate: {self.accumulate} parts of a batch of {self.batch}; expected "
                "parts of one size, of at least 2 images"
            )
        at_least(key, "steps", self.steps, 1)
        at_least(key, "warm_up", self.warm_up, 0)
        for name in ("flip", "ohem_threshold", "unsupervised_from"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        at_least(key, "ohem_min_kept", self.ohem_min_kept, 0)
        for name in ("lr", "trunk_lr"):
            if not getattr(self, name) > 0:
                found = getattr(self, name)
                raise ConfigError(f"{key}.{name}: {found}; expected a positive number")
        if not self.scales or min(self.scales) <= 0:
            raise ConfigError(f"{key}.scales: {list(self.scales)}; expected positive factors")


@dataclass(frozen=True)
class TrainConfig:
    """What every run of the study shares."""

    momentum: float = 0.9
    weight_decay: float = 1e-4
    """Not on norms and biases."""
    power: float = 0.9
    """Of the polynomial decay lr * (1 - step / steps) ** power."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is bf16 on CUDA that has it, fp32 elsewhere; fp16 scales the loss."""
    channels_last: bool = True
    """How images and weights lie in memory; not on MPS."""
    compile: bool = False
    """Networks by torch.compile."""
    threads: int = 2
    """Of torch on the CPU; fixed, because sums round differently with another number."""
    log_every: int = 10
    """Steps between two lines of the log."""

    def check(self, key: str) -> None:
        """Ranges of the optimiser's numbers."""
        within(key, "momentum", self.momentum, 0.0, 1.0)
        for name in ("weight_decay", "power"):
            at_least(key, name, getattr(self, name), 0)
        for name in ("threads", "log_every"):
            at_least(key, name, getattr(self, name), 1)


@dataclass(frozen=True)
class EvaluationConfig:
    """How a data set's validation images are predicted."""

    mode: Literal["whole", "sliding"]
    window: int = 800
    """Side of the square window of `sliding`, in pixels."""
    stride: float = 2 / 3
    """Step of the window, as a share of its side."""

    def check(self, key: str) -> None:
        """A window that moves."""
        at_least(key, "window", self.window, 32)
        within(key, "stride", self.stride, 0.05, 1.0)


@dataclass(frozen=True)
class RunConfig:
    """One row of the registry: a method on a split, trained once for each seed."""

    dataset: str
    split: str
    recipe: str
    method: str
    seeds: tuple[int, ...]
    set: dict[str, Any] = field(default_factory=dict)
    """The method's parameters that differ from its section under `methods`."""

    def check(self, key: str) -> None:
        """At least one seed, each once."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"{key}.seeds: {list(self.seeds)}; expected distinct seeds")


@dataclass(frozen=True)
class RuntimeConfig:
    """What changes how fast a training goes and how safely, but not what it ends in."""

    workers: int = 0
    """Processes that load data."""
    checkpoint_every: int = 100
    """Steps between two resume states."""
    processes: int = 1
    """The most that train together on one machine, each on a GPU of its own if there are any."""
    activation_checkpointing: bool = False
    """Keep the ends of a network's blocks for the backward pass, and compute the rest again."""

    def check(self, key: str) -> None:
        """Counts."""
        at_least(key, "workers", self.workers, 0)
        at_least(key, "checkpoint_every", self.checkpoint_every, 1)
        at_least(key, "processes", self.processes, 1)


@dataclass(frozen=True)
class ExaminedConfig:
    """A run that figures look into."""

    dataset: str
    """The run's own."""


SECTIONS = ("datasets", "splits", "runs")
"""Whose names are names of files, too."""


@dataclass(frozen=True)
class Params:
    """A whole study: params.yaml, resolved and checked."""

    study: str
    datasets: dict[str, DatasetConfig]
    splits: dict[str, SplitConfig]
    recipes: dict[str, RecipeConfig]
    methods: dict[str, dict[str, Any]]
    """As written: each method checks its own section (`pipeline.methods.base.resolve`)."""
    train: TrainConfig
    evaluation: dict[str, EvaluationConfig]
    runs: dict[str, RunConfig]
    runtime: RuntimeConfig = RuntimeConfig()
    examined: dict[str, ExaminedConfig] = field(default_factory=dict)
    """By run: whose features, predictions and log figures need."""
    tables: tuple[str, ...] = ()
    """Tables of paper.yaml that the study renders."""
    figures: tuple[str, ...] = ()
    """Figures of paper.yaml that the study renders."""

    def check(self, key: str) -> None:
        """Every name can be a path, and what a section refers to is there."""
        names = [(f"{s}.{name}", name) for s in SECTIONS for name in getattr(self, s)]
        for where, name in [*names, (f"study: {self.study}", self.study)]:
            if not re.fullmatch("[a-z0-9_]+", name):
                raise ConfigError(f"{where}: expected a name of a-z, 0-9 and _ only")
        for name, split in self.splits.items():
            reference(f"splits.{name}.dataset", split.dataset, self.datasets)
        for name, run in self.runs.items():
            for part in ("dataset", "split", "recipe", "method"):
                section = part + "s"
                reference(f"runs.{name}.{part}", getattr(run, part), getattr(self, section))
            reference(f"runs.{name}.dataset", run.dataset, self.evaluation, "evaluation")
            if (found := self.splits[run.split].dataset) != run.dataset:
                raise ConfigError(
                    f"runs.{name}.split: {run.split} is a split of {found}; "
                    f"expected one of {run.dataset}, the run's dataset"
                )
        if self.train.compile:
            for name, off in (("processes", 1), ("activation_checkpointing", False)):
                if (found := getattr(self.runtime, name)) != off:
                    raise ConfigError(
                        f"runtime.{name}: {found} with train.compile true; expected {off}: "
                        "they do not work together"
                    )
        if not self.examined:
            raise ConfigError(
                "examined: found nothing; expected a run at least, RUN: {dataset: ITS_DATASET}: "
                "the stage `figures` reads their folder"
            )
        for name, examined in self.examined.items():
            reference(f"examined.{name}", name, self.runs, "runs")
            if examined.dataset != (expected := self.runs[name].dataset):
                raise ConfigError(
                    f"examined.{name}.dataset: {examined.dataset}; expected {expected}, the run's"
                )

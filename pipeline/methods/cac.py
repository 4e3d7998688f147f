"""Context-aware consistency (Lai et al., CVPR 2021; arXiv:2106.14133).

One network sees two overlapping windows of an unlabelled image, in other colours: the same pixels
in other contexts. Where they overlap, the feature of the less sure view is pulled to that of the
surer one, and away from features of other classes, of this and a few earlier steps.

Deviations: both windows are of one crop and flipped alike; colours change as in FixMatch; the
projection head is that of STPG (there: two 1x1 convolutions); of the pixels that learn, at most
`queries` do in a step.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.batch import Batch, Views
from pipeline.cells import at_cells
from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.directional import directional_contrast, surer
from pipeline.losses.segmentation import pseudo_label
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output, Projected
from pipeline.typed import at_least, within
from pipeline.unlabeled import accuracy

GRID = 8
"""Windows begin and end at multiples of this many pixels and of the features' stride, so that
feature cells coincide."""


@dataclass(frozen=True)
class Config:
    """Parameters of CAC."""

    lambda_u: float = 0.1
    tau: float = 0.1
    threshold: float = 0.75
    """Confidence above which a view teaches."""
    window: float = 0.75
    """Share of each side of the crop that a window has."""
    negatives: int = 1600
    """Features kept of each view and step."""
    steps_kept: int = 2
    """Earlier steps whose features are negatives."""
    queries: int = 8192
    """Pixels of each view that learn in a step, at most."""
    dim: int = 128

    def check(self, key: str) -> None:
        """Weights, shares, numbers."""
        at_least(key, "lambda_u", self.lambda_u, 0)
        within(key, "tau", self.tau, 1e-3, 100.0)
        within(key, "threshold", self.threshold, 0.0, 1.0)
        within(key, "window", self.window, 0.5, 1.0)
        for name in ("negatives", "queries", "dim"):
            at_least(key, name, getattr(self, name), 1)
        at_least(key, "steps_kept", self.steps_kept, 0)


class Windows(NamedTuple):
    """Two windows of the same crops."""

    corners: tuple[tuple[int, int], tuple[int, int]]
    """Their upper left corners, in pixels."""
    height: int
    width: int
    valid: Tensor
    """Of the whole crops, as `truth`."""
    truth: Tensor
    generator: torch.Generator


class Method(Consistency):
    """One network with a projection head, and features of the last steps."""

    views = Views(unlabeled=True, strong=2)

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        networks = setting.networks
        head = networks.projection("student", "decoder", config.dim)
        student = Projected(networks.network("student"), head, "decoder")
        self.students = nn.ModuleDict({"student": student})
        self.align_corners = networks.config.align_corners
        self.stride = networks.config.low_level_stride
        shape = (config.steps_kept, 2 * config.negatives)
        self.register_buffer("kept_SMD", torch.zeros(*shape, config.dim))
        self.register_buffer("kept_label_SM", torch.full(shape, IGNORE_INDEX))
        self.observed: tuple[Tensor, Tensor] | None = None
        """This step's features and classes, until `after_backward`."""

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Two windows, each of its own strong view."""
        grid = math.lcm(GRID, self.stride)
        height, width = (
            max(grid, math.floor(round(self.config.window * side, 6) / grid) * grid)
            for side in batch.image_u.shape[-2:]
        )
        draw = batch.stream("windows")
        u = torch.rand(4, generator=draw, dtype=torch.float64).tolist()
        room = [
            (side - size) // grid + 1
            for side, size in zip(batch.image_u.shape[-2:], (height, width), strict=True)
        ]
        corners = tuple(
            tuple(int(u[2 * i + k] * room[k]) * grid for k in range(2)) for i in range(2)
        )
        images = tuple(
            view[..., top : top + height, left : left + width].contiguous()
            for view, (top, left) in zip(batch.strong_u, corners, strict=True)
        )
        windows = Windows(corners, height, width, batch.valid_u, batch.truth_u, draw)
        return Seen(images, batch.valid_u, windows)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Directional contrast of both views."""
        config, windows = self.config, seen.target
        _, *both = outputs["student"]
        cells = list(self.cells(both, windows))
        self.observed = self.negatives(cells, windows)
        negative_MD = torch.cat([self.kept_SMD.flatten(0, 1), self.observed[0]])
        label_M = torch.cat([self.kept_label_SM.flatten(), self.observed[1]])
        overlaps = self.overlaps(cells, windows)
        terms = {}
        for i, (mine, other) in enumerate((overlaps, overlaps[::-1])):
            learns = surer(mine.confidence, other.confidence, threshold=config.threshold)
            learns &= mine.label != IGNORE_INDEX
            index = learns.nonzero().flatten()
            if len(index) > config.queries:
                chosen = torch.randperm(len(index), generator=windows.generator)
                index = index[chosen[: config.queries].to(index.device)]
            self.diagnostics[f"share_learning{i}"] = learns.float().mean()
            loss = directional_contrast(
                mine.feature[index],
                other.feature[index],
                mine.label[index],
                negative_MD,
                label_M,
                tau=config.tau,
            )
            terms[f"unsupervised_view{i}"] = config.lambda_u * loss
        return terms

    def cells(self, outputs: list[Output], windows: Windows) -> Iterator["Cells"]:
        """Features, classes and confidences of each view's cells: [N, h, w(, D)]."""
        for output, (top, left) in zip(outputs, windows.corners, strict=True):
            feature = self.students["student"].project(output)
            part = (
                ...,
                slice(top, top + windows.height),
                slice(left, left + windows.width),
            )
            taught, valid = pseudo_label(output.logits), windows.valid[part]
            if self.measuring:
                right = accuracy(taught.label_NHW, windows.truth[part], valid)
                self.diagnostics["accuracy"] = right
            label = taught.label_NHW.masked_fill(~valid, IGNORE_INDEX)
            size = feature.shape[-2:]
            yield Cells(
                feature.movedim(1, -1),
                at_cells(label, size, align_corners=self.align_corners),
                at_cells(taught.confidence_NHW, size, align_corners=self.align_corners),
            )

    def negatives(self, cells: list["Cells"], windows: Windows) -> tuple[Tensor, Tensor]:
        """Random cells of both views, as many of each whatever there are."""
        features, labels = [], []
        for view in cells:
            label = view.label.flatten()
            drawn = torch.rand(self.config.negatives, generator=windows.generator)
            index = (drawn * len(label)).long().to(label.device)
            features.append(view.feature.flatten(0, 2)[index].detach().float())
            labels.append(label[index])
        return torch.cat(features), torch.cat(labels)

    def overlaps(self, cells: list["Cells"], windows: Windows) -> list["Cells"]:
        """The cells that both views have, flat and in the same order."""
        stride = self.stride
        first, second = windows.corners
        size = [
            (side - abs(a - b)) // stride
            for side, a, b in zip((windows.height, windows.width), first, second, strict=True)
        ]
        parts = []
        for view, own, other in ((cells[0], first, second), (cells[1], second, first)):
            top, left = (max(0, b - a) // stride for a, b in zip(own, other, strict=True))
            rows, columns = slice(top, top + size[0]), slice(left, left + size[1])
            parts.append(Cells(*(value[:, rows, columns].flatten(0, 2) for value in view)))
        return parts

    def after_backward(self, progress: float) -> None:
        """The features push out the oldest ones."""
        if self.observed is not None and self.config.steps_kept:
            feature, label = self.observed
            self.kept_SMD.copy_(torch.cat([self.kept_SMD[1:], feature[None]]))
            self.kept_label_SM.copy_(torch.cat([self.kept_label_SM[1:], label[None]]))
        self.observed = None

    def predictor(self) -> nn.Module:
        """The network without its head."""
        return self.students["student"].network


class Cells(NamedTuple):
    """What a view says at its feature cells."""

    feature: Tensor
    label: Tensor
    """255 for padding."""
    confidence: Tensor

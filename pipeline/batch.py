"""What the data gives and methods take."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from pipeline.processes import gathered, world
from pipeline.seeding import derive_seed, stream

IMAGES_ALONG = {
    **dict.fromkeys(("image_l", "label_l", "image_u", "valid_u", "truth_u", "index_u"), 0),
    "strong_u": 1,
}
"""The dimension of a batch's tensors along which its images lie."""


@dataclass(frozen=True)
class Views:
    """What a method wants of a batch beside its labelled images."""

    unlabeled: bool = False
    """Weakly augmented unlabelled images."""
    partners: bool = False
    """As many again, drawn independently: what CutMix pastes (`partner: drawn`)."""
    strong: int = 0
    """Copies of each of them with other colours, same geometry."""
    strong_kind: Literal["jitter", "intensity"] = "jitter"
    """Which function of `pipeline.augment.photometric` makes them."""


@dataclass(frozen=True)
class Batch:
    """One step's images, in [0, 1], RGB, before the network's own normalisation.

    `truth_u` is for measuring pseudo-labels, never for a loss: it is 255 wherever the data set
    has no label.
    """

    image_l: Tensor
    """float32 [N, 3, H, W], weakly augmented."""
    label_l: Tensor
    """int64 [N, H, W]; 255 = ignore, padding included."""
    image_u: Tensor
    """float32 [M, 3, H, W], weakly augmented: M = N, or 2 N with partners, which follow; 0 if the
    method has no use for them."""
    strong_u: Tensor
    """float32 [S, M, 3, H, W]: the S strong copies of `image_u`."""
    valid_u: Tensor
    """bool [M, H, W]: False where the crop went beyond the image."""
    truth_u: Tensor
    """int64 [M, H, W]."""
    index_u: Tensor
    """int64 [M]: which of the split's unlabelled images each one is."""
    seed: int
    """This step's own, for what the method itself draws."""

    def stream(self, name: str) -> torch.Generator:
        """A fresh CPU generator of this step, by name."""
        return stream(self.seed, name)

    def of_all_processes(self, memory_format: torch.memory_format) -> "Batch":
        """The batch of which each process has loaded a share of the same size."""
        return self if world() == 1 else self.along_images(gathered).laid_out(memory_format)

    def parts(self, number: int, memory_format: torch.memory_format) -> list["Batch"]:
        """The batch in so many parts of one size, each with a seed of its own."""
        if number == 1:
            return [self]
        return [
            replace(
                self.along_images(lambda value, dim, k=k: value.chunk(number, dim)[k]),
                seed=derive_seed(self.seed, "part", k),
            ).laid_out(memory_format)
            for k in range(number)
        ]

    def along_images(self, change: Callable[[Tensor, int], Tensor]) -> "Batch":
        """Every tensor changed along its images, and partners apart from whom they follow.

        Args:
          change: of a tensor, along a dimension.
        """
        roles = max(1, len(self.image_u) // len(self.image_l))
        changed = {}
        for name, dim in IMAGES_ALONG.items():
            of_each = getattr(self, name).unflatten(dim, (roles if name.endswith("_u") else 1, -1))
            changed[name] = change(of_each, dim + 1).flatten(dim, dim + 1)
        return replace(self, **changed)

    def pin_memory(self) -> "Batch":
        """The same in memory from which `to` copies without waiting; a DataLoader asks for it."""
        return self.moved(Tensor.pin_memory)

    def to(self, device: torch.device, memory_format: torch.memory_format) -> "Batch":
        """The same batch on `device`, images laid out in `memory_format`."""
        # From pinned memory; another device might read what is freed by then.
        pinned = device.type == "cuda"
        moved = self.moved(lambda value: value.to(device, non_blocking=pinned))
        return moved.laid_out(memory_format)

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        """The same with each of its tensors moved."""
        names = (f.name for f in fields(self) if f.name != "seed")
        return replace(self, **{name: move(getattr(self, name)) for name in names})

    def laid_out(self, memory_format: torch.memory_format) -> "Batch":
        """The same, the images that networks see in `memory_format`."""
        images = {
            name: getattr(self, name).contiguous(memory_format=memory_format)
            for name in ("image_l", "image_u")
        }
        return replace(self, **images)

"""Endless batches of labelled and unlabelled images.

Image number k of a stream is the same whatever the number of workers and wherever a run was
interrupted: its place in the order and its augmentation are drawn from named seeds.
"""

import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.augment.geometric import draw_placement, place
from pipeline.augment.photometric import KINDS
from pipeline.batch import Batch, Views
from pipeline.config import RecipeConfig
from pipeline.data.base import Item, Prepared
from pipeline.data.splits import Split
from pipeline.seeding import derive_seed, stream
from pipeline.typed import InputError

CACHED_PIXELS = 100_000_000
"""Decoded pixels that one process keeps: small data sets are decoded once."""
GRACE = 30
"""Seconds from SIGTERM to the end of a worker: a step and a saved state."""


class StepDataset(Dataset):
    """Element `step` is that step's batch, or this process's share of it."""

    def __init__(
        self,
        data: Prepared,
        split: Split,
        views: Views,
        recipe: RecipeConfig,
        seed: int,
        *,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Makes one.

        Args:
          share: (k, K), of each batch part k of K of the same size.
        """
        items = {item.id: item for item in data.train}
        self.data, self.views, self.recipe, self.seed = data, views, recipe, seed
        self.share = share
        self.labeled = [items[i] for i in split.labeled]
        self.unlabeled = [items[i] for i in unlabeled_ids(split)]
        self.read = self.cached_reader()

    def cached_reader(self) -> Callable[[Item], tuple[np.ndarray, np.ndarray]]:
        """`read_pair` with a memory."""
        largest = max(item.height * item.width for item in self.data.train)
        return lru_cache(maxsize=CACHED_PIXELS // largest)(self.read_pair)

    def __getstate__(self) -> dict[str, Any]:
        """All but the cache: where workers are spawned, not forked, they get the rest by pickle."""
        return {name: value for name, value in vars(self).items() if name != "read"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.read = self.cached_reader()

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> Batch:
        n, crop = self.recipe.batch, self.recipe.crop
        part, parts = self.share
        numbers = range(step * n, (step + 1) * n)[part * n // parts : (part + 1) * n // parts]
        labeled = [self.weak("labeled", self.labeled, k) for k in numbers]
        roles = ["unlabeled"] * self.views.unlabeled + ["partner"] * self.views.partners
        drawn = [(role, k) for role in roles for k in numbers]
        unlabeled = [self.weak(role, self.unlabeled, k) for role, k in drawn]
        recolour = KINDS[self.views.strong_kind]
        with one_thread():
            strong = [
                [
                    recolour(image, stream(self.seed, "strong", s, *place))
                    for place, (image, _, _) in zip(drawn, unlabeled, strict=True)
                ]
                for s in range(self.views.strong if drawn else 0)
            ]
        image_u = stack([u[0] for u in unlabeled], (3, *crop), torch.float32)
        return Batch(
            image_l=torch.stack([image for image, _, _ in labeled]),
            label_l=torch.stack([label for _, label, _ in labeled]),
            image_u=image_u,
            strong_u=stack([torch.stack(s) for s in strong], image_u.shape, torch.float32),
            valid_u=stack([u[2] for u in unlabeled], crop, torch.bool),
            truth_u=stack([u[1] for u in unlabeled], crop, torch.int64),
            index_u=torch.tensor(
                [self.index(role, len(self.unlabeled), k) for role, k in drawn], dtype=torch.int64
            ),
            seed=derive_seed(self.seed, "step", step),
        )

    def read_pair(self, item: Item) -> tuple[np.ndarray, np.ndarray]:
        """The decoded image and mask."""
        return self.data.read_image(item), self.data.read_mask(item)

    def weak(self, role: str, items: list[Item], number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Image `number` of an endless stream: image float [3, H, W], label int64, valid bool."""
        item = items[self.index(role, len(items), number)]
        image, mask = self.read(item)
        recipe = self.recipe
        placement = draw_placement(
            *mask.shape,
            crop=recipe.crop,
            scales=recipe.scales,
            flip=recipe.flip,
            generator=stream(self.seed, "augment", role, number),
        )
        image, mask, valid = place(image, mask, placement, recipe.crop)
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        label = torch.from_numpy(np.ascontiguousarray(mask)).long()
        return image.float() / 255, label, torch.from_numpy(np.ascontiguousarray(valid))

    def index(self, role: str, num_items: int, number: int) -> int:
        """Which image is number `number` of the stream."""
        epoch, place_in_epoch = divmod(number, num_items)
        return shuffled(self.seed, role, epoch, num_items)[place_in_epoch]


def unlabeled_ids(split: Split) -> tuple[str, ...]:
    """The unlabelled stream's images: the whole training set, if the split labels all of it."""
    return split.unlabeled or split.labeled


class WholeImages(Sequence):
    """Every unlabelled image, not augmented: float32 [1, 3, H, W] in [0, 1]."""

    def __init__(self, dataset: StepDataset, device: torch.device) -> None:
        self.dataset, self.device = dataset, device

    def __len__(self) -> int:
        return len(self.dataset.unlabeled)

    def __getitem__(self, number: int) -> Tensor:
        image, _ = self.dataset.read(self.dataset.unlabeled[number])
        image = torch.tensor(image).permute(2, 0, 1)[None]
        return image.to(self.device).float() / 255


@lru_cache(maxsize=8)
def shuffled(seed: int, role: str, epoch: int, num_items: int) -> tuple[int, ...]:
    """The order of one pass over the data."""
    order = torch.randperm(num_items, generator=stream(seed, "order", role, epoch))
    return tuple(order.tolist())


def stack(tensors: list[Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """torch.stack, also of nothing: then [0, *shape]."""
    return torch.stack(tensors) if tensors else torch.empty((0, *shape), dtype=dtype)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch with one thread, as in a worker: the mean of an image rounds differently with more."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C and schedulers signal every process of a group; the trainer stops its workers itself.

    A worker that dies first would end the trainer before its state is saved, so SIGTERM ends one
    only after a grace.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))


@contextmanager
def naming_dead_workers() -> Iterator[None]:
    """Gives the end of a worker within, as by the system's killer for want of memory, a message."""
    try:
        yield
    except RuntimeError as error:
        if not re.search(r"DataLoader worker \(pid.*(exited|killed)", str(error)):
            raise
        raise InputError(
            f"a process that loads data has ended ({str(error).splitlines()[0]}): run again to go "
            "on from the last state; if it was killed for want of memory, lower runtime.workers"
        ) from error


def batches(
    dataset: StepDataset, *, start: int, workers: int, pin: bool = False
) -> Iterator[Batch]:
    """The batches from step `start` to the recipe's last one.

    Args:
      pin: in memory from which a GPU takes them while it computes.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(start, len(dataset)),
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=leave_signals_to_the_trainer,
        generator=torch.Generator().manual_seed(derive_seed(dataset.seed, "workers")),
    )
    return iter(loader)

"""The prepared form that every data set ends in, and the class table that it carries."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from PIL import Image

from pipeline.typed import InputError

IGNORE_INDEX = 255
"""The label of a pixel that counts nowhere: void, unlabelled, padding."""


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set, in index order, with the colours that it publishes."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    """RGB, 0 to 255, one for each name."""

    def __post_init__(self) -> None:
        if len(self.names) != len(self.colors):
            raise InputError(f"{len(self.names)} class names, {len(self.colors)} colours")
        if len(set(self.names)) != len(self.names):
            raise InputError(f"a class name occurs twice in {self.names}")
        if not 2 <= len(self.names) <= IGNORE_INDEX:
            raise InputError(f"{len(self.names)} classes; expected 2 to {IGNORE_INDEX}")

    def __len__(self) -> int:
        return len(self.names)

    def subset(self, names: Iterable[str]) -> "ClassTable":
        """The same classes and colours, only `names`, in this table's order."""
        wanted = set(names)
        if unknown := wanted - set(self.names):
            raise InputError(f"unknown classes {sorted(unknown)}; known: {list(self.names)}")
        kept = [(n, c) for n, c in zip(self.names, self.colors, strict=True) if n in wanted]
        return ClassTable(tuple(n for n, _ in kept), tuple(c for _, c in kept))


def relabel(
    value_HW: np.ndarray, index_of: Mapping[int, int], *, file: Path, expected: str
) -> np.ndarray:
    """Uint8 [H, W]: published mask values (uint8) to class indices.

    Raises:
      ValueError: a value that is no key of `index_of`; names `file` and says what is `expected`.
    """
    table = np.full(256, -1, np.int16)
    table[list(index_of)] = list(index_of.values())
    mask_HW = table[value_HW]
    if (unknown_HW := mask_HW < 0).any():
        found = np.unique(value_HW[unknown_HW]).tolist()
        raise InputError(f"{file}: values {found} are {expected}")
    return mask_HW.astype(np.uint8)


@dataclass(frozen=True)
class RawSample:
    """One image as its publisher ships it, yielded by a data source to `prepare`."""

    id: str
    subset: Literal["train", "val"]
    image: Path
    """The image file, as published."""
    mask: np.ndarray | None
    """uint8 [H, W], class indices of the source's table, 255 = ignore; None where unlabelled."""
    mask_file: Path | None = None
    """Where the mask came from, for messages."""
    fine: bool = True
    """Whether the mask is of the finely annotated kind (VOC: not SBD's)."""
    problem: str | None = None
    """Why its mask cannot be used, if it cannot; then `mask` is None."""
    upright: bool = False
    """Whether the image is meant as its EXIF turns it; published masks are of what is stored."""


@dataclass(frozen=True)
class Item:
    """One prepared image: paths are relative to the prepared folder."""

    id: str
    image: str
    mask: str | None
    height: int
    width: int
    fine: bool = True


@dataclass(frozen=True)
class Prepared:
    """A prepared data set: `images/`, `masks/` and `index.json` in one folder."""

    root: Path
    name: str
    classes: ClassTable
    train: tuple[Item, ...]
    val: tuple[Item, ...]
    digest: str = ""
    """SHA-256 over the contents of all its files: what a training's identity depends on."""
    height: int | None = None
    """To which larger images were shrunk, if they were."""

    @classmethod
    def open(cls, root: Path) -> Self:
        """Reads `index.json`; raises FileNotFoundError or ValueError that says what to run."""
        path = root / "index.json"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: run `dvc repro prepare@{root.name}`")
        try:
            index = json.loads(path.read_text())
            classes = ClassTable(
                tuple(c["name"] for c in index["classes"]),
                tuple(tuple(c["color"]) for c in index["classes"]),
            )
            train, val = (tuple(Item(**item) for item in index[part]) for part in ("train", "val"))
            return cls(root, index["name"], classes, train, val, index["digest"], index["height"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: not an index of this pipeline ({type(error).__name__}: {error}); "
                f"run `dvc repro -f prepare@{root.name}`"
            ) from None

    def read_image(self, item: Item) -> np.ndarray:
        """Uint8 [H, W, 3], RGB."""
        with Image.open(self.root / item.image) as image:
            return np.asarray(image.convert("RGB"))

    def read_mask(self, item: Item) -> np.ndarray:
        """Uint8 [H, W], class indices, 255 = ignore; all 255 where the item has no mask."""
        if item.mask is None:
            return np.full((item.height, item.width), IGNORE_INDEX, np.uint8)
        with Image.open(self.root / item.mask) as mask:
            return np.asarray(mask)

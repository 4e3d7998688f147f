"""A small network, and small prepared data sets written file by file."""

from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import NetworkConfig
from pipeline.data.base import IGNORE_INDEX, ClassTable, Item, Prepared
from pipeline.data.prepare import write_index

NETWORK = NetworkConfig(
    trunk="resnet10t",
    weights="none",
    trunk_stages=3,
    low_level_channels=4,
    aspp_channels=8,
    decoder_channels=8,
)
NAMES = ("a b", "ä", "森", "$(touch x)", "a;b", "-rf", "a'b\"c", "a#b", "100%", "{a}", "*")
"""Of files: what a shell, a path or a pattern would take for something else."""
COLORS = ((40, 40, 40), (220, 60, 60), (60, 220, 60), (60, 60, 220), (220, 220, 60))


class Trap:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        """What unpickling calls."""
        return Path.touch, (self.path,)


def make_prepared(
    root: Path,
    num_train: int = 6,
    num_val: int = 2,
    num_classes: int = 3,
    num_unmasked: int = 0,
) -> Prepared:
    """A data set that can be learnt: a class is a colour, with noise.

    Images are 32 to 48 pixels high and wide, of 4 x 4 blocks; their first row is unlabelled. The
    last `num_unmasked` training images have no mask.
    """
    rng = np.random.default_rng(0)
    classes = ClassTable(tuple(f"class{c}" for c in range(num_classes)), COLORS[:num_classes])
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    items = {
        "train": [
            write_item(root, f"t{i}", rng, classes, masked=i < num_train - num_unmasked)
            for i in range(num_train)
        ],
        "val": [write_item(root, f"v{i}", rng, classes) for i in range(num_val)],
    }
    write_index(root / "index.json", root.name, classes, items)
    return Prepared.open(root)


def write_item(
    root: Path, id: str, rng: np.random.Generator, classes: ClassTable, masked: bool = True
) -> Item:
    """Writes one image, and its mask if it is to have one."""
    block = rng.integers(8, 13, size=2)
    mask = np.kron(rng.integers(len(classes), size=(4, 4)), np.ones(block)).astype(np.uint8)
    image = np.array(classes.colors)[mask] + rng.normal(0, 10, (*mask.shape, 3))
    mask[0] = IGNORE_INDEX
    item = Item(id, f"images/{id}.png", f"masks/{id}.png" if masked else None, *mask.shape)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / item.image)
    if item.mask is not None:
        Image.fromarray(mask).save(root / item.mask)
    return item

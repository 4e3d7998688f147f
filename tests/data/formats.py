"""Writes tiny data sets in the published formats, file by file."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse
from PIL import Image

VOC = "VOCdevkit/VOC2012"
SBD = "benchmark_RELEASE/dataset"

Masks = Mapping[str, np.ndarray]
"""uint8 [H, W], by id."""


def write_image(path: Path, height: int, width: int) -> None:
    """A noise image in the format of the path's suffix; the same path has the same pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(path.name.encode()))
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)


def write_palette_png(path: Path, mask: np.ndarray) -> None:
    """A mask as VOC ships it, in palette indices; the colours differ from them, and from VOC's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask).convert("P")
    image.putdata(mask.ravel().tolist())
    image.putpalette([255 - value for value in range(256) for _ in "RGB"])
    image.save(path)


def write_gray_png(path: Path, mask: np.ndarray) -> None:
    """A mask as Cityscapes ships it: one channel of labelIds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def write_sbd_mat(path: Path, mask: np.ndarray) -> None:
    """A mask as SBD ships it: the struct GTcls, its boundaries a cell of 20 sparse matrices."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((20, 1), object)
    for index in range(20):
        boundaries[index, 0] = scipy.sparse.csc_matrix(mask == index + 1)
    present = np.setdiff1d(mask, [0]).astype(np.uint8)[:, None]
    fields = {"Segmentation": mask, "Boundaries": boundaries, "CategoriesPresent": present}
    scipy.io.savemat(path, {"GTcls": fields}, do_compression=True)


def write_list(path: Path, ids: Iterable[str]) -> None:
    """A list of ids, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in ids))


def write_voc(raw: Path, *, fine: Masks, val: Masks, coarse: Masks) -> None:
    """VOC with the sets `fine` and `val`, and SBD with `coarse` as its train.txt.

    An image of `coarse` alone is in SBD's folder only.
    """
    for name, mask in (*fine.items(), *val.items()):
        write_image(raw / VOC / "JPEGImages" / f"{name}.jpg", *mask.shape)
        write_palette_png(raw / VOC / "SegmentationClass" / f"{name}.png", mask)
    for name, mask in coarse.items():
        write_image(raw / SBD / "img" / f"{name}.jpg", *mask.shape)
        write_sbd_mat(raw / SBD / "cls" / f"{name}.mat", mask)
    write_list(raw / VOC / "ImageSets/Segmentation/train.txt", fine)
    write_list(raw / VOC / "ImageSets/Segmentation/val.txt", val)
    write_list(raw / SBD / "train.txt", coarse)
    write_list(raw / SBD / "val.txt", [])


def write_cityscapes(raw: Path, *, train: Masks, val: Masks) -> None:
    """Images and labelIds masks; an id starts with its city, as in `hamburg_000000_080169`."""
    for subset, masks in (("train", train), ("val", val)):
        for name, mask in masks.items():
            place = Path(subset, name.split("_")[0], name)
            write_image(raw / "leftImg8bit" / f"{place}_leftImg8bit.png", *mask.shape)
            write_gray_png(raw / "gtFine" / f"{place}_gtFine_labelIds.png", mask)

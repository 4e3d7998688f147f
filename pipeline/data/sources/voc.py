"""PASCAL VOC 2012 with the Semantic Boundaries Dataset (SBD), as both are published.

The augmented training set is computed: SBD's images and VOC's training images, less VOC's
validation images. An image that both have masks for keeps VOC's.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.io

from pipeline.config import DatasetConfig
from pipeline.data.base import IGNORE_INDEX, ClassTable, RawSample, relabel
from pipeline.data.download import Archive, extract, fetch, link_tree
from pipeline.pictures import read_mask
from pipeline.typed import InputError

FOLDER = "VOC"

NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair",
    "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip
"""In the order of the values of the masks: background is 0, tvmonitor 20."""

DRAWN_CLASSES = (
    "background", "aeroplane", "bird", "boat", "bottle", "bus", "car", "person", "pottedplant",
    "tvmonitor",
)  # fmt: skip
"""The classes of the drawn data."""

VOC = "VOCdevkit/VOC2012"
SBD = "benchmark_RELEASE/dataset"

SOURCES = {
    VOC: (
        Archive(
            name="VOCtrainval_11-May-2012.tar",
            urls=(
                "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
                "https://dataset.bj.bcebos.com/voc/VOCtrainval_11-May-2012.tar",
                "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
                "https://data.pjreddie.com/files/VOCtrainval_11-May-2012.tar",
            ),
            algorithm="md5",
            digest="6cd6e144f989b92b3379bac3b3de84fd",
            size=1_999_639_040,
        ),
        (
            f"{VOC}/JPEGImages/*.jpg",
            f"{VOC}/SegmentationClass/*.png",
            f"{VOC}/ImageSets/Segmentation/train.txt",
            f"{VOC}/ImageSets/Segmentation/val.txt",
        ),
    ),
    SBD: (
        Archive(
            name="benchmark.tgz",
            urls=tuple(
                f"{host}/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
                for host in ("https://www2.eecs.berkeley.edu", "http://www.eecs.berkeley.edu")
            ),
            algorithm="md5",
            digest="82b4d87ceb2ed10f6038a1cba92111cb",
            size=1_419_539_633,
        ),
        (f"{SBD}/img/*.jpg", f"{SBD}/cls/*.mat", f"{SBD}/train.txt", f"{SBD}/val.txt"),
    ),
}
"""For each part its archive, and the files that are taken from it."""

PUBLISHED_SIZES = (1464, 1449, 10582)
"""The images of the sets below."""

SETS = (
    ("VOC's train.txt", "it is another year's list, or an augmented one under its name"),
    ("VOC's val.txt", "it is another year's list, or it was edited"),
    (
        "SBD and VOC's train.txt less VOC's val.txt",
        "SBD's train.txt or val.txt was replaced, by train_noval.txt for one",
    ),
)
"""What each set is made of, and what a wrong number of images in it usually means."""


def download(raw: Path, local: Path) -> dict[str, str]:
    """Fills `raw` with both parts: from folders or archives in `local`, else from the mirrors.

    Archives from the mirrors are kept in `local`.
    """
    manifest = {}
    for folder, (archive, patterns) in SOURCES.items():
        if (local / folder).is_dir():
            manifest[folder] = link_tree(local, raw, patterns)
        else:
            extract(fetch(archive, local), raw, patterns)
            manifest[archive.name] = f"{archive.algorithm}:{archive.digest}"
    return manifest


def class_table(config: DatasetConfig, raw: Path) -> ClassTable:
    """The 21 classes with the colours of VOC's palette, or those that are drawn."""
    table = ClassTable(NAMES, tuple(palette_color(value) for value in range(len(NAMES))))
    return table if config.draw is None else table.subset(DRAWN_CLASSES)


def palette_color(value: int) -> tuple[int, int, int]:
    """The RGB colour of a mask value, 0 to 255, in the palette of VOC's development kit.

    The bits of the value are dealt to red, green, blue in turn, each channel filled from its
    highest bit down.
    """
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (value >> bit & 1) << 7 - bit // 3
    return tuple(channels)


def samples(raw: Path, config: DatasetConfig) -> Iterator[RawSample]:
    """The augmented training set, then VOC's validation set; ids sorted, masks read one by one.

    Raises:
      ValueError: a list is not the published one, an image or mask that it names is missing, or a
        mask has a value that is no class.
    """
    lists = raw / VOC / "ImageSets/Segmentation"
    fine, val = _read_list(lists / "train.txt"), _read_list(lists / "val.txt")
    coarse = _read_list(raw / SBD / "train.txt") | _read_list(raw / SBD / "val.txt")
    train = {name: file for name, file in (coarse | fine).items() if name not in val}
    _check_lists(raw, fine, val, train, config)
    entries = [_locate(raw, name, train[name], "train", name in fine) for name in sorted(train)]
    entries += [_locate(raw, name, val[name], "val", fine=True) for name in sorted(val)]
    table = class_table(config, raw)
    for entry in entries:
        yield replace(entry, mask=_read_mask(entry.mask_file, table))


def _read_list(path: Path) -> dict[str, Path]:
    """The ids of a list, one a line, each with the list that it is from."""
    if not path.is_file():
        raise InputError(f"{path}: missing; expected the published folders {VOC} and {SBD}")
    return dict.fromkeys(path.read_text().split(), path)


def _check_lists(
    raw: Path,
    fine: dict[str, Path],
    val: dict[str, Path],
    train: dict[str, Path],
    config: DatasetConfig,
) -> None:
    """Raises unless the sets have the published (or drawn) sizes and share no image."""
    if shared := sorted(fine.keys() & val.keys()):
        raise InputError(
            f"{raw}: {len(shared)} ids are in VOC's train.txt and in its val.txt, {shared[0]} for "
            "one; expected none. Usually a list was edited"
        )
    sizes, draw = PUBLISHED_SIZES, config.draw
    if draw is not None:
        sizes = (draw.fine, draw.val, draw.fine + draw.coarse)
    for ids, size, (what, cause) in zip((fine, val, train), sizes, SETS, strict=True):
        if len(ids) != size:
            if draw is not None:
                cause = "`draw` was changed since the images were drawn"
            raise InputError(
                f"{raw}: {len(ids)} images in {what}; expected {size}. Usually {cause}"
            )


def _locate(
    raw: Path, name: str, listed_in: Path, subset: Literal["train", "val"], fine: bool
) -> RawSample:
    """The files of one image, its mask unread."""
    image = raw / VOC / "JPEGImages" / f"{name}.jpg"
    if not fine and not image.is_file():
        image = raw / SBD / "img" / f"{name}.jpg"
    mask = raw / VOC / "SegmentationClass" / f"{name}.png"
    if not fine:
        mask = raw / SBD / "cls" / f"{name}.mat"
    for file in (image, mask):
        if not file.is_file():
            raise InputError(
                f"{listed_in} names {name}, but {file} is missing: download the data set again"
            )
    return RawSample(name, subset, image, None, mask, fine)


def _read_mask(file: Path, table: ClassTable) -> np.ndarray:
    """Uint8 [H, W], indices of `table`, 255 = void."""
    index_of = {NAMES.index(name): index for index, name in enumerate(table.names)}
    return relabel(
        _read_mat(file)
        if file.suffix == ".mat"
        else read_mask(file, ("P",), "VOC's palette indices"),
        index_of | {IGNORE_INDEX: IGNORE_INDEX},
        file=file,
        expected=f"no classes; expected {list(index_of)} or {IGNORE_INDEX} for void",
    )


def _read_mat(file: Path) -> np.ndarray:
    """SBD's class mask, uint8 [H, W]; it marks nothing as void."""
    try:
        value_HW = scipy.io.loadmat(file, variable_names="GTcls")["GTcls"]["Segmentation"][0, 0]
    except Exception as error:  # a damaged file makes scipy raise errors of many kinds
        raise InputError(
            f"{file}: no GTcls.Segmentation can be read from it ({error!r})"
        ) from error
    if value_HW.dtype != np.uint8 or value_HW.ndim != 2:
        raise InputError(
            f"{file}: GTcls.Segmentation is {value_HW.dtype} {list(value_HW.shape)}; "
            "expected uint8 [height, width]"
        )
    return value_HW

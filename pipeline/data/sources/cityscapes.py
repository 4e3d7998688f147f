"""Cityscapes with its fine annotations, as published: leftImg8bit and gtFine.

Its licence asks for an account, so the archives come from the user's own folder or through the
official downloader, never from a mirror.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pipeline.artifacts import fresh_folder
from pipeline.config import DatasetConfig
from pipeline.data.base import IGNORE_INDEX, ClassTable, RawSample, relabel
from pipeline.data.checksums import checksum
from pipeline.data.download import extract, link_tree
from pipeline.pictures import read_mask
from pipeline.typed import InputError

FOLDER = "Cityscapes"


class Label(NamedTuple):
    """A class that is trained and evaluated."""

    id: int
    """Its value in the published labelIds masks."""
    name: str
    color: tuple[int, int, int]


LABELS = (
    Label(7, "road", (128, 64, 128)),
    Label(8, "sidewalk", (244, 35, 232)),
    Label(11, "building", (70, 70, 70)),
    Label(12, "wall", (102, 102, 156)),
    Label(13, "fence", (190, 153, 153)),
    Label(17, "pole", (153, 153, 153)),
    Label(19, "traffic light", (250, 170, 30)),
    Label(20, "traffic sign", (220, 220, 0)),
    Label(21, "vegetation", (107, 142, 35)),
    Label(22, "terrain", (152, 251, 152)),
    Label(23, "sky", (70, 130, 180)),
    Label(24, "person", (220, 20, 60)),
    Label(25, "rider", (255, 0, 0)),
    Label(26, "car", (0, 0, 142)),
    Label(27, "truck", (0, 0, 70)),
    Label(28, "bus", (0, 60, 100)),
    Label(31, "train", (0, 80, 100)),
    Label(32, "motorcycle", (0, 0, 230)),
    Label(33, "bicycle", (119, 11, 32)),
)
"""The official table, in the order of the trainIds 0 to 18. All other ids are ignored."""

MAX_ID = 33
"""The largest labelId of a mask."""

UNDRAWN_ID = 255
"""The licence plate's -1 in 8 bits. The official masks show the vehicle in its place."""

DRAWN_CLASSES = (
    "road", "sidewalk", "building", "fence", "pole", "traffic light", "traffic sign", "vegetation",
    "sky", "person", "rider", "car", "bus", "bicycle",
)  # fmt: skip
"""The classes of the drawn data."""

IMAGE, MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"

SOURCES = {
    "leftImg8bit": tuple(f"leftImg8bit/{part}/*/*{IMAGE}" for part in ("train", "val")),
    "gtFine": tuple(f"gtFine/{part}/*/*{MASK}" for part in ("train", "val")),
}
"""For each part the files that are taken from it."""

PUBLISHED_SIZES = {"train": 2975, "val": 500}
"""The images of each set."""


def archive_name(part: str) -> str:
    """The name under which a part is published."""
    return f"{part}_trainvaltest.zip"


def download(raw: Path, local: Path) -> dict[str, str]:
    """Fills `raw` from the folders or archives in `local`; missing archives are fetched into it."""
    manifest = {}
    packed = [part for part in SOURCES if not (local / part).is_dir()]
    absent = [name for name in map(archive_name, packed) if not (local / name).is_file()]
    if absent:
        _fetch(absent, local)
    for part, patterns in SOURCES.items():
        if part in packed:
            archive = local / archive_name(part)
            extract(archive, raw, patterns)
            manifest[archive.name] = f"sha256:{checksum(archive, 'sha256')}"
        else:
            manifest[part] = link_tree(local, raw, patterns)
    return manifest


def _fetch(names: list[str], local: Path) -> None:
    """Puts the archives in `local`, with the user's own account.

    Raises:
      FileNotFoundError: that cannot be done; says why, and the ways there are.
    """
    problem = _run_official_downloader(names, local)
    if problem is not None:
        files = " and ".join(names)
        raise FileNotFoundError(
            f"{files}: not in {local}, and {problem}.\n"
            "Cityscapes is free for research, with an account. Either\n"
            "  1. make one at https://www.cityscapes-dataset.com/register/\n"
            "  2. pip install cityscapesscripts\n"
            "  3. csDownload -l (in a terminal: it asks for the account and offers to store it)\n"
            "  4. run this again (it runs csDownload for the files)\n"
            f"or get {files} from that site, and put them in {local}\n"
            f"or put the extracted folders leftImg8bit and gtFine in {local}"
        )


def _run_official_downloader(names: list[str], local: Path) -> str | None:
    """Runs csDownload, which verifies what it fetches; says why it failed, None if it did not.

    It asks for an account only if none is stored, and without an answer it fails.
    """
    program = shutil.which("csDownload")
    if program is None:
        return "the official downloader, csDownload, is not installed"
    partial = fresh_folder(local / "csDownload")
    try:
        run = subprocess.run(
            [program, "-d", partial, *names],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if run.returncode != 0:
            lines = run.stderr.splitlines() or [f"exit status {run.returncode}"]
            return f"csDownload, which needs a stored account, failed: {lines[-1]}"
        for name in names:
            os.replace(partial / name, local / name)
    finally:
        shutil.rmtree(partial)
    return None


def class_table(config: DatasetConfig, raw: Path) -> ClassTable:
    """The 19 classes of the benchmark with their colours, or those that are drawn."""
    table = ClassTable(tuple(x.name for x in LABELS), tuple(x.color for x in LABELS))
    return table if config.draw is None else table.subset(DRAWN_CLASSES)


def samples(raw: Path, config: DatasetConfig) -> Iterator[RawSample]:
    """The training set, then the validation set; ids sorted, masks read one by one.

    An id is the published name up to its kind, such as `hamburg_000000_080169`.

    Raises:
      ValueError: a set has not its published size, an image or a mask lacks the other, or a mask
        has a value that is no labelId.
    """
    sizes, draw = PUBLISHED_SIZES, config.draw
    if draw is not None:
        sizes = {"train": draw.fine, "val": draw.val}
    pairs = {subset: _pairs(raw, subset, size) for subset, size in sizes.items()}
    table = class_table(config, raw)
    for subset, files in pairs.items():
        for image, mask in files:
            name = image.name.removesuffix(IMAGE)
            yield RawSample(name, subset, image, _read_mask(mask, table), mask)


def _pairs(raw: Path, subset: Literal["train", "val"], size: int) -> list[tuple[Path, Path]]:
    """The image and mask files of a set, by id; raises unless they pair up and are `size`."""
    images, masks = raw / "leftImg8bit" / subset, raw / "gtFine" / subset
    with_image, with_mask = _stems(images, IMAGE), _stems(masks, MASK)
    for stem in sorted(with_image ^ with_mask):
        pair = [images / f"{stem}{IMAGE}", masks / f"{stem}{MASK}"]
        found, missing = pair if stem in with_image else reversed(pair)
        raise InputError(f"{found} is there, but {missing} is missing: download the data set again")
    if len(with_image) != size:
        raise InputError(
            f"{raw}: {len(with_image)} images with masks in {subset}; expected {size}. Usually an "
            "archive was unpacked in part, or `draw` was changed since the images were drawn"
        )
    stems = sorted(with_image, key=os.path.basename)
    return [(images / f"{stem}{IMAGE}", masks / f"{stem}{MASK}") for stem in stems]


def _stems(folder: Path, suffix: str) -> set[str]:
    """The files CITY/ID + suffix of a folder, as CITY/ID."""
    files = folder.glob(f"*/*{suffix}")
    return {file.relative_to(folder).as_posix().removesuffix(suffix) for file in files}


def _read_mask(file: Path, table: ClassTable) -> np.ndarray:
    """Uint8 [H, W], indices of `table`; 255 where the label is none of its classes."""
    index_of = dict.fromkeys([*range(MAX_ID + 1), UNDRAWN_ID], IGNORE_INDEX)
    ids = (label.id for label in LABELS if label.name in table.names)
    return relabel(
        read_mask(file, ("L",), "labelIds"),
        index_of | {id: index for index, id in enumerate(ids)},
        file=file,
        expected=f"no labelIds; expected 0 to {MAX_ID}, or {UNDRAWN_ID}",
    )

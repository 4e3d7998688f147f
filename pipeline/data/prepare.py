"""From a source's samples to the prepared form, with every check on the way."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline.artifacts import replacing, write_json, writing_to
from pipeline.config import DatasetConfig
from pipeline.data.base import IGNORE_INDEX, ClassTable, Item, RawSample
from pipeline.data.checksums import digest_of, files_below
from pipeline.pictures import as_rgb, decode, is_plain, is_turned, upright
from pipeline.typed import InputError


def prepare(name: str, source: ModuleType, raw: Path, out: Path, config: DatasetConfig) -> None:
    """Writes `out`: `images/`, `masks/` and the `index.json` that `Prepared.open` reads.

    An image keeps its file, byte for byte, unless it is higher than `config.height` or no plain
    RGB (`pipeline.pictures.is_plain`; turned by EXIF, where that counts); then it is written as
    PNG. A bad sample leaves `out` as it was.

    Args:
      name: of the data set.
      source: a module of this package with `class_table` and `samples`.
      raw: the folder that the source's `download` filled.
      out: replaced whole.
      config: `height` is read here, the rest by the source.

    Raises:
      ValueError: a sample that is no use; the message names the file.
      OSError: `out` cannot be written.
    """
    classes = source.class_table(config, raw)
    items: dict[str, list[Item]] = {"train": [], "val": []}
    seen: set[str] = set()
    with replacing(out) as partial:
        samples = source.samples(raw, config)
        for sample in tqdm(samples, desc=f"prepare {name}", unit=" images", disable=None):
            check_id(sample, seen)
            image, changed = check_sample(sample, classes)
            with writing_to(out):
                item = write_item(sample, image, partial, changed=changed, height=config.height)
            items[sample.subset].append(item)
        if empty := [subset for subset, found in items.items() if not found]:
            raise InputError(f"{raw}: no {empty[0]} image; expected at least one train and one val")
        with writing_to(out):
            write_index(partial / "index.json", name, classes, items, config.height)


def check_id(sample: RawSample, seen: set[str]) -> None:
    """Raises ValueError unless the id is new and can name a file; adds it to `seen`."""
    if "/" in sample.id or sample.id.startswith(".") or not (sample.id and sample.id.isprintable()):
        raise InputError(
            f"{sample.image}: id {sample.id!r}; expected a file name's stem, of printable "
            "UTF-8: rename it"
        )
    if sample.id in seen:
        raise InputError(f"{sample.image}: id {sample.id!r} occurs twice; expected unique ids")
    seen.add(sample.id)


def check_sample(sample: RawSample, classes: ClassTable) -> tuple[Image.Image, bool]:
    """The decoded image, and whether it is another than its file has, made upright or plain.

    Raises ValueError unless image, mask and classes fit each other.
    """
    if sample.problem is not None:
        raise InputError(sample.problem)
    stored, mask = decode(sample.image), sample.mask
    turned = sample.upright and is_turned(stored)
    changed = turned or not is_plain(stored)
    image = upright(stored, sample.image) if turned else stored
    if changed:
        image = Image.fromarray(as_rgb(image, sample.image))
    if mask is None:
        if sample.subset == "val":
            raise InputError(f"{sample.image}: a validation image without a mask; add its mask")
        return image, changed
    mask_file = sample.mask_file or f"mask of {sample.image}"
    if mask.shape != (image.height, image.width):
        unturned = turned and mask.shape == (stored.height, stored.width)
        hint = " as its EXIF turns it: turn the mask too" if unturned else ""
        raise InputError(
            f"{mask_file}: {mask.shape[1]}x{mask.shape[0]} pixels; expected "
            f"{image.width}x{image.height}, the size of {sample.image}{hint}"
        )
    values = np.unique(mask)
    if (wrong := values[(values >= len(classes)) & (values != IGNORE_INDEX)]).size:
        raise InputError(
            f"{mask_file}: label {', '.join(map(str, wrong[:3]))}; "
            f"expected 0 to {len(classes) - 1}, or {IGNORE_INDEX} to ignore the pixel"
        )
    return image, changed


def write_item(
    sample: RawSample, image: Image.Image, folder: Path, *, changed: bool, height: int | None
) -> Item:
    """Writes image and mask below `folder`: the image's own file unless it is `changed`.

    Both are shrunk to `height` if they are higher.
    """
    mask, image_name, mask_name = sample.mask, f"images/{sample.id}", None
    for part in ("images", "masks"):
        (folder / part).mkdir(exist_ok=True)
    if height is not None and image.height > height:
        (image, mask), changed = shrink(image, mask, height), True
    if changed:
        image_name += ".png"
        image.save(folder / image_name)
    else:
        image_name += sample.image.suffix.lower()
        shutil.copyfile(sample.image, folder / image_name)
    if mask is not None:
        mask_name = f"masks/{sample.id}.png"
        Image.fromarray(mask).save(folder / mask_name)
    return Item(sample.id, image_name, mask_name, image.height, image.width, sample.fine)


def shrink(
    image: Image.Image, mask: np.ndarray | None, height: int
) -> tuple[Image.Image, np.ndarray | None]:
    """Image and mask at `height`, the width in proportion.

    A pixel of the image is the mean of its area, one of the mask is the nearest to its centre.
    """
    size = (max(1, round(image.width * height / image.height)), height)
    image = image.convert("RGB").resize(size, Image.Resampling.BOX)
    if mask is not None:
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return image, mask


def write_index(
    path: Path,
    name: str,
    classes: ClassTable,
    items: Mapping[str, Iterable[Item]],
    height: int | None = None,
) -> None:
    """Writes what `Prepared.open` reads, items sorted by id."""
    named = zip(classes.names, classes.colors, strict=True)
    index = {"name": name, "classes": [{"name": n, "color": c} for n, c in named]}
    digest = digest_of(path.parent, files_below(path.parent))
    index |= {"digest": digest, "height": height}
    for subset, found in items.items():
        index[subset] = [asdict(item) for item in sorted(found, key=attrgetter("id"))]
    write_json(path, index)

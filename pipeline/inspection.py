"""What is in a data set, and what is wrong with it, before anything trains."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.base import IGNORE_INDEX, ClassTable, RawSample
from pipeline.data.prepare import check_id, check_sample
from pipeline.pictures import decode, is_turned
from pipeline.progress import progress
from pipeline.typed import InputError, InputErrors

SIDE = 8
"""Of the grid whose brightness says what an image looks like."""
ALIKE = 3
"""Of its 64 bits so many may differ between two copies of one image."""
GREY = 4
"""Deviation of brightness below which an image looks like any other that shows nothing."""


@dataclass
class Inspection:
    """What was found in a data set."""

    classes: ClassTable
    sizes: dict[tuple[int, int], int] = field(default_factory=lambda: defaultdict(int))
    """Images by height and width."""
    images: dict[str, int] = field(default_factory=lambda: {"train": 0, "val": 0, "unlabeled": 0})
    """`train` has masks, `unlabeled` none."""
    pixels: dict[str, np.ndarray] = field(default_factory=dict)
    """int64 [C + 1] of train and val: each class's, and those that are ignored."""
    shown_in: dict[str, np.ndarray] = field(default_factory=dict)
    """int64 [C] of train and val: images with the class."""
    problems: list[str] = field(default_factory=list)
    """What `prepare` would refuse, and images that are in both subsets."""
    whole: bool = True
    """Whether all images were looked at."""
    warnings: list[str] = field(default_factory=list)
    """What may be meant so."""


def inspect(samples: Iterator[RawSample], classes: ClassTable) -> Inspection:
    """Looks at every sample, and goes on after one that is no use.

    Images of both subsets that look alike are warned of: their brightness on a grid of 8 x 8 is on
    the same side of its median in all but 3 cells; the same file in both is a problem.
    """
    found, seen = Inspection(classes), set()
    number = len(classes)
    for subset in ("train", "val"):
        found.pixels[subset] = np.zeros(number + 1, np.int64)
        found.shown_in[subset] = np.zeros(number, np.int64)
    looks: dict[str, list[tuple[Path, str, int | None]]] = {"train": [], "val": []}
    for sample in progress(every(samples, found), "inspect", unit="image"):
        try:
            check_id(sample, seen)
            image, changed = check_sample(sample, classes)
        except InputError as error:
            found.problems.append(str(error))
            continue
        found.sizes[image.height, image.width] += 1
        content = hashlib.sha256(sample.image.read_bytes()).hexdigest()
        looks[sample.subset].append((sample.image, content, look_of(image)))
        if sample.mask is None:
            found.images["unlabeled"] += 1
            continue
        if changed and may_lie_wrong(sample):
            found.warnings.append(
                f"{sample.image}: is turned by its EXIF; see that {sample.mask_file} is turned too"
            )
        found.images[sample.subset] += 1
        values = np.where(sample.mask == IGNORE_INDEX, number, sample.mask)
        counts = np.bincount(values.ravel(), minlength=number + 1)
        found.pixels[sample.subset] += counts
        found.shown_in[sample.subset] += counts[:number] > 0
    if found.whole:
        compare(looks, found)
        missing(found)
    return found


def every(samples: Iterator[RawSample], found: Inspection) -> Iterator[RawSample]:
    """The samples up to one that cannot be read, which is a problem."""
    try:
        yield from samples
    except InputError as error:
        found.problems += error.each if isinstance(error, InputErrors) else [str(error)]
        found.whole = False


def may_lie_wrong(sample: RawSample) -> bool:
    """Whether EXIF turns the image, and its mask has the size before and after."""
    stored = decode(sample.image)
    return sample.upright and is_turned(stored) and sample.mask.shape == stored.size[::-1]


def look_of(image: Image.Image) -> int | None:
    """64 bits: which cells of a grid are brighter than its median; None of plain grey."""
    small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, np.float64)
    if grey.std() < GREY:
        return None
    bits = (grey > np.median(grey)).ravel()
    return int("".join("1" if bit else "0" for bit in bits), 2)


def compare(looks: dict[str, list[tuple[Path, str, int | None]]], found: Inspection) -> None:
    """Notes training images that are, or look like, validation images."""
    train = np.array([look or 0 for _, _, look in looks["train"]], np.uint64)
    known = np.array([look is not None for _, _, look in looks["train"]], bool)
    contents = {content: path for path, content, _ in looks["train"]}
    for path, content, look in looks["val"]:
        if content in contents:
            found.problems.append(
                f"{path}: the same file as {contents[content]}, which trains; remove one"
            )
        elif look is not None and len(train):
            differing = np.bitwise_count(train ^ np.uint64(look))
            for k in np.flatnonzero(known & (differing <= ALIKE))[:1]:
                found.warnings.append(f"{path}: looks like {looks['train'][k][0]}, which trains")


def missing(found: Inspection) -> None:
    """Notes subsets without images, and classes without pixels."""
    for subset in ("train", "val"):
        if not found.images[subset]:
            found.problems.append(f"no {subset} image with a mask; expected at least one")
        if found.pixels[subset][-1] and not found.pixels[subset][1:-1].any():
            names = found.classes.names
            found.warnings.append(
                f"{subset} shows no class but {names[0]!r}, and 255, which is ignored: in a mask "
                f"of 0 and 255 write 1 for {names[1]!r}"
            )
        effect = ": one that is predicted there counts as IoU 0" if subset == "val" else ""
        for name, pixels in zip(found.classes.names, found.pixels[subset], strict=False):
            if found.images[subset] and not pixels:
                found.warnings.append(f"class {name!r}: no pixel in {subset}{effect}")


def written(found: Inspection) -> str:
    """The inspection as lines of text."""
    sizes = sorted(found.sizes.items(), key=lambda pair: -pair[1])
    shown = ", ".join(f"{w} x {h} ({n})" for (h, w), n in sizes[:5])
    more = f", and {len(sizes) - 5} other sizes" if len(sizes) > 5 else ""
    lines = [
        "images: " + ", ".join(f"{number} {name}" for name, number in found.images.items()),
        f"width x height (images): {shown or 'none'}{more}",
        "",
        f"{'class':24} {'train %':>8} {'images':>7} {'val %':>8} {'images':>7}",
    ]
    share = {
        subset: 100 * pixels[:-1] / max(pixels[:-1].sum(), 1)
        for subset, pixels in found.pixels.items()
    }
    for c, name in enumerate(found.classes.names):
        cells = [
            text
            for subset in ("train", "val")
            for text in (f"{share[subset][c]:8.2f}", f"{found.shown_in[subset][c]:7d}")
        ]
        lines.append(f"{name:24} {' '.join(cells)}")
    for subset, pixels in found.pixels.items():
        if pixels.sum():
            lines.append(f"ignored in {subset}: {100 * pixels[-1] / pixels.sum():.2f} % of pixels")
    if not found.sizes:  # a table of zeros would hide what is wrong
        lines = []
    for word, messages in (("warning", found.warnings), ("problem", found.problems)):
        lines += [f"{word}: {message}" for message in messages]
    if not found.whole:
        few = "not all images were" if found.sizes else "no image was"
        lines.append(f"{few} looked at: mend these first")
    lines.append(f"{len(found.problems)} problems, {len(found.warnings)} warnings")
    return "\n".join(lines)

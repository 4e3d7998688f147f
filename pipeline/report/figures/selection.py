"""Which pseudo-labels train Pro-Student, on images of the last logged batch: as Figure 4."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline.data.base import IGNORE_INDEX
from pipeline.report.drawing import (
    HATCH,
    canvas,
    caption,
    colored,
    exactly,
    hatch,
    legend_below,
    options_of,
    patches,
    show,
)
from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import WIDTH
from pipeline.typed import at_least

EXAMINES = True

PARTS = {"consistent": 1, "highly mismatched": 2, "low mismatched": 3}
"""By the values that the snapshot gives them."""
COLORS = np.array([(150, 205, 190), (213, 94, 0), (0, 114, 178)], np.uint8)
"""Of the parts, in their order."""
STRENGTH = np.array([0.45, 0.9, 0.9])
"""Of the colours over the picture: what is consistent is most of it, and stays in the back."""
PADDING = (200, 200, 200)
LEAST = 0.85
"""Inches: height of the words beside an image."""


@dataclass(frozen=True)
class Options:
    """Of this kind."""

    num: int = 2
    """Images."""

    def check(self, key: str) -> None:
        """There is something to show."""
        at_least(key, "num", self.num, 1)


def draw(spec: FigureSpec, results: Results) -> Figure:
    """A row an image: image, truth, what both predict, selection, shares."""
    options = options_of(Options, spec)
    (run,) = exactly(1, spec)
    examined = results.examined(run)
    batch = examined.arrays("snapshot")
    num = min(options.num, len(batch["part_NHW"]))
    images = [{name: batch[name][i] for name in batch if "_N" in name} for i in range(num)]
    height, width = batch["part_NHW"].shape[1:]
    figure, body = canvas(num * (max(0.148 * WIDTH * height / width, LEAST) + 0.1) + 0.3)
    axes = body.subplots(num, 6, squeeze=False, width_ratios=[1, 1, 1, 1, 1, 1.2])
    occurring: set[int] = set()
    for k, (row, image) in enumerate(zip(axes, images, strict=True)):
        maps = [
            np.where(image["valid_NHW"], image[f"{name}_NHW"], IGNORE_INDEX)
            for name in ("truth", "teacher", "student")
        ]
        occurring |= set(np.unique(maps).tolist())
        pictures = {
            "CutMixed image": np.moveaxis(image["image_N3HW"], 0, -1),
            "truth": colored(maps[0], examined.colors, PADDING),
            "Gen-Teacher": colored(maps[1], examined.colors, PADDING),
            "Pro-Student": colored(maps[2], examined.colors, PADDING),
            "selection": over_dimmed(image["image_N3HW"], image["part_NHW"]),
        }
        for axis, (title, picture) in zip(row, pictures.items(), strict=False):
            show(axis, picture, title if k == 0 else "")
        hatch(row[1], maps[0] == IGNORE_INDEX)
        for axis in row[2:5]:
            hatch(axis, image["valid_NHW"] == 0)
        legend_of_parts(row[5], image)
    classes = sorted(occurring - {IGNORE_INDEX})
    handles, names = patches(examined.colors[classes]), [examined.classes[c] for c in classes]
    if IGNORE_INDEX in occurring:
        grey = np.array(PADDING) / 255
        handles.append(Patch(facecolor=grey, edgecolor="black", linewidth=0, hatch=HATCH))
        names.append("padding, or no truth")
    legend_below(body, handles, names)
    about = examined.about
    shown = f"{num} images" if num > 1 else "image"
    caption(
        figure, spec,
        f"First {shown} of the last training batch (run {run}, seed {about['seed']}, step "
        f"{about['steps']}). Mismatched: Pro-Student and Gen-Teacher predict different classes;",
        "highly, if Gen-Teacher's class has the larger mismatch score. Percentages: of the pixels "
        "that are no padding; right: of those whose true class is known.",
    )  # fmt: skip
    return figure


def over_dimmed(image_3HW: np.ndarray, part_HW: np.ndarray) -> np.ndarray:
    """Uint8 [H, W, 3]: the parts in their colours over the image, grey and pale; grey padding."""
    pale_HW1 = (255 - 0.5 * (255 - image_3HW.mean(axis=0)))[..., None]
    strength_HW1 = np.append(0, STRENGTH)[part_HW][..., None]
    color_HW3 = colored(part_HW, np.concatenate([[PADDING], COLORS]))
    mixed_HW3 = strength_HW1 * color_HW3 + (1 - strength_HW1) * pale_HW1
    return np.where(part_HW[..., None] == 0, PADDING, mixed_HW3).round().astype(np.uint8)


def legend_of_parts(axis: Axes, image: dict[str, np.ndarray]) -> None:
    """What the colours mean, and how much of this image, and how right, each part is."""
    lines = [describe(name, image) for name in PARTS]
    handles = [Patch(facecolor=color / 255) for color in COLORS]
    axis.set_axis_off()
    axis.legend(
        handles, lines, loc="center left", borderaxespad=0, handlelength=1, labelspacing=0.6
    )


def describe(name: str, image: dict[str, np.ndarray]) -> str:
    """Of a part: whether it is selected, its share of the pixels, and how often it is right."""
    among_HW = image["part_NHW"] == PARTS[name]
    known_HW = among_HW & (image["truth_NHW"] != IGNORE_INDEX)
    selected = "selected" if image["selected_NHW"][among_HW].any() else "rejected"
    share = 100 * among_HW.sum() / max((image["part_NHW"] != 0).sum(), 1)
    text = f"{name}\n{selected}: {share:.1f} %"
    if known_HW.any():
        right = (image["teacher_NHW"] == image["truth_NHW"])[known_HW].mean()
        text += f", {100 * right:.0f} % right"
    return text

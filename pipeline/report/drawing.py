"""What kinds of figures draw alike: the page, label maps, legends, captions, names at points.

Letters: H W pixels, C classes, P points.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox

from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import SMALL, WIDTH
from pipeline.typed import ConfigError, InputError, from_mapping

T = TypeVar("T")
MARKERS = "os^Dv"
"""Of classes in turn: data sets give neighbours, as bus and train, much the same colour."""
WHITE = (255, 255, 255)
HATCH = "//////"
LINE = 0.125
"""Inches: height of a line of small type."""
CONTRAST = 3.0
"""Least to white, of what is drawn (WCAG 2.1, 1.4.11)."""
HALO = withStroke(linewidth=2, foreground="white")
"""Of text over lines."""
PLACES = ((5, 0), (-5, 0), (0, 6), (0, -6), (5, 6), (-5, 6), (5, -6), (-5, -6))
"""Of a name from its point, in points of 1/72 inch; the first is preferred."""


@dataclass(frozen=True)
class NoOptions:
    """Of the kinds that have none."""


def options_of(cls: type[T], spec: FigureSpec) -> T:
    """A kind's own options, checked; an unknown one is a ConfigError that names it."""
    return from_mapping(cls, spec.options, f"paper.yaml: figure {spec.title!r}: options")


def exactly(num: int, spec: FigureSpec) -> list[str]:
    """The figure's runs, if there are `num` of them."""
    if len(spec.runs) != num:
        raise ConfigError(
            f"paper.yaml: figure {spec.title!r}: {len(spec.runs)} runs; a figure of kind "
            f"{spec.kind} shows {num}"
        )
    return list(spec.runs.values())


def measured(results: Results, run: str) -> dict[str, Any]:
    """The metrics of a run, or an InputError if it has none."""
    if run not in results.metrics:
        raise InputError(f"run {run} is not measured; run `dvc repro evaluate@{run}`")
    return results.metrics[run]


def measured_alike(results: Results, runs: Sequence[str]) -> None:
    """Raises an InputError unless all runs are measured, and on the same images."""
    for run in runs:
        measured(results, run)
    results.comparable(*runs)


def canvas(height: float, width: float = WIDTH) -> tuple[Figure, SubFigure]:
    """A figure for `caption`, and its body: legends at the foot of that stand above a caption.

    Args:
      height: of the axes; `legend_below` and `caption` add what they need.
      width: of it all, in inches as the height.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subfigures()


def caption(figure: Figure, spec: FigureSpec, *sentences: str) -> None:
    """Title and sentences in small type below, so that the picture can be seen alone."""
    words = " ".join(filter(None, (f"{spec.title}.", *sentences))).split(" ")
    lines = [words.pop(0)]
    for word in words:
        longer = f"{lines[-1]} {word}"
        if width_of(longer) < figure.get_figwidth() - 0.2:
            lines[-1] = longer
        else:
            lines.append(word)
    x = 0.1 / figure.get_figwidth()
    figure.supxlabel("\n".join(lines), x=x, ha="left", fontsize=SMALL, color="0.2")
    figure.set_figheight(figure.get_figheight() + LINE * len(lines) + 0.1)


def width_of(text: str, size: float = SMALL) -> float:
    """Of a line of text, in inches."""
    prop = FontProperties(family="DejaVu Sans", size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, prop, ismath=False)
    return width / 72


def said(owner: str) -> str:
    """A network as text names it: `Gen-Teacher` for gen_teacher, `student` as it is."""
    return owner.replace("_", "-").title() if "_" in owner else owner


def colored(
    label_HW: np.ndarray, colors_C3: np.ndarray, other: Sequence[int] = WHITE
) -> np.ndarray:
    """Uint8 [H, W, 3]: a label map in class colours; `other` where there is no class."""
    table = np.tile(np.array(other, np.uint8), (256, 1))
    table[: len(colors_C3)] = colors_C3
    return table[label_HW]


def darkened(colors_C3: np.ndarray) -> np.ndarray:
    """Float64 [C, 3] in [0, 1]: the same hues, those dimmed that could not be seen on white."""
    light_C3 = colors_C3 / 255
    light_C3 = np.where(light_C3 > 0.04045, ((light_C3 + 0.055) / 1.055) ** 2.4, light_C3 / 12.92)
    luminance_C = light_C3 @ [0.2126, 0.7152, 0.0722]
    most = 1.05 / CONTRAST - 0.05
    light_C3 *= (most / np.maximum(luminance_C, most))[:, None]
    return np.where(light_C3 > 0.0031308, 1.055 * light_C3 ** (1 / 2.4) - 0.055, 12.92 * light_C3)


def patches(colors_C3: np.ndarray) -> list[Artist]:
    """For a legend of label maps."""
    return [Patch(facecolor=color / 255, edgecolor="0.4", linewidth=0.4) for color in colors_C3]


def markers(colors_C3: np.ndarray) -> list[Artist]:
    """For a legend of points: each class's marker in its darkened colour."""
    return [
        Line2D([], [], linestyle="", marker=MARKERS[c % len(MARKERS)], color=color, markersize=4)
        for c, color in enumerate(darkened(colors_C3))
    ]


def legend_below(body: SubFigure, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """At the foot of the body, in as many columns as its width holds."""
    entry = max(map(width_of, names)) + 0.5
    columns = max(1, min(len(names), int(body.figure.get_figwidth() / entry)))
    rows = -(-len(names) // columns)
    body.figure.set_figheight(body.figure.get_figheight() + 1.2 * LINE * rows + 0.15)
    body.legend(
        handles, names, loc="outside lower center", ncols=columns, handlelength=1.2,
        columnspacing=1.2, fontsize=SMALL,
    )  # fmt: skip


def show(axis: Axes, picture: np.ndarray, title: str = "") -> None:
    """A picture without ticks and frame."""
    axis.imshow(picture, interpolation="nearest")
    axis.set_axis_off()
    axis.set_title(title)


def hatch(axis: Axes, where_HW: np.ndarray) -> None:
    """Thin lines over some pixels of a picture."""
    if where_HW.any():
        height, width = where_HW.shape
        fine = np.kron(where_HW, np.ones((2, 2)))  # a contour runs through middles of pixels
        extent = (-0.5, width - 0.5, -0.5, height - 0.5)
        axis.contourf(fine, levels=[0.5, 1.5], colors="none", hatches=[HATCH], extent=extent)


def name_points(axis: Axes, place_P2: np.ndarray, names: Sequence[str]) -> None:
    """Writes each point's name beside it, where it covers least of points and of other names."""
    figure = axis.get_figure(root=True)
    figure.draw_without_rendering()  # settles the layout, and with it where points are
    scale = figure.dpi / 72
    taken = [
        Bbox.from_bounds(x - 3 * scale, y - 3 * scale, 6 * scale, 6 * scale)
        for x, y in axis.transData.transform(place_P2)
    ]
    for place, name in zip(place_P2, names, strict=True):
        tried = list(attempts(axis, place, name))
        boxes = [text.get_window_extent() for text in tried]
        best = min(range(len(tried)), key=lambda k: (covered(boxes[k], axis.bbox, taken), k))
        for k, text in enumerate(tried):
            if k != best:
                text.remove()
        taken.append(boxes[best])


def attempts(axis: Axes, place: np.ndarray, name: str) -> Iterator[Annotation]:
    """The name at each of PLACES; it keeps out of the layout, which is settled."""
    for x, y in PLACES:
        text = axis.annotate(
            name,
            tuple(place),
            xytext=(x, y),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[np.sign(x).item()],
            va={-1: "top", 0: "center", 1: "bottom"}[np.sign(y).item()],
            fontsize=SMALL,
            path_effects=[HALO],
        )
        text.set_in_layout(False)
        yield text


def covered(box: Bbox, frame: Bbox, taken: Sequence[Bbox]) -> float:
    """The area of `box` that is taken or out of the frame."""
    shared = [Bbox.intersection(box, other) for other in (*taken, frame)]
    *covers, inside = (0.0 if b is None else b.width * b.height for b in shared)
    return round(sum(covers) + box.width * box.height - inside, 6)

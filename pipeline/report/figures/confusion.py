"""How Pro-Student and Gen-Teacher disagree, and each class's mismatch score: as Figure 5."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter

from pipeline.report.drawing import (
    HATCH,
    NoOptions,
    canvas,
    caption,
    darkened,
    exactly,
    options_of,
)
from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import LINES, SMALL

EXAMINES = True

LEAST = 0.1
"""Percent of a row: the lowest step of the colours; what is below it is shown like it."""


def draw(spec: FigureSpec, results: Results) -> Figure:
    """A heat map, student by teacher, each row in percent, beside bars of the scores."""
    options_of(NoOptions, spec)
    (run,) = exactly(1, spec)
    examined = results.examined(run)
    batch = examined.arrays("snapshot")
    confusion_CC, score_C = batch["confusion_CC"], batch["score_C"]
    num = len(score_C)
    figure, body = canvas(1.6 + 0.15 * num)
    heat, bars = body.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    heat_map(heat, confusion_CC)
    heat.set_xticks(range(num), examined.classes, rotation=90)
    heat.set_yticks(range(num), examined.classes)
    heat.set(xlabel="Gen-Teacher predicts", ylabel="Pro-Student predicts")
    colors = darkened(examined.colors)
    # A prior on the diagonal can make a score less than a share of the counts alone.
    of_row_C = np.minimum(mismatched(confusion_CC), score_C)
    bars.barh(range(num), of_row_C, color=colors, height=0.7)
    bars.barh(
        range(num), score_C - of_row_C, left=of_row_C, color=colors, height=0.7, alpha=0.5,
        hatch=HATCH, edgecolor="white", linewidth=0,
    )  # fmt: skip
    bars.set(xlabel="mismatch score of the class")
    for c in np.flatnonzero(confusion_CC.sum(axis=0) + confusion_CC.sum(axis=1) == 0):
        bars.annotate(
            "not predicted", (0, c), xytext=(3, 0), textcoords="offset points", va="center",
            fontsize=SMALL, color="0.4",
        )  # fmt: skip
    bars.set_xlim(0, 2)
    bars.grid(axis="y", visible=False)
    bars.tick_params(axis="y", length=0)
    total = confusion_CC.sum()
    agreed = f"{100 * confusion_CC.trace() / total:.1f} %" if total else "none"
    about = examined.about
    caption(
        figure, spec,
        f"Pixels of the last training batch (run {run}, seed {about['seed']}, step "
        f"{about['steps']}): {total:,}, of which {agreed} consistent (outlined).",
        "Each row adds up to 100 %; white: no pixel. Score: equation 5, mismatched predictions of "
        "the class as a share of the student's, and (hatched) of the teacher's.",
    )  # fmt: skip
    return figure


def mismatched(confusion_CC: np.ndarray) -> np.ndarray:
    """Float64 [C]: the share of each row that is not on the diagonal; 0 of an empty row."""
    row_C = confusion_CC.sum(axis=1)
    return (row_C - confusion_CC.diagonal()) / np.maximum(row_C, 1)


def heat_map(axis: Axes, confusion_CC: np.ndarray) -> None:
    """Percent of each row on a logarithmic scale; the diagonal outlined."""
    row_C1 = confusion_CC.sum(axis=1, keepdims=True)
    percent_CC = 100 * confusion_CC / np.maximum(row_C1, 1)
    shown_CC = np.ma.masked_equal(percent_CC, 0)
    image = axis.imshow(
        shown_CC, cmap="viridis_r", norm=LogNorm(LEAST, 100, clip=True), aspect="auto"
    )
    axis.grid(visible=False)
    axis.spines[:].set_visible(True)
    for k in range(len(confusion_CC)):
        square = Rectangle((k - 0.5, k - 0.5), 1, 1, fill=False, edgecolor=LINES[1], linewidth=1)
        axis.add_patch(square).set_clip_on(False)
    bar = axis.get_figure().colorbar(image, ax=axis, location="top", aspect=40)
    bar.ax.xaxis.set_major_locator(FixedLocator([LEAST, 1, 10, 100]))
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.set_label("share of the row (%), logarithmic")

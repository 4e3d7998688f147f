"""A training over its steps: losses, and how right and how selected the pseudo-labels are."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.report.drawing import (
    NoOptions,
    canvas,
    caption,
    darkened,
    exactly,
    legend_below,
    options_of,
    said,
)
from pipeline.report.results import Examined, Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import line

EXAMINES = True

SMOOTH = {"scalars": 12, "classes": 6}
"""So many windows, side by side, would fill the log: a value is of one around its step."""
LEAST = 100
"""Pixels: with fewer pseudo-labels in a window a class has a gap."""
GIVEN_BY_OTHERS = ("share_high",)
"""The distance of share_selected and share_consistent, and far below them."""
PARTS = {"consistent": "consistent", "high": "highly mismatched", "low": "low mismatched"}
"""Of STPG's pixel selection: as the log calls them, and as the paper does."""
RATES = {
    "accuracy": ("accuracy", "-"),
    "confidence": ("confidence", "--"),
    "share": ("shares", ":"),
}
"""Scalars of the log that are shares, by how their names begin: a title's word, and the line."""
BOLD, THIN = 1.8, 0.7
"""Widths of the lines of rarer and of more frequent classes."""


def draw(spec: FigureSpec, results: Results) -> Figure:
    """The panels whose numbers the method logs, of five."""
    options_of(NoOptions, spec)
    (run,) = exactly(1, spec)
    examined = results.examined(run)
    log = examined.log()
    windows = {what: max(1, len(log) // num) for what, num in SMOOTH.items()}
    panels = panels_of(log, examined, **windows)
    rows, columns = -(-len(panels) // 2), min(len(panels), 2)
    figure, body = canvas(2.2 * rows + 0.75, 3.5 * columns)
    axes = body.subplots(rows, columns, squeeze=False).flat
    for axis, panel in zip(axes, panels, strict=False):
        panel(axis)
        mark_lone_points(axis)
        axis.set_xlabel("training step")
        axis.set_xlim(0, examined.about["steps"])
        axis.locator_params(axis="x", nbins=5)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    if by_classes := bool(fractions_of(log)):
        widths, colors = widths_of(examined), darkened(examined.colors)
        handles = [
            Line2D([], [], color=c, linewidth=w) for c, w in zip(colors, widths, strict=True)
        ]
        legend_below(body, handles, examined.classes)
    caption(
        figure, spec,
        f"Run {run}, seed {examined.about['seed']}; {len(log)} logged steps,",
        f"a value is the mean over {windows['scalars']} of them.",
        "Classes: right, or selected, among the pseudo-labels of that class whose true class is "
        f"known, over {windows['classes']} logged steps; a gap: fewer than {LEAST} pixels; thick: "
        "the half of the classes with fewer labelled pixels." if by_classes else "",
    )  # fmt: skip
    return figure


def panels_of(
    log: pd.DataFrame, examined: Examined, *, scalars: int, classes: int
) -> list[Callable[[Axes], None]]:
    """What draws each panel; `scalars` and `classes` are the lengths of their windows."""
    panels = [partial(losses, log=log, window=scalars)]
    if names := rates_of(log):
        panels.append(partial(rates, log=log, window=scalars, names=names))
    accuracies = [f"accuracy_{part}" for part in PARTS]
    if set(log) >= set(accuracies) and log[accuracies].notna().any(axis=None):
        panels.append(partial(parts, log=log, window=scalars))
    for title, names in fractions_of(log).items():
        more = {"names": names, "title": title, "examined": examined}
        panels.append(partial(by_class, log=log, window=classes, **more))
    return panels


def losses(axis: Axes, *, log: pd.DataFrame, window: int) -> None:
    """Each term as it is weighted in the sum, and the sum."""
    terms = [name for name in log if name.startswith("loss_")]
    for k, name in enumerate(terms):
        label = name.removeprefix("loss_").replace("_", " ")
        axis.plot(*smoothed(log, name, window), color=line(k), label=label)
    if len(terms) > 1:
        axis.plot(*smoothed(log, "loss", window), color="black", linestyle="--", label="sum")
    axis.set(title="loss, weighted terms", ylabel="loss", ylim=(0, None))
    legend_under(axis)


def rates_of(log: pd.DataFrame) -> list[str]:
    """The scalars that are shares, if they are known at all."""
    known = log.dropna(axis="columns", how="all")
    others = {*GIVEN_BY_OTHERS, *(f"accuracy_{part}" for part in PARTS)}
    return [name for name in known if name.split("_")[0] in RATES and name not in others]


def rates(axis: Axes, *, log: pd.DataFrame, window: int, names: list[str]) -> None:
    """Accuracy and confidence of pseudo-labels, and shares of pixels: a colour for whose."""
    whose = list(dict.fromkeys(name.partition("_")[2] for name in names))
    for name in names:
        kind, _, owner = name.partition("_")
        step, value = smoothed(log, name, window)
        label = f"{kind}, {said(owner)}" if owner else kind
        axis.plot(step, 100 * value, RATES[kind][1], color=line(whose.index(owner)), label=label)
    logged = {name.split("_")[0] for name in names}
    words = [word for kind, (word, _) in RATES.items() if kind in logged]
    axis.set(title=f"pseudo-labels: {', '.join(words)}", ylabel="percent")
    axis.set_ylim(None, 100)
    legend_under(axis)


def parts(axis: Axes, *, log: pd.DataFrame, window: int) -> None:
    """How right Gen-Teacher is in each part of the pixel selection."""
    for k, (part, name) in enumerate(PARTS.items()):
        step, value = smoothed(log, f"accuracy_{part}", window)
        axis.plot(step, 100 * value, color=line(k), label=name)
    axis.set(title="pseudo-labels of Gen-Teacher that are right", ylabel="percent of the part")
    axis.set_ylim(None, 101)
    legend_under(axis)


def mark_lone_points(axis: Axes) -> None:
    """A line of a single value has no length: a dot shows it, where short trainings log once."""
    for drawn in axis.lines:
        if np.isfinite(np.asarray(drawn.get_ydata(), float)).sum() == 1:
            drawn.set_marker("o")


def legend_under(axis: Axes) -> None:
    """Below the axis's label, in two columns."""
    axis.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2))


def fractions_of(log: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Panels by class: title to the columns of counts of part and whole; Gen-Teacher's, if any."""
    wholes = [name for name in log if name.startswith("labels_") and name.endswith("_by_class")]
    if not wholes:
        return {}
    whole = "labels_gen_teacher_by_class"
    whole = whole if whole in wholes else wholes[0]
    owner = whole.removeprefix("labels_").removesuffix("_by_class")
    parts = {
        f"pseudo-labels of {said(owner)} that are right": f"right_{owner}_by_class",
        f"pseudo-labels of {said(owner)} that are selected": "selected_by_class",
    }
    if not any(map(any, log[whole].dropna())):
        return {}  # the truth is not known
    return {title: (part, whole) for title, part in parts.items() if part in log}


def by_class(
    axis: Axes,
    *,
    log: pd.DataFrame,
    window: int,
    names: tuple[str, str],
    title: str,
    examined: Examined,
) -> None:
    """A line a class, in its colour; a gap where it has no pseudo-label."""
    rows = log.dropna(subset=list(names))
    part_TC, whole_TC = (
        pd.DataFrame(np.stack(rows[name])).rolling(window, center=True, min_periods=1).sum()
        for name in names
    )
    percent_TC = 100 * part_TC / whole_TC.where(whole_TC >= LEAST)
    for c, (color, width) in enumerate(
        zip(darkened(examined.colors), widths_of(examined), strict=True)
    ):
        axis.plot(rows["step"], percent_TC[c], color=color, linewidth=width)
    axis.set(title=title, ylabel="percent of the class")
    axis.set_ylim(None, 101)


def widths_of(examined: Examined) -> np.ndarray:
    """Of the lines of classes: bold for the half with fewer labelled pixels."""
    pixels_C = np.array(examined.about["labeled_pixels"])
    rank_C = pixels_C.argsort(kind="stable").argsort(kind="stable")
    return np.where(rank_C < len(pixels_C) / 2, BOLD, THIN)


def smoothed(log: pd.DataFrame, name: str, window: int) -> tuple[pd.Series, pd.Series]:
    """Steps at which a scalar was logged, and its mean over a window around each."""
    known = log[["step", name]].dropna().astype(float)
    return known["step"], known[name].rolling(window, center=True, min_periods=1).mean()

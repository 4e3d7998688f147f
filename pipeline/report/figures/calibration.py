"""How often predictions of some confidence are right (reliability diagram), by run."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from pipeline.metrics import calibration_error
from pipeline.report.drawing import (
    NoOptions,
    canvas,
    caption,
    measured_alike,
    options_of,
    said,
)
from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import lines

EXAMINES = True

LEAST = 1e-4
"""Share of the pixels: bins with no more say little and are not drawn."""
LAST = 10
"""One in so many of the log's entries, the last ones, tell of pseudo-labels."""


def draw(spec: FigureSpec, results: Results) -> Figure:
    """Right ones over mean confidence of each bin, above the share of pixels that the bin has."""
    options_of(NoOptions, spec)
    measured_alike(results, spec.cited())
    figure, body = canvas(4.8, 4.8)
    upper, lower = body.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
    upper.plot([0, 100], [0, 100], color="0.5", linewidth=0.8, linestyle="--")
    drawn: list[tuple[str, np.ndarray, str, str]] = []
    for (name, run), color in zip(spec.runs.items(), lines(len(spec.runs)), strict=True):
        calibration_S3B = results.calibration(run)
        label = f"{name} (ECE {errors(calibration_S3B)} %)"
        drawn.append((label, calibration_S3B.sum(axis=0), color, "-"))
        for teacher, taught_3B in pseudo_labels(results.examined(run).log()).items():
            label = f"{name}: pseudo-labels while training\n({teacher})"
            drawn.append((label, taught_3B, color, ":"))
    for label, (pixels_B, right_B, sure_B), color, dashes in drawn:
        some = pixels_B > LEAST * pixels_B.sum()
        sure, right = sure_B[some] / pixels_B[some], right_B[some] / pixels_B[some]
        upper.plot(
            100 * sure, 100 * right, dashes, color=color, marker="o", markersize=3, label=label
        )
        share_B = 100 * pixels_B / pixels_B.sum()
        edges = np.linspace(0, 100, len(share_B) + 1)
        lower.stairs(share_B, edges, color=color, linestyle=dashes, baseline=None)
    upper.set(ylabel="right (%)", ylim=(0, 100), xlim=(0, 100))
    upper.legend(loc="upper left")
    lower.set(xlabel="confidence (%)", ylabel="pixels (%)", yscale="log", ylim=(50 * LEAST, 150))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lower.yaxis.set_minor_locator(NullLocator())
    dotted = any(dashes == ":" for *_, dashes in drawn)
    caption(
        figure, spec,
        "Pixels of the validation images with a known class, seeds added up, by confidence in "
        f"{len(drawn[0][1][0])} bins; dashed: right as often as confident.",
        f"Bins with less than {100 * LEAST:g} % of the pixels are left out. ECE: expected "
        "calibration error, mean over seeds ± sample standard deviation.",
        "Dotted: pixels of the unlabelled training images whose class is known, first seed, last "
        "tenth of the logged steps, at the middle of each bin." if dotted else "",
    )  # fmt: skip
    return figure


def errors(calibration_S3B: np.ndarray) -> str:
    """Expected calibration error in percent, mean and deviation over seeds."""
    error_S = 100 * np.array([calibration_error(x) for x in calibration_S3B])
    deviation = f" ± {error_S.std(ddof=1):.1f}" if len(error_S) > 1 else ""
    return f"{error_S.mean():.1f}{deviation}"


def pseudo_labels(log: pd.DataFrame) -> dict[str, np.ndarray]:
    """Float64 [3, B] as `pipeline.metrics.calibration`, of the first teacher that the log tells of.

    Confidence is known by bin only: its sum takes each for the middle of its bin.
    """
    end = "_by_confidence"
    found = [name for name in log if name.startswith("right_") and name.endswith(end)]
    if not found:
        return {}
    teacher = found[0].removeprefix("right_").removesuffix(end)
    names = [f"labels_{teacher}{end}", found[0]]
    last = log[len(log) * (LAST - 1) // LAST :].dropna(subset=names)
    if last.empty:
        return {}
    pixels_B, right_B = (np.stack(last[name]).sum(axis=0) for name in names)
    if not pixels_B.any():
        return {}
    middle_B = (np.arange(len(pixels_B)) + 0.5) / len(pixels_B)
    return {said(teacher): np.stack([pixels_B, right_B, pixels_B * middle_B])}

"""Whether rare classes gain more: each class's gain in IoU over its share of labelled pixels."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy import stats

from pipeline.report.drawing import (
    MARKERS,
    NoOptions,
    canvas,
    caption,
    darkened,
    exactly,
    measured,
    measured_alike,
    name_points,
    options_of,
)
from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from pipeline.typed import InputError

EXAMINES = True


def draw(spec: FigureSpec, results: Results) -> Figure:
    """A point a class, with its name; error bars over common seeds."""
    options_of(NoOptions, spec)
    base, other = exactly(2, spec)
    base_name, other_name = spec.runs
    examined = results.examined(base)
    pixels_C = np.array(examined.about["labeled_pixels"])
    gain_SC = gains(results, base, other)
    seeds, gain_C = len(gain_SC), gain_SC.mean(axis=0)
    error_C = gain_SC.std(axis=0, ddof=1) if seeds > 1 else np.full_like(gain_C, np.nan)
    shown = np.flatnonzero((pixels_C > 0) & ~np.isnan(gain_C))
    share_P, gain_P = 100 * pixels_C[shown] / pixels_C.sum(), gain_C[shown]
    figure, body = canvas(3.9, 6.0)
    axis = body.subplots()
    axis.axhline(0, color="0.3", linewidth=0.8)
    colors = darkened(examined.colors)
    for c, share, gain in zip(shown, share_P, gain_P, strict=True):
        axis.errorbar(
            share, gain, None if np.isnan(error_C[c]) else error_C[c], color=colors[c],
            marker=MARKERS[c % len(MARKERS)], markersize=5, ecolor=(*colors[c], 0.5),
            elinewidth=0.8, capsize=2,
        )  # fmt: skip
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.margins(x=0.12, y=0.1)
    axis.set_xlabel("share of the labelled pixels (%), logarithmic")
    axis.set_ylabel(f"gain in IoU, {other_name} over {base_name} (points)")
    split = measured(results, base)["split"]
    caption(
        figure, spec,
        f"Labelled pixels of split {split['name']}; IoU over the validation images; mean over "
        f"{seeds} common seed{'s' if seeds > 1 else ''}",
        "(error bars: sample standard deviation)." if seeds > 1 else "(no error bars).",
        correlation(share_P, gain_P),
    )  # fmt: skip
    place_P2 = np.stack([share_P, gain_P], axis=1)
    name_points(axis, place_P2, [examined.classes[c] for c in shown])
    return figure


def gains(results: Results, base: str, other: str) -> np.ndarray:
    """Float64 [S, C]: other - base in points of IoU for each common seed, nan without an IoU."""
    measured_alike(results, [base, other])
    scores = []
    for run in (base, other):
        seeds = measured(results, run)["seeds"]
        scores.append({seed["seed"]: 100 * np.array(seed["iou"], float) for seed in seeds})
    common = sorted(scores[0].keys() & scores[1].keys())
    if not common:
        raise InputError(f"runs {base} and {other} have no seed in common")
    return np.stack([scores[1][seed] - scores[0][seed] for seed in common])


def correlation(share_P: np.ndarray, gain_P: np.ndarray) -> str:
    """Spearman's, as a sentence; nothing of fewer than three points or of equal values.

    p is the share of pairings of shares with gains that correlate as much, in either direction.
    """
    if len(share_P) < 3 or min(len(set(share_P)), len(set(gain_P))) < 2:
        return ""
    of_share, of_gain = (stats.zscore(stats.rankdata(values)) for values in (share_P, gain_P))
    found = stats.permutation_test(
        (of_share,),
        lambda ranks, axis: (ranks * of_gain).mean(axis=axis),
        permutation_type="pairings",
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    return (
        f"Spearman rank correlation of share and gain {found.statistic:+.2f} "
        f"(permutation p\u00a0=\u00a0{found.pvalue:.2g}, {len(share_P)} classes)."
    )

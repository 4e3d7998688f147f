"""How figures look: settings, sizes and the colours of lines."""

from typing import Any

WIDTH = 7.0
"""Inches: a page's width."""
SMALL = 7.0
"""Points: no text is smaller."""
LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Of runs and terms: Okabe and Ito's palette (2008), told apart by the colour-blind, without the
yellow that is too light on white."""


def style() -> dict[str, Any]:
    """Settings of matplotlib, over its own defaults."""
    return {
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.labelsize": 8,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 8,
        "figure.constrained_layout.hspace": 0.04,
        "figure.constrained_layout.wspace": 0.04,
        "font.family": "DejaVu Sans",  # matplotlib brings it: the same everywhere
        "font.size": 8,
        "grid.color": "0.9",
        "grid.linewidth": 0.6,
        "hatch.linewidth": 0.4,
        "image.interpolation": "nearest",
        "legend.fontsize": SMALL,
        "legend.frameon": False,
        "lines.linewidth": 1.3,
        "pdf.fonttype": 42,
        "savefig.dpi": 200,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
    }


def line(number: int) -> str:
    """The colour of the line with this number; those of many begin again."""
    return LINES[number % len(LINES)]


def lines(num: int) -> list[str]:
    """Of `num` runs: the first, a baseline, and the last have the same colour in every figure."""
    return [line(0), *map(line, range(2, num)), line(1)][:num]

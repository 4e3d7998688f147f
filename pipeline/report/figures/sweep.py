"""mIoU over the values of one parameter, measured and published: as Figure 8."""

import math
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report.drawing import HALO, canvas, caption, options_of
from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import SMALL, line
from pipeline.typed import ConfigError, InputError, did_you_mean

EXAMINES = False


@dataclass(frozen=True)
class Options:
    """Of this kind."""

    axis: str
    """What is swept."""
    published: dict[str, float] = field(default_factory=dict)
    """mIoU in percent by value."""


def draw(spec: FigureSpec, results: Results) -> Figure:
    """Two panels with scales of their own: levels differ, and it is the shape that compares."""
    options = options_of(Options, spec)
    for value in options.published:
        if value not in spec.runs:
            raise ConfigError(
                f"paper.yaml: figure {spec.title!r}: options.published: {value!r} is not among "
                f"`runs`; {did_you_mean(value, spec.runs)}"
            )
    by_run = (100 * results.seeds["miou"]).groupby(results.seeds["run"])
    found = {
        value: by_run.get_group(run) for value, run in spec.runs.items() if run in by_run.groups
    }
    if not found:
        raise InputError(
            f"figure {spec.title!r}: none of its runs is measured ({', '.join(spec.cited())})"
        )
    means = [float(scores.mean()) for scores in found.values()]
    deviations = [float(scores.std(ddof=1)) for scores in found.values()]  # nan of a single seed
    num = 2 if options.published else 1
    figure, body = canvas(2.5, 3.5 * num)
    axes = body.subplots(1, num, squeeze=False)[0]
    panel(axes[0], "measured", list(found), means, deviations, line(0))
    if options.published:
        values = [value for value in spec.runs if value in options.published]
        panel(axes[1], "published", values, [options.published[v] for v in values], None, line(1))
    for axis in axes:
        axis.set_xlabel(options.axis)
    axes[0].set_ylabel("mIoU (%)")
    counts = sorted({len(scores) for scores in found.values()})
    missing = [value for value in spec.runs if value not in found]
    caption(
        figure, spec,
        f"Measured: mean over seeds ({' or '.join(map(str, counts))} a value), error bars: sample "
        "standard deviation, where there are several.",
        f"Not measured: {', '.join(missing)}." if missing else "",
        "The two scales differ." if options.published else "",
    )  # fmt: skip
    return figure


def panel(
    axis: Axes,
    title: str,
    values: list[str],
    means: list[float],
    deviations: list[float] | None,
    color: str,
) -> None:
    """Evenly spaced values, each with its mean written beside it."""
    places = range(len(values))
    axis.errorbar(places, means, deviations, color=color, marker="o", markersize=4, capsize=2)
    for place, (mean, after) in enumerate(zip(means, [*means[1:], -math.inf], strict=True)):
        beside = (6, -9) if after > mean else (6, 4)  # not on the line to the next
        axis.annotate(
            f"{mean:.1f}", (place, mean), xytext=beside, textcoords="offset points",
            fontsize=SMALL, path_effects=[HALO],
        )  # fmt: skip
    axis.set_xticks(places, values)
    axis.set_xlim(-0.4, len(values) - 0.4)
    axis.margins(y=0.2)
    axis.set_title(title)

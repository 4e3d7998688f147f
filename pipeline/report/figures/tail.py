"""IoU of the classes with fewest labelled pixels: as Figure 6."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from pipeline.report.drawing import canvas, caption, measured, measured_alike, options_of
from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import lines
from pipeline.typed import at_least

EXAMINES = True


@dataclass(frozen=True)
class Options:
    """Of this kind."""

    num: int = 8
    """Classes."""

    def check(self, key: str) -> None:
        """There is something to show."""
        at_least(key, "num", self.num, 1)


def draw(spec: FigureSpec, results: Results) -> Figure:
    """A group of bars a class, the rarest first, one bar a run; error bars over seeds."""
    options = options_of(Options, spec)
    first = next(iter(spec.runs.values()))
    measured_alike(results, spec.cited())
    examined = results.examined(first)
    pixels_C = np.array(examined.about["labeled_pixels"])
    rarest = rarest_classes(pixels_C, options.num)
    figure, body = canvas(2.8)
    axis = body.subplots()
    width = 0.8 / len(spec.runs)
    colors = lines(len(spec.runs))
    for k, (name, run) in enumerate(spec.runs.items()):
        measured(results, run)
        iou_SK = seeds_by_class(results, run)[:, rarest]
        seeds, mean_K = len(iou_SK), iou_SK.mean(axis=0)
        place_K = np.arange(len(rarest)) + (k - (len(spec.runs) - 1) / 2) * width
        several = f"{seeds} seeds" if seeds > 1 else "1 seed"
        axis.bar(
            place_K, mean_K, 0.9 * width, color=colors[k],
            yerr=iou_SK.std(axis=0, ddof=1) if seeds > 1 else None,
            error_kw={"elinewidth": 0.8, "capsize": 2, "ecolor": "0.2"},
            label=f"{name} (mean {np.nanmean(mean_K):.1f}; {several})",
        )  # fmt: skip
    shares = 100 * pixels_C[rarest] / pixels_C.sum()
    names = [examined.classes[c].replace(" ", "\n") for c in rarest]
    labels = [
        f"{name}\n{share:.{1 if share >= 1 else 2}f} %"
        for name, share in zip(names, shares, strict=True)
    ]
    axis.set_xticks(range(len(rarest)), labels)
    axis.tick_params(axis="x", length=0)
    axis.grid(axis="x", visible=False)
    axis.set(ylabel="IoU (%)", ylim=(0, None))
    axis.set_xlabel("class, and its share of the labelled pixels")
    body.legend(loc="outside upper center", ncols=len(spec.runs))
    split = measured(results, first)["split"]
    caption(
        figure, spec,
        f"The {len(rarest)} classes with fewest labelled pixels that the {split['labeled']} "
        f"labelled images of split {split['name']} have at all.",
        "IoU over the validation images, mean over seeds; error bars: sample standard deviation "
        "over seeds, where there are several.",
    )  # fmt: skip
    return figure


def rarest_classes(pixels_C: np.ndarray, num: int) -> list[int]:
    """At most `num` classes that have pixels, those with fewest first; ties by index."""
    order = np.argsort(pixels_C, kind="stable")
    return order[pixels_C[order] > 0][:num].tolist()


def seeds_by_class(results: Results, run: str) -> np.ndarray:
    """Float64 [S, C]: IoU in percent, nan for a class that is nowhere; seeds ascending."""
    mine = results.classes[results.classes["run"] == run]
    names = mine["class"].unique()
    return 100 * mine.pivot(index="seed", columns="class", values="iou")[names].to_numpy()

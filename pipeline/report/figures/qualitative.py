"""Validation images, what runs predict on them, and the truth: as Figures 9 and 10."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline.data.base import IGNORE_INDEX
from pipeline.report.drawing import (
    HATCH,
    NoOptions,
    canvas,
    caption,
    colored,
    hatch,
    legend_below,
    options_of,
    patches,
    show,
)
from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import WIDTH
from pipeline.typed import InputError

EXAMINES = True


def draw(spec: FigureSpec, results: Results) -> Figure:
    """A row an image; columns image, each run's prediction, truth."""
    options_of(NoOptions, spec)
    pictures = {name: results.examined(run).arrays("pictures") for name, run in spec.runs.items()}
    first = next(iter(pictures.values()))
    ids = first["ids_K"].tolist()
    for name, found in pictures.items():
        if found["ids_K"].tolist() != ids:
            raise InputError(
                f"figure {spec.title!r}: {name} shows other images than {next(iter(pictures))}; "
                "its runs have to be of one data set"
            )
    examined = results.examined(spec.cited()[0])
    columns = len(pictures) + 2
    shapes = [first[f"truth_{k}"].shape for k in range(len(ids))]
    tall = [min(height / width, 1.0) for height, width in shapes]
    figure, body = canvas((WIDTH / columns - 0.08) * sum(tall) + 0.08 * len(ids) + 0.25)
    axes = body.subplots(len(ids), columns, squeeze=False, height_ratios=tall)
    maps: list[np.ndarray] = []
    for k, row in enumerate(axes):
        truth_HW = first[f"truth_{k}"]
        labels = {name: found[f"prediction_{k}"] for name, found in pictures.items()}
        labels["truth"] = truth_HW
        maps += labels.values()
        show(row[0], first[f"image_{k}"], "image" if k == 0 else "")
        for axis, (name, label_HW) in zip(row[1:], labels.items(), strict=True):
            show(axis, colored(label_HW, examined.colors), name if k == 0 else "")
        hatch(row[-1], truth_HW == IGNORE_INDEX)
    occurring = sorted({int(c) for label_HW in maps for c in np.unique(label_HW)})
    classes = [c for c in occurring if c != IGNORE_INDEX]
    handles, names = patches(examined.colors[classes]), [examined.classes[c] for c in classes]
    if IGNORE_INDEX in occurring:
        handles.append(Patch(facecolor="white", edgecolor="0.4", linewidth=0.4, hatch=HATCH))
        names.append("ignored")
    legend_below(body, handles, names)
    caption(
        figure, spec,
        f"Of each of {len(ids)} equal parts of the validation images, by name, the one that shows",
        "most classes:",
        f"{', '.join(ids)}.",
        f"Networks after the last step, seed {examined.about['seed']}.",
    )  # fmt: skip
    return figure

"""Features in two dimensions, by class: as Figure 7."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.transforms import IdentityTransform

from pipeline.report.drawing import (
    MARKERS,
    NoOptions,
    canvas,
    caption,
    darkened,
    legend_below,
    markers,
    options_of,
)
from pipeline.report.results import Examined, Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import SMALL, WIDTH

EXAMINES = True

SIZE = 7.0
"""Of a point, in square points."""


def draw(spec: FigureSpec, results: Results) -> Figure:
    """One square panel a run; the same pixels in each."""
    options_of(NoOptions, spec)
    panels = {name: results.examined(run) for name, run in spec.runs.items()}
    side = min(WIDTH / len(panels), 3.5)
    figure, body = canvas(side + 0.3, max(side * len(panels), WIDTH / 2))
    axes = body.subplots(1, len(panels), squeeze=False)[0]
    occurring: set[int] = set()
    for axis, (name, examined) in zip(axes, panels.items(), strict=True):
        arrays = examined.arrays("embedding")
        occurring |= set(arrays["class_P"].tolist())
        points(axis, arrays["place_P2"], arrays["class_P"], examined.colors)
        axis.set_title(name)
        axis.set_xlabel(silhouettes(examined, narrow=len(panels) > 2), fontsize=SMALL)
    classes = sorted(occurring)
    handles = markers(examined.colors)
    legend_below(body, [handles[c] for c in classes], [examined.classes[c] for c in classes])
    how = examined.about["embedding"]
    caption(
        figure, spec,
        "t-SNE of the decoder's features in front of the classifier, at the same pixels of "
        "validation images in each panel:",
        f"up to {how['points_per_class']} points a class, perplexity {how['perplexity']:g} (less "
        f"with few points), seed {how['seed']}.",
        "Axes have no unit. Silhouette: -1 to 1, higher where classes keep apart.",
    )  # fmt: skip
    return figure


def points(axis: Axes, place_P2: np.ndarray, class_P: np.ndarray, colors_C3: np.ndarray) -> None:
    """Each in its class's colour and marker, in mixed order, so that no class hides others."""
    order_P = np.random.default_rng(0).permutation(len(class_P))
    place_P2, class_P = place_P2[order_P], class_P[order_P]
    shapes = [MarkerStyle(marker) for marker in MARKERS]
    paths = [shape.get_path().transformed(shape.get_transform()) for shape in shapes]
    collection = PathCollection(
        [paths[c % len(paths)] for c in class_P],
        sizes=[SIZE],
        facecolors=darkened(colors_C3)[class_P],
        linewidths=0,
        offsets=place_P2,
        offset_transform=axis.transData,
    )
    collection.set_transform(IdentityTransform())
    axis.add_collection(collection)
    center_2, reach = (place_P2.max(axis=0) + place_P2.min(axis=0)) / 2, np.ptp(place_P2, axis=0)
    half = 0.53 * max(reach.max(), 1e-6)
    axis.set(xlim=center_2[0] + [-half, half], ylim=center_2[1] + [-half, half], aspect="equal")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(visible=True, color="0.7")


def silhouettes(examined: Examined, *, narrow: bool) -> str:
    """How well the classes keep apart, in the features and in the map."""
    how = examined.about["embedding"]
    between = ",\n" if narrow else ", "
    return (
        f"silhouette of the features {how['silhouette']:.2f}{between}"
        f"of the map {how['silhouette_embedded']:.2f}"
    )

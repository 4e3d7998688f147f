"""What has no class of its own: one function a thing, in the frame of `Canvas.thing`."""

import numpy as np

from pipeline.data.drawing.canvas import Pen


def tree(pen: Pen) -> None:
    """A trunk under a crown of leaves."""
    leaf = pen.pick("leaf")
    pen.line(pen.pick("wood") * 0.7, 0.09, 0, 0, 0, 0.5)
    for shade in np.linspace(0.75, 1.15, 8):
        pen.oval(leaf * shade, pen.rng.normal(0, 0.15), pen.rng.uniform(0.45, 0.82), 0.18, 0.17)


def fir(pen: Pen) -> None:
    """Three skirts of needles, one above the other."""
    leaf = pen.pick("leaf")
    pen.line(pen.pick("wood") * 0.7, 0.09, 0, 0, 0, 0.3)
    for y, half in ((0.15, 0.29), (0.4, 0.21), (0.62, 0.13)):
        pen.fill(leaf * pen.rng.uniform(0.8, 1.1), -half, y, 0, y + 0.38, half, y)


def pot(pen: Pen) -> None:
    """A flower pot with its rim."""
    clay = pen.pick("brick", "paint")
    pen.fill(clay, -0.2, 0.3, 0.2, 0.3, 0.14, 0, -0.14, 0)
    pen.box(clay * 0.85, -0.23, 0.28, 0.23, 0.36)


def crate(pen: Pen) -> None:
    """A box with a lid: a bin, a cupboard, a parcel."""
    side, half = pen.pick("paint", "wood"), pen.rng.uniform(0.25, 0.7)
    pen.box(side, -half, 0, half, 0.95)
    pen.box(side * 0.75, -half - 0.03, 0.82, half + 0.03, 1)
    pen.line(side * 0.7, 0.04, -half, 0.1, half, 0.7)


def mast(pen: Pen) -> None:
    """A bare pole."""
    pen.line(pen.pick("metal"), 0.07, 0, 0, 0, 0.95)


def lamp(pen: Pen) -> None:
    """A lamp post."""
    metal = pen.pick("metal")
    pen.line(metal, 0.05, 0, 0, 0, 0.97, 0.16, 1)
    pen.box(metal * 1.3, 0.1, 0.95, 0.28, 1)


def cloud(pen: Pen) -> None:
    """Heaps of white."""
    white = pen.pick("pale")
    for x in pen.rng.uniform(-1, 1, 6):
        pen.oval(white, x, 0.5, pen.rng.uniform(0.3, 0.7), pen.rng.uniform(0.15, 0.4))


def wave(pen: Pen) -> None:
    """Two strokes of another blue."""
    crest = pen.pick("water") * 1.3
    for y in (0.2, 0.7):
        x = pen.rng.uniform(-1.5, 0)
        pen.line(crest, 0.15, x, y, x + 0.6, y + 0.12, x + 1.5, y)


def stone(pen: Pen) -> None:
    """A round thing: a boulder, a ball, a cushion."""
    paint, rx = pen.pick("stone", "paint"), pen.rng.uniform(0.45, 1)
    pen.oval(paint * 0.8, 0, 0.45, rx, 0.5)
    pen.oval(paint, 0.1 * rx, 0.52, rx * 0.75, 0.38)


def hill(pen: Pen) -> None:
    """A ridge on the horizon."""
    pen.fill(pen.pick("leaf", "stone"), -3, 0, -1, 0.7, 0, 1, 1.2, 0.6, 3, 0)


def house(pen: Pen) -> None:
    """Walls with windows, under a flat or a pitched roof."""
    wall, glass, half = pen.pick("brick"), pen.pick("glass"), pen.rng.uniform(0.4, 0.8)
    pen.box(wall, -half, 0, half, 0.8)
    peak = 0.1 if pen.chance(0.5) else half
    pen.fill(wall * 0.65, -half, 0.78, -half + peak, 1, half - peak, 1, half, 0.78)
    for x in np.arange(-half + 0.1, half - 0.15, 0.28):
        for y in (0.15, 0.5):
            pen.box(glass, x, y, x + 0.15, y + 0.2)


def picture(pen: Pen) -> None:
    """Something framed on the wall, or a window."""
    half, middle = pen.rng.uniform(0.3, 0.7), pen.pick("sky", "paint")
    pen.box(pen.pick("wood", "pale"), -half, 0.3, half, 1)
    pen.box(middle, -half + 0.08, 0.38, half - 0.08, 0.92)
    pen.line(middle * 0.8, 0.05, -half + 0.1, 0.45, half - 0.1, 0.7)

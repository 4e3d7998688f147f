"""Snapshots in the manner of PASCAL VOC: a thing in surroundings that suit it, among clutter."""

from dataclasses import dataclass

import numpy as np

from pipeline.data.drawing import scenery, things
from pipeline.data.drawing.canvas import Canvas, Painter, one_of

ASPECTS = ((1.0, 1.0), (4 / 3, 1.0), (1.0, 4 / 3))
"""Width and height of a picture, in units of its shorter side; each as likely."""
AT_HOME = 0.95
"""How often a thing is shown where it belongs; else anywhere."""
COMPANIONS = {"person": 0.2, "car": 0.1, "bird": 0.03}
"""How often each class comes along with another."""
COMPANION_SCALE = 0.7
"""Height of a companion, as a part of what its class has as the subject."""
CLUTTER = 0.8
"""Mean number of things of no class."""
CLUTTER_HEIGHT = (0.12, 0.35)
"""In units of the shorter side."""


@dataclass(frozen=True)
class Subject:
    """What is shown of a class."""

    views: tuple[Painter, ...]
    height: tuple[float, float]
    """Smallest and largest, in units of the shorter side."""
    homes: tuple[str, ...]
    """The scenes that it belongs to."""


SUBJECTS = {
    "aeroplane": Subject((things.aeroplane,), (0.4, 0.6), ("sky", "street")),
    "bird": Subject(
        (things.bird_flying, things.bird_standing), (0.45, 0.85), ("sky", "meadow", "water")
    ),
    "boat": Subject((things.sailing_boat, things.motor_boat), (0.5, 0.9), ("water",)),
    "bottle": Subject((things.bottle,), (0.5, 0.95), ("room",)),
    "bus": Subject((things.bus_side, things.bus_front), (0.35, 0.65), ("street",)),
    "car": Subject((things.car_side, things.car_behind), (0.3, 0.55), ("street", "meadow")),
    "person": Subject((things.person,), (0.5, 0.95), ("street", "meadow", "room", "water")),
    "pottedplant": Subject((things.pottedplant,), (0.5, 0.95), ("room", "street")),
    "tvmonitor": Subject((things.tvmonitor,), (0.35, 0.65), ("room",)),
}


@dataclass(frozen=True)
class Scene:
    """Surroundings: materials above and below the horizon, what is on it and what is about."""

    above: str
    below: str
    horizon: tuple[float, float]
    """Its row, as a part of the height."""
    skyline: tuple[Painter, ...]
    clutter: tuple[Painter, ...]


SCENES = {
    "meadow": Scene(
        "sky", "leaf", (0.3, 0.55), (scenery.tree, scenery.hill), (scenery.fir, scenery.stone)
    ),
    "room": Scene(
        "wall", "wood", (0.5, 0.75), (scenery.picture,), (scenery.crate, scenery.stone, scenery.pot)
    ),
    "sky": Scene("sky", "sky", (0.3, 0.5), (scenery.cloud,), (scenery.cloud,)),
    "street": Scene(
        "sky", "stone", (0.35, 0.55), (scenery.house, scenery.tree), (scenery.lamp, scenery.crate)
    ),
    "water": Scene(
        "sky", "water", (0.25, 0.5), (scenery.hill, scenery.cloud), (scenery.wave, scenery.stone)
    ),
}


def snapshot(rng: np.random.Generator, name: str, size: int) -> Canvas:
    """A picture of a thing of class `name`, maybe with others; `size` is its shorter side."""
    width, height = (round(size * side) for side in one_of(rng, ASPECTS))
    canvas = Canvas(width, height, rng)
    homes = SUBJECTS[name].homes if rng.random() < AT_HOME else tuple(SCENES)
    scene = SCENES[one_of(rng, homes)]
    horizon = _backdrop(canvas, scene)
    others = [other for other, prob in COMPANIONS.items() if rng.random() < prob]
    cast = [(name, SUBJECTS[name], 1.0)]
    cast += [(other, SUBJECTS[other], COMPANION_SCALE) for other in others]
    clutter = Subject(scene.clutter, CLUTTER_HEIGHT, homes=())
    cast += [("background", clutter, 1.0)] * rng.poisson(CLUTTER)
    feet = rng.uniform(horizon + 0.05 * height, height, len(cast))
    for k in np.argsort(feet):
        label, subject, scale = cast[k]
        tall = size * scale * rng.uniform(*subject.height)
        x, foot = rng.uniform(0.2, 0.8) * width, max(feet[k], tall)
        stretch = rng.choice((-1, 1)) * rng.uniform(0.85, 1.2)
        paint = one_of(rng, subject.views)
        paint(canvas.thing(label, x, foot, tall, rng.normal(0, 0.06), stretch))
    return canvas


def _backdrop(canvas: Canvas, scene: Scene) -> float:
    """Paints the surroundings; returns the row of the horizon."""
    rng, width, height = canvas.rng, canvas.width, canvas.height
    horizon = rng.uniform(*scene.horizon) * height
    pen = canvas.plane("background")
    for material, y0, y1 in ((scene.above, 0, horizon), (scene.below, horizon, height)):
        color = pen.pick(material)
        canvas.fade(color, color * rng.uniform(0.75, 1.25), y0, y1)
    for _ in range(rng.poisson(3)):
        tall = rng.uniform(0.15, 0.6) * horizon
        paint = one_of(rng, scene.skyline)
        paint(canvas.thing("background", rng.uniform(0, width), horizon, tall))
    return horizon

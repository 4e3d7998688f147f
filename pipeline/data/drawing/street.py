"""Streets in the manner of Cityscapes, seen from a car: a road between pavements and facades."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from pipeline.data.drawing import scenery, things
from pipeline.data.drawing.canvas import Canvas, Painter, one_of

BUILT = 0.7
"""How often a block has a building; else it is green."""
CROWD = {"car": 1.5, "person": 1.5, "tree": 0.6, "lamp": 0.8, "traffic sign": 0.3, "bin": 0.2}
"""Mean number of each of these `PROPS`."""
EYE = 1.5
"""Height of the camera, in metres."""
FAR = 50.0
"""Distance at which the street ends, in metres."""
BLURRED = 30.0
"""Distance beyond which windows are too small to be seen."""
DEPTH = 1.4
"""Props stand up to this many times farther than where they come into sight."""
NEAR = 3.0
"""Distance at which the street is below and beside the picture."""


@dataclass(frozen=True)
class Part:
    """One label's share of a prop."""

    label: str
    metres: float
    """Height of the frame that its views fill."""
    views: tuple[Painter, ...]


@dataclass(frozen=True)
class Prop:
    """What stands in a street, at least `near` metres away."""

    place: Literal["road", "curb", "pavement"]
    near: float
    parts: tuple[Part, ...]
    """From back to front."""


BICYCLE = Part("bicycle", 1.2, (things.bicycle,))
MAST = Part("pole", 3.5, (scenery.mast,))
SIGN = Part("traffic sign", 3.5, (things.sign_disc, things.sign_square, things.sign_triangle))
PROPS = {
    "bicycle": Prop("pavement", 5, (BICYCLE,)),
    "bin": Prop("pavement", 7, (Part("static", 1.1, (scenery.crate,)),)),
    "bus": Prop("road", 8, (Part("bus", 3, (things.bus_side, things.bus_front)),)),
    "car": Prop("road", 7, (Part("car", 1.5, (things.car_side, things.car_behind)),)),
    "lamp": Prop("curb", 8, (Part("pole", 6, (scenery.lamp,)),)),
    "person": Prop("pavement", 5, (Part("person", 2, (things.person,)),)),
    "rider": Prop("road", 4.5, (BICYCLE, Part("rider", 2, (things.rider,)))),
    "traffic light": Prop("curb", 7, (MAST, Part("traffic light", 3.5, (things.traffic_light,)))),
    "traffic sign": Prop("curb", 7, (MAST, SIGN)),
    "tree": Prop("pavement", 9, (Part("vegetation", 5.5, (scenery.tree, scenery.fir)),)),
}


@dataclass(frozen=True)
class View:
    """A street's width and its camera, which maps metres (x right, y up, z ahead) to pixels."""

    x: float
    y: float
    """Column and row of the vanishing point."""
    focal: float
    curb: float
    """From the middle of the road to its edge, in metres."""
    front: float
    """From the middle of the road to the facades."""

    def at(self, x: ArrayLike, y: ArrayLike, z: ArrayLike) -> np.ndarray:
        """Points in pixels, [..., 2]; z has the result's shape, x and y broadcast to it."""
        scale = self.focal / np.asarray(z)
        return np.stack([self.x + x * scale, self.y + (EYE - y) * scale], axis=-1)

    def ground(self, x0: float, x1: float, z0: ArrayLike, z1: ArrayLike) -> np.ndarray:
        """Rectangles on the ground in pixels, [..., 4, 2]."""
        return self.at(np.array([x0, x1, x1, x0]), 0, np.stack([z0, z0, z1, z1], axis=-1))

    def wall(
        self, x: float, y0: ArrayLike, y1: ArrayLike, z0: ArrayLike, z1: ArrayLike
    ) -> np.ndarray:
        """Upright rectangles along the street in pixels, [..., 4, 2]; y as many as z, or one."""
        y, z = np.stack([y0, y0, y1, y1], axis=-1), np.stack([z0, z1, z1, z0], axis=-1)
        return self.at(x, y, z)


def street(rng: np.random.Generator, extra: str | None, size: int) -> Canvas:
    """A street `size` pixels high and twice as wide, with one `extra` (a prop, or a fence)."""
    canvas = Canvas(2 * size, size, rng)
    curb = rng.uniform(2.2, 3.6)
    front = curb + rng.uniform(1.6, 2.8)
    view = View(rng.normal(1, 0.12) * size, rng.uniform(0.36, 0.5) * size, 1.6 * size, curb, front)
    _horizon(canvas, view)
    _ground(canvas, view)
    for side in (-view.front, view.front):
        for z0, z1 in _blocks(rng):
            (_building if rng.random() < BUILT else _green)(canvas, view, side, z0, z1)
        if extra == "fence":
            _fence(canvas, view, 0.98 * side)
    names = [name for name, mean in CROWD.items() for _ in range(rng.poisson(mean))]
    _populate(canvas, view, names + [extra] * (extra in PROPS))
    hood = canvas.plane("ego vehicle")
    width, height = rng.uniform(0.7, 1.1) * size, rng.uniform(0.1, 0.16) * size
    hood.oval(hood.pick("dark"), rng.normal(1, 0.05) * size, 1.06 * size, width, height)
    return canvas


def _horizon(canvas: Canvas, view: View) -> None:
    """Sky and clouds above, and woods where the street ends."""
    rng = canvas.rng
    sky = canvas.plane("sky")
    sky.box(None, 0, 0, canvas.width, canvas.height)
    canvas.fade(sky.pick("sky"), sky.pick("sky"), 0, canvas.height)
    for _ in range(rng.poisson(1.5)):
        x, y = rng.uniform((0, 0), (canvas.width, view.y))
        scenery.cloud(canvas.thing("sky", x, y, 0.2 * canvas.height))
    woods = canvas.plane("vegetation")
    top = view.y - rng.uniform(0.02, 0.12) * canvas.height
    woods.box(woods.pick("leaf"), 0, top, canvas.width, canvas.height)


def _ground(canvas: Canvas, view: View) -> None:
    """Pavements, the road with its markings, and the curbs."""
    walk, road = canvas.plane("sidewalk"), canvas.plane("road")
    stone, asphalt = walk.pick("stone"), road.pick("stone")
    walk.fill_all(stone, view.ground(-20, 20, NEAR, FAR))
    road.fill_all(asphalt * 0.8, view.ground(-view.curb, view.curb, NEAR, FAR))
    paint = canvas.plane(None)
    for x in (-view.curb, view.curb):
        paint.fill_all(stone * 1.25, view.ground(x - 0.12, x + 0.12, NEAR, FAR))
    lane = canvas.rng.uniform(-0.4, 0.4) * view.curb
    dash = np.arange(canvas.rng.uniform(2, 5), 45, 5)
    paint.fill_all(asphalt * 0.3 + 170, view.ground(lane - 0.08, lane + 0.08, dash, dash + 2.5))


def _blocks(rng: np.random.Generator) -> list[tuple[float, float]]:
    """Where the blocks along one side of the street begin and end, the farthest first."""
    ends = FAR - np.cumsum(rng.uniform(7, 14, 8))
    ends = [FAR, *ends[ends > NEAR], NEAR]
    return list(zip(ends[1:], ends[:-1], strict=True))


def _building(canvas: Canvas, view: View, x: float, z0: float, z1: float) -> None:
    """A facade with rows of windows along the street, and the wall that faces the camera."""
    pen = canvas.plane("building")
    brick, glass, top = pen.pick("brick"), pen.pick("glass"), pen.rng.uniform(5, 14)
    pen.box(brick * 0.85, *view.at(x, 0, z0), *view.at(5 * x, top, z0))
    pen.fill_all(brick, view.wall(x, 0, top, z0, z1))
    floor, bay = pen.rng.uniform((2.6, 1.8), (3.4, 3))
    y, z = np.meshgrid(np.arange(0.6, top - 1.6, floor), np.arange(z0 + 0.6, z1 - 1.2, bay))
    if z0 < BLURRED:
        canvas.plane(None).fill_all(glass, view.wall(x, y, y + 1.6, z, z + 1.1))


def _green(canvas: Canvas, view: View, x: float, z0: float, z1: float) -> None:
    """A hedge with treetops above it."""
    pen = canvas.plane("vegetation")
    leaf = pen.pick("leaf")
    pen.fill_all(leaf * 0.8, view.wall(x, 0, 1.5, z0, z1))
    for z in np.linspace(z1, z0, 5):
        shade, y, metres = pen.rng.uniform((0.7, 1, 0.9), (1.2, 4, 2))
        radius = metres * view.focal / z
        pen.oval(leaf * shade, *view.at(x, y, z), radius, radius)


def _fence(canvas: Canvas, view: View, x: float) -> None:
    """Posts and rails; what is seen between them counts as the fence."""
    pen = canvas.plane("fence")
    paint, z0 = pen.pick("pale", "metal", "wood"), pen.rng.uniform(6, 9)
    z1 = z0 + pen.rng.uniform(8, 16)
    post = np.arange(z0, z1, 0.9)
    pen.fill_all(None, view.wall(x, 0, 1.8, z0, z1))
    pen.fill_all(paint * 0.9, view.wall(x, 0.3, 0.55, z0, z1))
    pen.fill_all(paint * 0.9, view.wall(x, 1.3, 1.55, z0, z1))
    pen.fill_all(paint, view.wall(x, 0, 1.8, post, post + 0.5))


def _populate(canvas: Canvas, view: View, names: list[str]) -> None:
    """Puts up the props, the farthest first."""
    rng, walk = canvas.rng, view.front - view.curb
    places = {
        "road": (0, 0.8 * view.curb),
        "curb": (view.curb + 0.2, view.curb + 0.3),
        "pavement": (view.curb + 0.3 * walk, view.curb + 0.8 * walk),
    }
    placed = []
    for prop in map(PROPS.get, names):
        x = rng.choice((-1, 1)) * rng.uniform(*places[prop.place])
        seen = abs(x) * view.focal / (0.9 * view.x)
        placed.append((max(prop.near, seen) * rng.uniform(1, DEPTH), x, prop))
    for z, x, prop in sorted(placed, key=lambda each: each[0], reverse=True):
        column, foot = view.at(x, 0, z)
        lean, stretch = rng.normal(0, 0.015), rng.choice((-1, 1)) * rng.uniform(0.9, 1.15)
        for part in prop.parts:
            tall = part.metres * view.focal / z
            paint = one_of(rng, part.views)
            paint(canvas.thing(part.label, column, foot, tall, lean, stretch))

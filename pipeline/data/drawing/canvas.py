"""A canvas that paints a picture, and with the same strokes a map of the things in it."""

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

T = TypeVar("T")

SUPERSAMPLE = 4
"""The picture is painted this many times larger, then averaged; the map takes a middle point."""
WOBBLE = 0.012
"""Standard deviation of a thing's corners, as a part of its height."""
MIN_STROKE = 2.0
"""The thinnest line, in pixels of the finished picture."""
TEXTURE = (0.08, 0.06, 0.04)
"""Largest contrast of a thing's blotches, grain and stripes."""
LIGHT = 0.1
"""Standard deviation of a picture's brightness; a third of it for each channel alone."""
NOISE = (1.0, 4.0)
"""Range of the standard deviation of the camera's noise, of 255."""
BLUR = 0.5
"""Largest radius of the lens's blur, in pixels."""

MATERIALS = {
    "brick": ((0.0, 0.1, 0.3), (0.13, 0.5, 0.85)),
    "dark": ((0.0, 0.0, 0.05), (1.0, 0.5, 0.25)),
    "glass": ((0.5, 0.1, 0.15), (0.65, 0.4, 0.5)),
    "leaf": ((0.17, 0.25, 0.25), (0.4, 0.75, 0.7)),
    "light": ((0.0, 0.6, 0.85), (0.16, 1.0, 1.0)),
    "metal": ((0.5, 0.0, 0.3), (0.7, 0.12, 0.65)),
    "paint": ((0.0, 0.1, 0.3), (1.0, 0.8, 0.95)),
    "pale": ((0.0, 0.0, 0.7), (1.0, 0.2, 1.0)),
    "skin": ((0.03, 0.25, 0.4), (0.1, 0.6, 0.95)),
    "sky": ((0.53, 0.05, 0.65), (0.64, 0.6, 1.0)),
    "stone": ((0.05, 0.0, 0.25), (0.65, 0.15, 0.7)),
    "wall": ((0.0, 0.03, 0.45), (1.0, 0.35, 0.95)),
    "water": ((0.45, 0.2, 0.25), (0.62, 0.65, 0.75)),
    "wood": ((0.05, 0.3, 0.25), (0.12, 0.7, 0.75)),
}
"""Two colours each, as hue, saturation and value: anything in between. They overlap on purpose."""

CIRCLE = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 20, endpoint=False)])
Color = np.ndarray
"""RGB, float [3], 0 to 255; beyond is clipped when it is painted."""


def one_of(rng: np.random.Generator, options: Sequence[T]) -> T:
    """A random one, each as likely."""
    return options[rng.integers(len(options))]


class Canvas:
    """A picture in the making, with the map of its things and their labels."""

    def __init__(self, width: int, height: int, rng: np.random.Generator) -> None:
        """Blank; `width` x `height` pixels when finished."""
        self.width, self.height, self.rng = width, height, rng
        size = (width * SUPERSAMPLE, height * SUPERSAMPLE)
        self.image, self.map = Image.new("RGB", size), Image.new("I", size)
        self.brushes = ImageDraw.Draw(self.image), ImageDraw.Draw(self.map)
        self.labels: list[str] = []
        """The label of each thing, in the order of drawing: the front comes last."""

    def plane(self, label: str | None) -> "Pen":
        """Draws in pixels, y down; without a label the paint belongs to what it covers."""
        return Pen(self, self._add(label), np.zeros(2), np.eye(2) * SUPERSAMPLE, wobble=0)

    def thing(
        self, label: str, x: float, foot: float, height: float, lean: float = 0, stretch: float = 1
    ) -> "Pen":
        """Draws a thing in its own frame: x from its middle, y up from its foot, 1 high.

        Args:
          x: column of its middle, in pixels.
          foot: row that it stands on.
          height: in pixels.
          lean: radians, counter-clockwise.
          stretch: of its width; negative mirrors it.
        """
        sin, cos = np.sin(lean), np.cos(lean)
        matrix = np.array([[cos * stretch, -sin], [-sin * stretch, -cos]]) * height * SUPERSAMPLE
        return Pen(self, self._add(label), np.array([x, foot]) * SUPERSAMPLE, matrix, WOBBLE)

    def _add(self, label: str | None) -> int | None:
        if label is None:
            return None
        self.labels.append(label)
        return len(self.labels) - 1

    def fade(self, top: Color, bottom: Color, y0: float, y1: float) -> None:
        """Paints the rows from y0 to y1, in pixels, from one colour to another."""
        first, last = round(y0 * SUPERSAMPLE), round(y1 * SUPERSAMPLE)
        rows = np.linspace(top, bottom, last - first).clip(0, 255).astype(np.uint8)
        size = self.image.width, last - first
        column = Image.fromarray(rows[:, None])
        self.image.paste(column.resize(size, Image.Resampling.NEAREST), (0, first))

    def finish(self) -> tuple[Image.Image, np.ndarray]:
        """The photograph, and int32 [H, W], the thing that each pixel shows."""
        middle = slice(SUPERSAMPLE // 2, None, SUPERSAMPLE)
        thing_HW = np.asarray(self.map)[middle, middle]
        image_HW3 = np.asarray(self.image.reduce(SUPERSAMPLE), np.float32)
        image_HW3 *= self._texture(thing_HW)[..., None] * self._light()
        lens = ImageFilter.GaussianBlur(self.rng.uniform(0, BLUR))
        seen = Image.fromarray(image_HW3.clip(0, 255).astype(np.uint8)).filter(lens)
        noise_HW3 = self.rng.standard_normal(image_HW3.shape, np.float32)
        noisy_HW3 = seen + noise_HW3 * np.float32(self.rng.uniform(*NOISE))
        return Image.fromarray(noisy_HW3.clip(0, 255).astype(np.uint8)), thing_HW

    def _texture(self, thing_HW: np.ndarray) -> np.ndarray:
        """Float32 [H, W] around 1: each thing has its own blend of three patterns."""
        y_H1, x_1W = np.ogrid[: self.height, : self.width]
        across, down = self.rng.normal(0, 1.2, 2).astype(np.float32)
        stripes_HW = np.sin(y_H1 * down + x_1W * across)
        blend = self.rng.random((3, len(self.labels)), np.float32) ** 2
        blend *= np.float32(TEXTURE)[:, None]
        patterns = self._blotches(6), self._blotches(2), stripes_HW
        return 1 + sum(w[thing_HW] * pattern for w, pattern in zip(blend, patterns, strict=True))

    def _blotches(self, pixels: int) -> np.ndarray:
        """Float32 [H, W], smooth noise about `pixels` wide."""
        shape = self.height // pixels + 2, self.width // pixels + 2
        noise = Image.fromarray(self.rng.standard_normal(shape, np.float32))
        return np.asarray(noise.resize((self.width, self.height), Image.Resampling.BICUBIC))

    def _light(self) -> np.ndarray:
        """Float32 [H, W, 3] around 1: brightness, tint, and a slope across the picture."""
        down, across = self.rng.normal(0, LIGHT / 2, 2)
        rows_H = np.linspace(-down, down, self.height)
        slope_HW = np.add.outer(rows_H, np.linspace(-across, across, self.width))
        tint_3 = 1 + self.rng.normal(0, LIGHT) + self.rng.normal(0, LIGHT / 3, 3)
        return ((1 + slope_HW)[..., None] * tint_3).astype(np.float32)


@dataclass(frozen=True)
class Pen:
    """Draws one thing in the picture and in the map.

    Shapes take their points as x, y, x, y ...; a shape without colour is only in the map.
    """

    canvas: Canvas
    index: int | None
    """The thing's number in the map; None leaves the map as it is."""
    origin: np.ndarray
    matrix: np.ndarray
    """A point p is at `origin + matrix @ p` of the enlarged picture."""
    wobble: float

    @property
    def rng(self) -> np.random.Generator:
        """The canvas's generator."""
        return self.canvas.rng

    def pick(self, *materials: str) -> Color:
        """A random colour of one of these `MATERIALS`, each as likely."""
        low, high = np.array(MATERIALS[one_of(self.rng, materials)])
        hsv = low + (high - low) * self.rng.random(3)
        return 255 * np.array(colorsys.hsv_to_rgb(*hsv.tolist()))

    def chance(self, prob: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < prob)

    def fill(self, color: Color | None, *points: float) -> None:
        """A polygon."""
        self.fill_all(color, np.reshape(points, (-1, 2)))

    def fill_all(self, color: Color | None, corners: np.ndarray) -> None:
        """Any number of polygons, [..., P, 2] for P corners."""
        self._draw("polygon", color, corners)

    def box(self, color: Color | None, x0: float, y0: float, x1: float, y1: float) -> None:
        """A rectangle between two corners."""
        self.fill(color, x0, y0, x1, y0, x1, y1, x0, y1)

    def oval(self, color: Color | None, x: float, y: float, rx: float, ry: float) -> None:
        """An ellipse around (x, y)."""
        self.fill_all(color, CIRCLE * (rx, ry) + (x, y))

    def line(self, color: Color | None, width: float, *points: float) -> None:
        """A line as wide as `width`, at least `MIN_STROKE`."""
        enlarged = width * np.hypot(*self.matrix[:, 1])
        pixels = round(max(enlarged, MIN_STROKE * SUPERSAMPLE))
        self._draw("line", color, np.reshape(points, (-1, 2)), width=pixels, joint="curve")

    def _draw(self, shape: str, color: Color | None, points: np.ndarray, **options: Any) -> None:
        if self.wobble:
            points = points + self.rng.normal(0, self.wobble, points.shape)
        enlarged = points @ self.matrix.T + self.origin
        rows = enlarged.reshape(-1, 2 * points.shape[-2]).tolist()
        ink = None if color is None else tuple(color.clip(0, 255).astype(int).tolist())
        for brush, fill in zip(self.canvas.brushes, (ink, self.index), strict=True):
            for row in rows if fill is not None else ():
                getattr(brush, shape)(row, fill=fill, **options)


Painter = Callable[[Pen], None]
"""Draws one thing, each time a little different."""

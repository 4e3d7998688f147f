"""What has a class: one function a thing, or a view of it, in the frame of `Canvas.thing`."""

from itertools import pairwise

import numpy as np

from pipeline.data.drawing import scenery
from pipeline.data.drawing.canvas import CIRCLE, Pen

RED, AMBER, GREEN = np.array([(255, 40, 30), (255, 190, 40), (60, 255, 120)], float)


def person(pen: Pen) -> None:
    """Standing or walking, arms anywhere."""
    shirt, legs, skin, hair = map(pen.pick, ("paint", "paint", "skin", "dark"))
    skirt = pen.chance(0.2)
    for side in (-1, 1):
        foot = side * pen.rng.uniform(0.04, 0.15)
        pen.line(skin if skirt else legs, 0.09, side * 0.05, 0.48, foot, 0.25, foot, 0.03)
        pen.line(pen.pick("dark"), 0.06, foot, 0.02, foot + 0.06, 0.02)
        hand = side * pen.rng.uniform(0.13, 0.28), pen.rng.uniform(0.4, 0.75)
        pen.line(shirt * 0.85, 0.07, side * 0.12, 0.78, side * 0.19, 0.6, *hand)
        pen.oval(skin, *hand, 0.035, 0.035)
    if skirt:
        pen.fill(legs, -0.08, 0.55, 0.08, 0.55, 0.15, 0.3, -0.15, 0.3)
    else:
        pen.box(legs, -0.095, 0.42, 0.095, 0.55)
    pen.fill(shirt, -0.14, 0.82, 0.14, 0.82, 0.1, 0.48, -0.1, 0.48)
    pen.box(skin * 0.9, -0.03, 0.8, 0.03, 0.86)
    pen.oval(hair, 0, 0.93, 0.075, 0.08)
    pen.oval(skin, 0.015, 0.91, 0.058, 0.07)


def rider(pen: Pen) -> None:
    """Someone with a bright helmet on a bicycle, to be drawn over it."""
    shirt, legs, skin = map(pen.pick, ("paint", "paint", "skin"))
    for knee, foot in ((0.1, 0.02), (0.16, 0.14)):
        pen.line(legs, 0.1, -0.14, 0.56, knee, 0.42, foot, 0.14)
    pen.line(shirt, 0.17, -0.13, 0.58, 0.03, 0.8)
    pen.line(shirt * 0.85, 0.07, 0.04, 0.78, 0.16, 0.64, 0.25, 0.6)
    pen.oval(skin, 0.1, 0.91, 0.065, 0.075)
    pen.oval(pen.pick("light"), 0.08, 0.95, 0.085, 0.055)


def bicycle(pen: Pen) -> None:
    """Its wheels are marked as discs: what is seen between the spokes counts as the bicycle."""
    frame, rubber = pen.pick("paint"), pen.pick("dark")
    for x in (-0.52, 0.52):
        rim = CIRCLE * 0.33 + (x, 0.36)
        pen.oval(None, x, 0.36, 0.36, 0.36)
        pen.line(rubber, 0.07, *rim.ravel(), *rim[:2].ravel())
    pen.line(frame, 0.07, -0.52, 0.36, -0.2, 0.8, 0.35, 0.8, -0.02, 0.34, -0.52, 0.36)
    pen.line(frame, 0.07, -0.02, 0.34, -0.2, 0.8, -0.22, 0.92)
    pen.line(frame, 0.07, 0.52, 0.36, 0.34, 0.98, 0.48, 1.0)
    pen.line(rubber, 0.1, -0.34, 0.95, -0.12, 0.95)


def wheel(pen: Pen, x: float, radius: float) -> None:
    """A tyre with its hub, standing on the ground."""
    pen.oval(pen.pick("dark"), x, radius, radius, radius)
    pen.oval(pen.pick("metal"), x, radius, radius * 0.45, radius * 0.45)


def car_side(pen: Pen) -> None:
    """A saloon from the side; where its roof ends makes it an estate."""
    paint, glass, tail = pen.pick("paint"), pen.pick("glass"), pen.rng.uniform(-1.25, -0.8)
    pen.fill(paint, tail, 0.55, -0.55, 1, 0.3, 1, 0.75, 0.58)
    pen.fill(glass, tail + 0.2, 0.6, -0.5, 0.93, -0.14, 0.93, -0.14, 0.6)
    pen.fill(glass, -0.06, 0.6, -0.06, 0.93, 0.27, 0.93, 0.58, 0.6)
    pen.fill(paint * 0.93, -1.4, 0.2, -1.4, 0.6, 0.8, 0.6, 1.3, 0.48, 1.4, 0.2)
    pen.box(pen.pick("light"), 1.25, 0.36, 1.36, 0.46)
    for x in (-0.85, 0.85):
        wheel(pen, x, 0.24)


def car_behind(pen: Pen) -> None:
    """A car from behind, with its rear lights and its plate."""
    paint, tyre = pen.pick("paint"), pen.pick("dark")
    for x in (-0.42, 0.42):
        pen.box(tyre, x - 0.1, 0, x + 0.1, 0.3)
    pen.fill(paint, -0.45, 0.6, -0.36, 1, 0.36, 1, 0.45, 0.6)
    pen.fill(pen.pick("glass"), -0.37, 0.62, -0.3, 0.93, 0.3, 0.93, 0.37, 0.62)
    pen.box(paint * 0.9, -0.56, 0.18, 0.56, 0.64)
    for x in (-0.45, 0.45):
        pen.box(RED * 0.8, x - 0.08, 0.45, x + 0.08, 0.57)
    pen.box(pen.pick("pale"), -0.15, 0.3, 0.15, 0.42)


def bus_side(pen: Pen) -> None:
    """A row of windows, a stripe, and a door."""
    paint, glass, half = pen.pick("paint"), pen.pick("glass"), pen.rng.uniform(1.1, 1.5)
    pen.box(paint, -half, 0.1, half, 1)
    pen.box(pen.pick("paint"), -half, 0.3, half, 0.4)
    for x0, x1 in pairwise(np.linspace(-half, half - 0.28, 7)):
        pen.box(glass, x0 + 0.05, 0.5, x1 - 0.03, 0.86)
    pen.box(glass * 0.8, half - 0.26, 0.14, half - 0.05, 0.86)
    for x in (-half * 0.62, half * 0.6):
        wheel(pen, x, 0.15)


def bus_front(pen: Pen) -> None:
    """A tall windscreen under the line's display."""
    tyre, display = pen.pick("dark"), pen.pick("dark")
    for x in (-0.3, 0.3):
        pen.box(tyre, x - 0.07, 0, x + 0.07, 0.15)
    pen.box(pen.pick("paint"), -0.42, 0.07, 0.42, 1)
    pen.box(pen.pick("glass"), -0.37, 0.4, 0.37, 0.8)
    pen.box(display, -0.3, 0.85, 0.3, 0.95)
    pen.box(pen.pick("light"), -0.2, 0.88, 0.2, 0.92)
    for x in (-0.32, 0.32):
        pen.oval(pen.pick("pale"), x, 0.22, 0.06, 0.05)


def aeroplane(pen: Pen) -> None:
    """From the side: a tube with a fin, swept wings, engines and a row of windows."""
    hull, trim, glass = pen.pick("pale", "paint"), pen.pick("paint"), pen.pick("glass")
    pen.fill(hull * 0.7, 0.2, 0.5, -0.25, 0.85, -0.45, 0.85, -0.15, 0.5)
    pen.fill(trim, -0.75, 0.5, -1.25, 1, -1.45, 1, -1.3, 0.45)
    pen.oval(hull, 0.9, 0.42, 0.5, 0.17)
    pen.fill(hull, -1.4, 0.55, 1, 0.59, 1, 0.25, -0.6, 0.25)
    pen.fill(hull * 0.75, -0.95, 0.5, -1.5, 0.62, -1.6, 0.56, -1.2, 0.42)
    pen.line(glass, 0.05, -0.8, 0.46, 0.9, 0.46)
    pen.fill(glass, 1.1, 0.5, 1.28, 0.44, 1.1, 0.42)
    pen.oval(trim * 0.8, 0.1, 0.16, 0.2, 0.09)
    pen.fill(hull * 0.8, 0.4, 0.36, -0.6, 0, -0.85, 0, -0.35, 0.36)


def bird_flying(pen: Pen) -> None:
    """Both wings up."""
    body, beak, tip = pen.pick("paint"), pen.pick("light"), pen.rng.uniform(0.8, 1)
    wing = body * pen.rng.uniform(0.5, 0.8)
    pen.fill(wing, 0.12, 0.4, 0.1, 0.7, 0.45, tip, 0.3, 0.65, -0.15, 0.4)
    pen.fill(body, -0.3, 0.4, -0.75, 0.5, -0.8, 0.32, -0.3, 0.28)
    pen.oval(body, 0, 0.36, 0.4, 0.13)
    pen.oval(body, 0.4, 0.42, 0.13, 0.12)
    pen.fill(beak, 0.48, 0.47, 0.72, 0.4, 0.48, 0.36)
    pen.fill(wing * 0.85, 0.2, 0.42, 0, 0.68, -0.55, tip, -0.5, 0.7, -0.2, 0.38)


def bird_standing(pen: Pen) -> None:
    """On two thin legs, its wing folded."""
    body, beak = pen.pick("paint"), pen.pick("light")
    wing = body * pen.rng.uniform(0.5, 0.8)
    for x in (-0.03, 0.08):
        pen.line(beak * 0.8, 0.04, x, 0.3, x, 0.02, x + 0.08, 0.01)
    pen.fill(wing, -0.2, 0.55, -0.65, 0.3, -0.6, 0.18, -0.1, 0.35)
    pen.oval(body, -0.02, 0.47, 0.3, 0.22)
    pen.fill(body, 0, 0.6, 0.14, 0.88, 0.32, 0.8, 0.24, 0.5)
    pen.oval(body, 0.22, 0.85, 0.14, 0.13)
    pen.fill(beak, 0.32, 0.9, 0.55, 0.82, 0.32, 0.78)
    pen.oval(pen.pick("dark"), 0.25, 0.88, 0.03, 0.03)
    pen.fill(wing, 0.12, 0.55, -0.4, 0.42, -0.05, 0.32)


def sailing_boat(pen: Pen) -> None:
    """Two sails on a mast."""
    hull, sail = pen.pick("paint"), pen.pick("pale")
    pen.line(pen.pick("wood"), 0.03, 0, 0.15, 0, 1)
    pen.fill(sail, -0.03, 0.97, -0.03, 0.27, -0.42, 0.27)
    pen.fill(sail * 0.88, 0.03, 0.9, 0.03, 0.27, 0.4, 0.24)
    pen.fill(hull, -0.5, 0.2, 0.6, 0.2, 0.4, 0, -0.38, 0)
    pen.line(pen.pick("pale"), 0.03, -0.5, 0.2, 0.6, 0.2)


def motor_boat(pen: Pen) -> None:
    """A cabin with windows, a funnel and an aerial."""
    hull, trim, glass = map(pen.pick, ("paint", "pale", "glass"))
    pen.line(pen.pick("metal"), 0.03, -0.15, 0.5, -0.15, 0.9)
    pen.box(trim, -0.38, 0.25, 0.25, 0.52)
    for x in (-0.32, -0.11, 0.08):
        pen.box(glass, x, 0.33, x + 0.13, 0.46)
    pen.box(hull * 0.8, -0.03, 0.52, 0.09, 0.66)
    pen.fill(hull, -0.72, 0.3, 0.84, 0.33, 0.6, 0, -0.62, 0)
    pen.line(trim, 0.03, -0.7, 0.23, 0.78, 0.25)


def bottle(pen: Pen) -> None:
    """A body, shoulders, a neck and a cap; most with a label."""
    glass = pen.pick("leaf", "paint")
    pen.box(glass, -0.06, 0.6, 0.06, 0.93)
    pen.fill(glass, -0.16, 0.56, 0.16, 0.56, 0.06, 0.74, -0.06, 0.74)
    pen.box(glass, -0.16, 0.02, 0.16, 0.58)
    pen.box(glass * 1.4 + 20, -0.12, 0.05, -0.07, 0.55)
    if pen.chance(0.7):
        pen.box(pen.pick("pale"), -0.16, 0.18, 0.16, 0.42)
    pen.box(pen.pick("paint"), -0.07, 0.9, 0.07, 1)


def pottedplant(pen: Pen) -> None:
    """Blades or leaves, some in flower, out of a pot; the class has the pot too."""
    leaf, flower = pen.pick("leaf"), pen.pick("light")
    has_blades, has_flowers = pen.chance(0.4), pen.chance(0.4)
    for angle in np.linspace(-1.1, 1.1, 7) + pen.rng.normal(0, 0.12, 7):
        x, y = 0.5 * np.sin(angle), 0.36 + 0.56 * np.cos(angle) * pen.rng.uniform(0.75, 1.05)
        shade = leaf * pen.rng.uniform(0.75, 1.15)
        if has_blades:
            pen.fill(shade, -0.06, 0.33, x, y, 0.06, 0.33)
        else:
            pen.line(leaf * 0.7, 0.04, 0, 0.33, x, y)
            pen.oval(shade, x, y, 0.13, 0.11)
        if has_flowers:
            pen.oval(flower, x, y, 0.06, 0.06)
    scenery.pot(pen)


def tvmonitor(pen: Pen) -> None:
    """A frame on a foot; it shows a landscape, or is off."""
    frame = pen.pick("dark", "metal")
    pen.box(frame, -0.3, 0, 0.3, 0.06)
    pen.box(frame * 0.8, -0.07, 0.04, 0.07, 0.2)
    pen.box(frame, -0.72, 0.17, 0.72, 1)
    if pen.chance(0.65):
        pen.box(pen.pick("sky"), -0.63, 0.27, 0.63, 0.92)
        pen.fill(pen.pick("paint"), -0.63, 0.27, 0.63, 0.27, 0.63, 0.5, 0.1, 0.7, -0.63, 0.45)
        pen.oval(pen.pick("light"), pen.rng.uniform(-0.4, 0.4), 0.75, 0.1, 0.1)
    else:
        pen.box(pen.pick("glass") * 0.5, -0.63, 0.27, 0.63, 0.92)
        pen.fill(pen.pick("glass"), -0.5, 0.92, -0.25, 0.92, -0.5, 0.45)


def sign_disc(pen: Pen) -> None:
    """A round traffic sign, where its mast ends."""
    pen.oval(pen.pick("paint"), 0, 0.83, 0.19, 0.19)
    pen.oval(pen.pick("pale"), 0, 0.83, 0.1, 0.1)


def sign_triangle(pen: Pen) -> None:
    """A warning."""
    pen.fill(pen.pick("paint"), -0.22, 0.65, 0.22, 0.65, 0, 1.02)
    pen.fill(pen.pick("pale"), -0.11, 0.71, 0.11, 0.71, 0, 0.92)


def sign_square(pen: Pen) -> None:
    """A direction."""
    pen.box(pen.pick("paint"), -0.19, 0.66, 0.19, 1)
    pen.line(pen.pick("pale"), 0.07, -0.12, 0.83, 0.12, 0.83)


def traffic_light(pen: Pen) -> None:
    """Three lamps where the mast ends, one of them lit."""
    pen.box(pen.pick("dark"), -0.1, 0.58, 0.1, 1)
    lit = pen.rng.integers(3)
    for k, lamp in enumerate((RED, AMBER, GREEN)):
        pen.oval(lamp if k == lit else lamp * 0.3, 0, 0.92 - 0.13 * k, 0.06, 0.055)

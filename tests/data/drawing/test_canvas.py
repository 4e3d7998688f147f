"""The canvas: what is painted is marked, pixel by pixel."""

import numpy as np
import pytest

from pipeline.data.drawing.canvas import Canvas

RED = np.array([250.0, 0, 0])


@pytest.fixture
def canvas() -> Canvas:
    """8 x 6 pixels of background."""
    canvas = Canvas(8, 6, np.random.default_rng(0))
    canvas.plane("background")
    return canvas


def test_a_box_marks_the_pixels_that_it_paints(canvas: Canvas) -> None:
    canvas.plane("box").box(RED, 2, 1, 5, 4)
    image, thing_HW = canvas.finish()
    want_HW = np.zeros((6, 8), int)
    want_HW[1:4, 2:5] = 1
    np.testing.assert_array_equal(thing_HW, want_HW)
    assert canvas.labels == ["background", "box"]
    red_HW = np.asarray(image)[..., 0]
    assert red_HW[2, 3] > 150 > red_HW[5, 7]


def test_paint_without_a_label_belongs_to_what_it_covers(canvas: Canvas) -> None:
    canvas.plane(None).box(RED, 0, 0, 8, 6)
    image, thing_HW = canvas.finish()
    assert not thing_HW.any()
    assert np.asarray(image)[..., 0].mean() > 150


def test_a_shape_without_colour_is_only_marked(canvas: Canvas) -> None:
    canvas.plane("glass").box(None, 0, 0, 8, 6)
    image, thing_HW = canvas.finish()
    assert (thing_HW == 1).all()
    assert np.asarray(image).mean() < 20


def test_a_thing_stands_on_its_foot_and_a_negative_stretch_mirrors_it() -> None:
    marked = {}
    for stretch in (1, -1):
        canvas = Canvas(40, 40, np.random.default_rng(0))
        canvas.plane("background")
        canvas.thing("half", 20, 30, height=20, stretch=stretch).box(RED, 0, 0, 0.5, 1)
        y, x = np.nonzero(canvas.finish()[1])
        assert y.min() == pytest.approx(10, abs=1)
        assert y.max() == pytest.approx(29, abs=1)
        marked[stretch] = x
    assert marked[1].min() >= 19
    assert marked[1].max() == pytest.approx(29, abs=1)
    assert marked[-1].max() <= 20
    assert marked[-1].min() == pytest.approx(10, abs=1)


def test_the_thinnest_line_is_seen_whole() -> None:
    canvas = Canvas(20, 20, np.random.default_rng(0))
    canvas.plane("background")
    canvas.plane("pole").line(RED, 0.01, 10.3, 0, 10.3, 20)
    thing_HW = canvas.finish()[1]
    assert set(thing_HW.sum(axis=1).tolist()) <= {1, 2}
    assert thing_HW.any(axis=1).all()


def test_a_fade_reaches_both_colours(canvas: Canvas) -> None:
    canvas.fade(np.zeros(3), RED, 1, 5)
    column = np.asarray(canvas.image)[:, 0, 0]
    assert column[:4].max() == 0
    assert (column[4], column[19]) == (0, 250)
    assert (np.diff(column[4:20].astype(int)) >= 0).all()
    assert column[20:].max() == 0

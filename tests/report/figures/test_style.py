import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from pipeline.report.style import LINES, SMALL, line, lines, style


def test_every_setting_is_one_of_matplotlib():
    with matplotlib.rc_context(style()):
        assert matplotlib.rcParams["savefig.dpi"] == 200


def test_no_size_of_text_is_below_the_smallest():
    sizes = [value for key, value in style().items() if key.endswith(("size", "font.size"))]
    assert len(sizes) >= 5
    assert min(sizes) >= SMALL


def test_lines_are_told_apart_and_seen_on_white():
    colors = np.array([to_rgb(color) for color in LINES])
    distance = np.abs(colors[:, None] - colors).max(axis=-1) + np.eye(len(LINES))
    assert distance.min() > 0.2
    assert (colors @ [0.2126, 0.7152, 0.0722]).max() < 0.75


def test_colours_begin_again():
    assert line(len(LINES) + 1) == line(1) == LINES[1]


@pytest.mark.parametrize(
    ("num", "expected"), [(1, [0]), (2, [0, 1]), (3, [0, 2, 1]), (4, [0, 2, 3, 1])]
)
def test_the_first_and_the_last_run_keep_their_colours(num, expected):
    assert lines(num) == [LINES[k] for k in expected]

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline.report.drawing import (
    HATCH,
    canvas,
    caption,
    colored,
    darkened,
    exactly,
    hatch,
    legend_below,
    measured,
    name_points,
    patches,
    said,
    width_of,
)
from pipeline.typed import ConfigError, InputError

COLORS = np.array([[0, 0, 0], [220, 220, 0], [255, 255, 255], [119, 11, 32]], np.uint8)


def contrast_to_white(color):
    """As WCAG 2.1 defines it, one channel after another."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def test_labels_have_their_class_colours_and_the_ignored_are_white():
    got = colored(np.array([[0, 3], [1, 255]], np.uint8), COLORS)
    assert got.tolist() == [[[0, 0, 0], [119, 11, 32]], [[220, 220, 0], [255, 255, 255]]]
    assert colored(np.array([[255]]), COLORS, (1, 2, 3)).tolist() == [[[1, 2, 3]]]


def test_light_colours_are_darkened_and_dark_ones_stay():
    got = darkened(COLORS)
    assert np.allclose(got[[0, 3]], COLORS[[0, 3]] / 255)
    assert contrast_to_white(got[1]) == pytest.approx(3)
    assert contrast_to_white(got[2]) == pytest.approx(3)
    assert got[1][0] == got[1][1] > 0.4  # still yellow
    assert got[1][2] == 0


def test_a_caption_is_broken_into_lines_that_fit(spec_of):
    figure, _ = canvas(2, 2)
    caption(figure, spec_of("tail"), "Many words follow each other here.", "", "The end.")
    lines = figure._supxlabel.get_text().split("\n")
    assert len(lines) > 1
    assert all(width_of(text) < 1.8 for text in lines)
    assert " ".join(lines) == "A title. Many words follow each other here. The end."


def test_legend_and_caption_add_to_the_height(spec_of):
    figure, body = canvas(2)
    legend_below(body, patches(COLORS), ["a", "b", "c", "d"])
    assert figure.get_figheight() > 2.2
    height = figure.get_figheight()
    caption(figure, spec_of("tail"))
    assert figure.get_figheight() > height


@pytest.mark.parametrize(("width", "columns"), [(7, 4), (1, 1)])
def test_a_legend_has_the_columns_that_fit(width, columns):
    _, body = canvas(2, width)
    legend_below(body, patches(COLORS), ["a long name", "b", "c", "d"])
    assert body.legends[0]._ncols == columns


def test_names_stand_apart_and_clear_of_the_points():
    axis = Figure((4, 3)).subplots()
    place = np.array([[0.5, 0.5], [0.52, 0.5], [0.51, 0.52], [0.99, 0.1]])
    name_points(axis, place, ["one", "two", "three", "a long name at the edge"])
    boxes = [text.get_window_extent() for text in axis.texts]
    assert [text.get_text() for text in axis.texts][:3] == ["one", "two", "three"]
    assert not any(
        a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]
    )  # fmt: skip
    points = axis.transData.transform(place)
    assert not any(box.contains(x, y) for box in boxes for x, y in points)
    assert boxes[3].x1 <= axis.bbox.x1


def test_hatching_is_drawn_only_where_there_is_something():
    figure = Figure()
    axis = figure.subplots()
    hatch(axis, np.zeros((2, 2), bool))
    assert not axis.collections
    hatch(axis, np.eye(2, dtype=bool))
    assert axis.collections[0].hatches == [HATCH]


@pytest.mark.parametrize(("name", "text"), [("gen_teacher", "Gen-Teacher"), ("student", "student")])
def test_networks_have_names(name, text):
    assert said(name) == text


def test_the_number_of_runs_is_checked(spec_of, both):
    assert exactly(2, spec_of("gain", both)) == list(both.values())
    with pytest.raises(ConfigError, match="2 runs; a figure of kind curves shows 1"):
        exactly(1, spec_of("curves", both))


def test_a_run_without_metrics_is_named(results):
    with pytest.raises(InputError, match="run other is not measured; run `dvc repro evaluate@oth"):
        measured(results, "other")

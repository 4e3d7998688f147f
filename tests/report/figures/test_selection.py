import numpy as np
import pytest

from pipeline.report.figures import selection
from pipeline.typed import ConfigError, InputError
from tests.report.figures.reading import caption_of, legend_of
from tests.report.study import BASE, COLORS, SNAPSHOT


def pictures(figure):
    """Of each row the five pictures."""
    axes = np.array(figure.axes).reshape(-1, 6)
    return [[axis.images[0].get_array() for axis in row[:5]] for row in axes]


def test_label_maps_are_in_class_colours_and_padding_is_grey(results, spec_of):
    rows = pictures(selection.draw(spec_of("selection"), results))
    grey = [200, 200, 200]
    assert rows[0][1].tolist() == [[COLORS[0]] * 2 + [grey, COLORS[2], COLORS[1]]]
    assert rows[0][2].tolist() == [[COLORS[0]] * 3 + [COLORS[2], COLORS[0]]]
    assert rows[0][3].tolist() == [[COLORS[0]] * 4 + [COLORS[1]]]
    assert rows[1][1].tolist() == [[grey] * 5]
    assert rows[1][2].tolist()[0][4] == rows[1][3].tolist()[0][4] == grey
    assert rows[0][0].tolist() == [[[100, 100, 100]] * 5]


def test_the_map_tells_the_parts_apart(results, spec_of):
    (row, other) = pictures(selection.draw(spec_of("selection"), results))
    got = row[4].astype(int)
    # over the pale image, 255 - 155 / 2 = 177.5: consistent 0.45, highly and low mismatched 0.9
    for place, color, strength in (
        (0, (150, 205, 190), 0.45),
        (3, (213, 94, 0), 0.9),
        (4, (0, 114, 178), 0.9),
    ):
        expected = strength * np.array(color) + (1 - strength) * 177.5
        assert np.abs(got[0, place] - expected).max() <= 0.5
    assert other[4].tolist()[0][4] == [200, 200, 200]


def test_shares_and_right_ones_by_hand(results, spec_of):
    figure = selection.draw(spec_of("selection"), results)
    legends = [axis.get_legend() for axis in figure.axes if axis.get_legend()]
    first, second = ([text.get_text() for text in legend.get_texts()] for legend in legends)
    # of five pixels three are consistent, whose truth is known of two; the high one is right
    assert first == [
        "consistent\nselected: 60.0 %, 100 % right",
        "highly mismatched\nselected: 20.0 %, 100 % right",
        "low mismatched\nrejected: 20.0 %, 0 % right",
    ]
    # four pixels that are no padding; no truth is known
    assert second[0] == "consistent\nselected: 100.0 %"
    assert second[1] == "highly mismatched\nrejected: 0.0 %"


def test_the_legend_has_the_classes_that_occur_and_padding(results, spec_of):
    figure = selection.draw(spec_of("selection"), results)
    names = legend_of(figure)
    assert names == ["road", "sky", "traffic sign", "padding, or no truth"]


def test_as_many_images_as_asked_for_and_there_are(results, spec_of):
    assert len(selection.draw(spec_of("selection", num=1), results).axes) == 6
    assert len(selection.draw(spec_of("selection", num=9), results).axes) == 12
    caption = caption_of(selection.draw(spec_of("selection", num=1), results))
    assert "First image of" in caption
    assert len(SNAPSHOT["part_NHW"]) == 2


def test_no_image_is_refused(results, spec_of):
    with pytest.raises(ConfigError, match=r"options\.num: 0; expected at least 1"):
        selection.draw(spec_of("selection", num=0), results)


def test_a_method_without_snapshot_is_refused(results, spec_of):
    with pytest.raises(InputError, match=r"snapshot\.npz: missing"):
        selection.draw(spec_of("selection", {"Sup.": BASE}), results)

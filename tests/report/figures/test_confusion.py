import numpy as np
import pytest
from matplotlib.patches import Rectangle

from pipeline.report.figures import confusion
from pipeline.typed import InputError
from tests.report.figures.reading import caption_of
from tests.report.study import BASE, CLASSES, SNAPSHOT


@pytest.fixture
def axes(results, spec_of):
    return confusion.draw(spec_of("confusion"), results).axes


def test_rows_are_the_students_and_in_percent(axes):
    shown = axes[0].images[0].get_array()
    assert shown.filled(-1).tolist() == [
        [75, -1, 25, -1], [50, 50, -1, -1], [-1, -1, -1, -1], [-1, -1, -1, -1],
    ]  # fmt: skip
    assert axes[0].get_ylabel() == "Pro-Student predicts"
    assert axes[0].get_xlabel() == "Gen-Teacher predicts"
    assert [label.get_text() for label in axes[0].get_yticklabels()] == CLASSES
    assert [label.get_text() for label in axes[0].get_xticklabels()] == CLASSES


def test_the_colours_are_logarithmic(axes):
    norm = axes[0].images[0].norm
    assert norm(10) - norm(1) == pytest.approx(norm(100) - norm(10))
    assert norm(0.01) == norm(0.1)  # what is less is shown like the least


def test_the_diagonal_is_outlined(axes):
    squares = [patch for patch in axes[0].patches if isinstance(patch, Rectangle)]
    assert [square.get_xy() for square in squares] == [(k - 0.5, k - 0.5) for k in range(4)]


def test_bars_are_the_scores_in_the_same_order(axes):
    bars, rest = axes[1].patches[:4], axes[1].patches[4:]
    assert np.allclose([bar.get_width() for bar in bars], [2 / 8, 1 / 2, 0, 0])
    assert np.allclose([bar.get_width() for bar in rest], [1 / 7, 0, 1, 0])
    ends = [bar.get_x() + bar.get_width() for bar in rest]
    assert np.allclose(ends, SNAPSHOT["score_C"])
    assert axes[1].get_xlim() == (0, 2)
    assert [bar.get_y() + bar.get_height() / 2 for bar in bars] == pytest.approx([0, 1, 2, 3])
    assert axes[0].get_ylim() == axes[1].get_ylim() == (3.5, -0.5)


def test_a_class_that_nobody_predicts_is_said_to_be_so(axes):
    assert [(text.get_text(), text.xy) for text in axes[1].texts] == [("not predicted", (0, 3))]


def test_the_caption_counts(results, spec_of):
    text = caption_of(confusion.draw(spec_of("confusion"), results))
    assert "seed 1, step 8): 10, of which 70.0 % consistent" in text


def test_a_method_without_snapshot_is_refused(results, spec_of):
    with pytest.raises(InputError, match=r"snapshot\.npz: missing"):
        confusion.draw(spec_of("confusion", {"Sup.": BASE}), results)

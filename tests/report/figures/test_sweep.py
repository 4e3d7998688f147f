import numpy as np
import pytest

from pipeline.report.figures import sweep
from pipeline.typed import ConfigError, InputError
from tests.report.figures.reading import caption_of
from tests.report.study import BASE, OURS

RUNS = {"0": BASE, "0.5": "never", "1": OURS}


def marks(axis):
    """Places and heights of a panel's markers."""
    return axis.lines[0].get_xydata().tolist()


def test_means_and_deviations_at_even_places(results, spec_of):
    axis = sweep.draw(spec_of("sweep", RUNS, axis="N"), results).axes[0]
    # seeds of the base 0.5 (3 times); of ours 0.525 and 0.475
    assert np.allclose(marks(axis), [[0, 50], [1, 50]])
    (bars,) = axis.containers[0].lines[2]
    heights = [np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments()]
    assert heights == pytest.approx([0, 100 * 0.05 / 2**0.5])


def test_values_without_measurement_are_left_out_and_named(results, spec_of):
    figure = sweep.draw(spec_of("sweep", RUNS, axis="N"), results)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "1"]
    assert "Not measured: 0.5." in caption_of(figure)
    assert "2 or 3 a value" in caption_of(figure)


def test_published_values_have_a_panel_of_their_own(results, spec_of):
    published = {"1": 75.14, "0.5": 72.5}
    figure = sweep.draw(spec_of("sweep", RUNS, axis="lambda_u", published=published), results)
    measured, quoted = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["measured", "published"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["lambda_u", "lambda_u"]
    assert measured.get_ylabel() == "mIoU (%)"
    assert [label.get_text() for label in quoted.get_xticklabels()] == ["0.5", "1"]  # as in runs
    assert np.allclose(marks(quoted), [[0, 72.5], [1, 75.14]])
    assert [text.get_text() for text in quoted.texts] == ["72.5", "75.1"]
    assert measured.get_ylim() != quoted.get_ylim()


def test_without_published_values_there_is_one_panel(results, spec_of):
    figure = sweep.draw(spec_of("sweep", RUNS, axis="N"), results)
    assert len(figure.axes) == 1
    assert figure.get_figwidth() == 3.5


def test_one_seed_has_no_bar(results, spec_of):
    for run in (BASE, OURS):
        results.metrics[run]["seeds"] = results.metrics[run]["seeds"][:1]
    axis = sweep.draw(spec_of("sweep", RUNS, axis="N"), results).axes[0]
    (bars,) = axis.containers[0].lines[2]
    assert not any(np.size(segment) for segment in bars.get_segments())


def test_nothing_measured_is_said(results, spec_of):
    runs = {"1": "never", "2": "nor this"}
    with pytest.raises(InputError, match=r"none of its runs is measured \(never, nor this\)"):
        sweep.draw(spec_of("sweep", runs, axis="N", published={"1": 70.0}), results)


def test_a_published_value_that_is_not_swept_is_refused(results, spec_of):
    with pytest.raises(ConfigError, match=r"options\.published: '0,5' .* did you mean '0\.5'"):
        sweep.draw(spec_of("sweep", RUNS, axis="N", published={"0,5": 72.5}), results)


def test_the_axis_has_to_be_named(results, spec_of):
    with pytest.raises(ConfigError, match=r"options\.axis: missing; expected text"):
        sweep.draw(spec_of("sweep", RUNS), results)

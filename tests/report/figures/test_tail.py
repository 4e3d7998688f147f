from itertools import pairwise

import numpy as np
import pytest

from pipeline.report.figures import tail
from pipeline.report.figures.tail import rarest_classes
from pipeline.typed import ConfigError, InputError
from tests.report.figures.reading import caption_of, legend_of
from tests.report.study import OURS


def test_bars_and_deviations_by_hand(results, spec_of, both):
    axis = tail.draw(spec_of("tail", both, num=2), results).axes[0]
    bars = [container for container in axis.containers if hasattr(container, "patches")]
    # traffic sign, then sky; seeds 0, 1, 2 of the one and 0, 1 of the other
    assert [bar.get_height() for bar in bars[0]] == pytest.approx([30, 50])
    assert [bar.get_height() for bar in bars[1]] == pytest.approx([45, 60])
    segments = bars[0].errorbar.lines[2][0].get_segments()
    # deviations of 10, 30, 50 and of 60, 40, 50
    assert [np.ptp(line[:, 1]) / 2 for line in segments] == pytest.approx([20, 10])
    segments = bars[1].errorbar.lines[2][0].get_segments()
    assert np.ptp(segments[0][:, 1]) / 2 == pytest.approx(450**0.5)  # of 30 and 60


def test_groups_are_the_rarest_classes_with_their_shares(results, spec_of, both):
    figure = tail.draw(spec_of("tail", both), results)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["traffic\nsign\n10.0 %", "sky\n30.0 %", "road\n60.0 %"]  # there is no bus
    assert "The 3 classes" in caption_of(figure)


def test_the_legend_has_the_runs_in_order_with_their_means(results, spec_of, both):
    backwards = dict(reversed(both.items()))
    figure = tail.draw(spec_of("tail", backwards, num=2), results)
    texts = legend_of(figure)
    assert texts == ["STPG (mean 52.5; 2 seeds)", "Sup. (mean 40.0; 3 seeds)"]


def test_one_seed_has_no_error_bar(results, spec_of):
    results.metrics[OURS]["seeds"] = results.metrics[OURS]["seeds"][:1]
    axis = tail.draw(spec_of("tail"), results).axes[0]
    assert axis.containers[0].errorbar is None
    assert "1 seed)" in axis.containers[0].get_label()


def test_groups_do_not_overlap(results, spec_of, both):
    axis = tail.draw(spec_of("tail", both), results).axes[0]
    bars = axis.patches
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars)
    assert all(one[1] < next_[0] for one, next_ in pairwise(spans))
    assert [round(sum(span) / 2) for span in spans] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("pixels", "num", "expected"),
    [([5, 0, 3, 4], 2, [2, 3]), ([5, 0, 3, 4], 9, [2, 3, 0]), ([2, 1, 1], 2, [1, 2])],
)
def test_rarest_classes(pixels, num, expected):
    assert rarest_classes(np.array(pixels), num) == expected


def test_a_run_that_is_not_measured_is_named(results, spec_of):
    del results.metrics[OURS]
    with pytest.raises(InputError, match=f"run {OURS} is not measured"):
        tail.draw(spec_of("tail"), results)


def test_no_class_is_refused(results, spec_of):
    with pytest.raises(ConfigError, match=r"options\.num: 0; expected at least 1"):
        tail.draw(spec_of("tail", num=0), results)

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from pipeline.artifacts import write_arrays
from pipeline.report.figures import gain, kind_of
from pipeline.report.figures.gain import correlation
from pipeline.typed import InputError
from tests.report.figures.reading import caption_of
from tests.report.study import BASE, CLASSES, OURS


def points(axis):
    """Share and gain of each class, in their order."""
    return [line.get_xydata()[0].tolist() for line in axis.lines if line.get_marker() in "os^Dv"]


def test_gains_over_common_seeds_by_hand(results, spec_of, both):
    axis = gain.draw(spec_of("gain", both), results).axes[0]
    # seeds 0 and 1: road 0, 10; sky 0, 20; traffic sign 20, 30; the labelled images have no bus
    assert np.allclose(points(axis), [[60, 5], [30, 10], [10, 25]])
    bars = [container.lines[2][0].get_segments()[0] for container in axis.containers]
    heights = [np.ptp(bar[:, 1]) / 2 for bar in bars]
    assert heights == pytest.approx([50**0.5, 200**0.5, 50**0.5])


def test_the_second_run_gains_over_the_first(results, spec_of, both):
    backwards = dict(reversed(both.items()))
    axis = gain.draw(spec_of("gain", backwards), results).axes[0]
    assert np.allclose([y for _, y in points(axis)], [-5, -10, -25])
    assert axis.get_ylabel() == "gain in IoU, Sup. over STPG (points)"


def test_one_common_seed_has_no_error_bars(results, spec_of, both):
    results.metrics[OURS]["seeds"] = results.metrics[OURS]["seeds"][:1]  # seed 1
    figure = gain.draw(spec_of("gain", both), results)
    assert np.allclose(points(figure.axes[0]), [[60, 10], [30, 20], [10, 30]])
    assert not any(container.has_yerr for container in figure.axes[0].containers)
    assert "1 common seed (no error bars)" in caption_of(figure)


def test_axes_names_and_the_line_of_no_gain(results, spec_of, both):
    axis = gain.draw(spec_of("gain", both), results).axes[0]
    assert axis.get_xscale() == "log"
    assert [text.get_text() for text in axis.texts] == CLASSES[:3]
    assert any(set(line.get_ydata()) == {0} for line in axis.lines)


def test_the_caption_has_the_correlation(results, spec_of, both):
    text = caption_of(gain.draw(spec_of("gain", both), results))
    assert "Spearman rank correlation of share and gain -1.00" in text  # the rarer, the more
    assert "3 classes" in text


def test_correlation_is_scipys():
    share, gained = np.array([1.0, 2, 30, 4, 5]), np.array([3.0, 1, -2, 2, 5])
    want = stats.spearmanr(share, gained).statistic
    pairings = [stats.spearmanr(share, other).statistic for other in permutations(gained)]
    # twice the smaller tail, as scipy's tests by permutation have it
    tails = [np.mean([side * x >= side * want - 1e-9 for x in pairings]) for side in (1, -1)]
    got = correlation(share, gained).replace("\u00a0", " ")
    assert f"{want:+.2f} (permutation p = {min(1, 2 * min(tails)):.2g}, 5 classes)" in got


@pytest.mark.parametrize(("share", "gained"), [([1, 2], [1, 2]), ([1, 2, 3], [7, 7, 7])])
def test_no_correlation_of_too_little(share, gained):
    assert correlation(np.array(share), np.array(gained)) == ""


def test_runs_without_a_common_seed_are_refused(results, spec_of, both):
    results.metrics[OURS]["seeds"][0]["seed"] = 8
    results.metrics[OURS]["seeds"][1]["seed"] = 9
    with pytest.raises(InputError, match=f"runs {BASE} and {OURS} have no seed in common"):
        gain.draw(spec_of("gain", both), results)


def test_runs_of_other_images_are_not_compared(results, spec_of, both):
    file = results.paths.images(OURS)
    with np.load(file) as arrays:
        write_arrays(file, dict(arrays) | {"ids": np.array(["a", "c"])})
    for kind in ("gain", "tail", "calibration"):
        with pytest.raises(InputError, match="scored on other images; cite runs of one data set"):
            kind_of(kind).draw(spec_of(kind, both), results)

import json

import numpy as np
import pytest

from pipeline.report.figures import calibration
from tests.report.figures.reading import caption_of
from tests.report.study import BASE, CALIBRATION, OURS


def by_label(axis):
    """The lines of a panel that the legend names."""
    return {
        line.get_label(): line.get_xydata().tolist()
        for line in axis.lines
        if not line.get_label().startswith("_")
    }


def test_right_over_mean_confidence_by_hand(results, spec_of):
    upper = calibration.draw(spec_of("calibration", {"Sup.": BASE}), results).axes[0]
    (line,) = by_label(upper).values()
    assert np.allclose(line, [[52.5, 75], [95, 90]])
    assert upper.lines[0].get_xydata().tolist() == [[0, 0], [100, 100]]


def test_seeds_are_added_up_and_their_errors_averaged(results, spec_of):
    other = CALIBRATION.copy()
    other[:, 10] = 0, 0, 0  # error 3 / 60 = 5 %, beside 12 % of the two others
    results.metrics[BASE]["seeds"][0]["calibration"] = other.tolist()
    upper, lower = calibration.draw(spec_of("calibration", {"Sup.": BASE}), results).axes
    ((label, line),) = by_label(upper).items()
    assert label == "Sup. (ECE 9.7 ± 4.0 %)"  # 29 / 3; deviations -4.67, 2.33, 2.33
    assert np.allclose(line, [[52.5, 75], [95, 90]])
    (stairs,) = lower.patches
    # 80 and 180 of 260 pixels
    assert stairs.get_data().values[[10, 19]] == pytest.approx([100 * 80 / 260, 100 * 180 / 260])
    assert stairs.get_data().edges[[0, 10, 20]].tolist() == [0, 50, 100]


def test_pseudo_labels_are_of_the_last_tenth_of_the_log(results, spec_of, both):
    upper, lower = calibration.draw(spec_of("calibration", both), results).axes
    lines = by_label(upper)
    assert list(lines) == [
        "Sup. (ECE 12.0 ± 0.0 %)",
        "STPG (ECE 12.0 ± 0.0 %)",
        "STPG: pseudo-labels while training\n(Gen-Teacher)",
    ]
    assert np.allclose(list(lines.values())[2], [[97.5, 75]])  # at the middle of the last bin
    assert len(lower.patches) == 3


def test_only_the_last_entries_count(results, spec_of):
    path = results.paths.examined(OURS) / "log.jsonl"
    entries = [
        {"step": k, "labels_a_by_confidence": [0, 10], "right_a_by_confidence": [0, int(k > 18)]}
        for k in range(1, 21)
    ]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    got = calibration.pseudo_labels(results.examined(OURS).log())
    assert {name: array.tolist() for name, array in got.items()} == {
        "a": [[0, 20], [0, 2], [0, 15]]
    }


def test_no_pseudo_label_with_a_known_class_is_no_line(results):
    path = results.paths.examined(OURS) / "log.jsonl"
    entry = {"step": 1, "labels_a_by_confidence": [0, 0], "right_a_by_confidence": [0, 0]}
    path.write_text(json.dumps(entry) + "\n")
    assert calibration.pseudo_labels(results.examined(OURS).log()) == {}
    assert calibration.pseudo_labels(results.examined(BASE).log()) == {}


def test_bins_with_next_to_nothing_are_left_out(results, spec_of):
    many = CALIBRATION * 1e6
    many[:, 2] = 5000, 0, 500  # 0.005 %
    results.metrics[BASE]["seeds"] = [results.metrics[BASE]["seeds"][0]]
    results.metrics[BASE]["seeds"][0]["calibration"] = many.tolist()
    upper = calibration.draw(spec_of("calibration", {"Sup.": BASE}), results).axes[0]
    ((label, line),) = by_label(upper).items()
    assert len(line) == 2
    assert label == "Sup. (ECE 12.0 %)"


def test_the_caption_says_on_which_pixels(results, spec_of, both):
    text = caption_of(calibration.draw(spec_of("calibration", both), results))
    assert "Pixels of the validation images with a known class" in text
    assert "in 20 bins" in text
    assert (
        "Dotted: pixels of the unlabelled training images whose class is known, first seed" in text
    )
    alone = calibration.draw(spec_of("calibration", {"Sup.": BASE}), results)
    assert "Dotted" not in caption_of(alone)

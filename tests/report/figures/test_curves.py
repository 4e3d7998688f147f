import json

import numpy as np
import pytest

from pipeline.report.drawing import darkened
from pipeline.report.figures import curves
from pipeline.report.figures.curves import BOLD, THIN
from tests.report.figures.reading import caption_of
from tests.report.study import BASE, COLORS, OURS, STEPS


def by_label(axis):
    """The lines of a panel."""
    return {line.get_label(): line for line in axis.lines}


def log_of(results, entries):
    """Writes another log of our run."""
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (results.paths.examined(OURS) / "log.jsonl").write_text(text)


def test_losses_are_terms_and_their_sum(results, spec_of):
    lines = by_label(curves.draw(spec_of("curves"), results).axes[0])
    assert set(lines) == {"supervised", "unsupervised gen", "sum"}
    assert lines["sum"].get_xydata().tolist() == [[step, 2 / step] for step in STEPS]
    assert lines["unsupervised gen"].get_xdata().tolist() == [4, 6, 8]


def test_a_single_term_is_its_own_sum(results, spec_of):
    lines = by_label(curves.draw(spec_of("curves", {"Sup.": BASE}), results).axes[0])
    assert set(lines) == {"supervised"}


def test_rates_in_percent_where_they_are_known(results, spec_of):
    lines = by_label(curves.draw(spec_of("curves"), results).axes[1])
    assert set(lines) == {
        "accuracy, Gen-Teacher", "confidence, Gen-Teacher", "share, selected",
    }  # fmt: skip
    assert lines["accuracy, Gen-Teacher"].get_xydata().tolist() == [[6, 75], [8, 75]]
    assert lines["share, selected"].get_ydata().tolist() == [80, 80, 80]
    one, two = (lines[f"{kind}, Gen-Teacher"] for kind in ("accuracy", "confidence"))
    assert one.get_color() == two.get_color() != lines["share, selected"].get_color()
    assert one.get_linestyle() != two.get_linestyle()


def test_shares_by_class_are_of_that_class(results, spec_of):
    figure = curves.draw(spec_of("curves"), results)
    right, selected = figure.axes[2:4]
    assert right.get_title() == "pseudo-labels of Gen-Teacher that are right"
    assert selected.get_title() == "pseudo-labels of Gen-Teacher that are selected"
    assert [line.get_ydata().tolist() for line in right.lines[:2]] == [[75] * 3, [50] * 3]
    assert [line.get_ydata().tolist() for line in selected.lines[:2]] == [[50] * 3, [90] * 3]
    # 40, 60 and 80 pixels: too few; and no bus at all
    assert np.isnan(right.lines[2].get_ydata()).all()
    assert np.isnan(right.lines[3].get_ydata()).all()


def test_classes_have_their_colours_and_the_rarer_half_is_bold(results, spec_of):
    figure = curves.draw(spec_of("curves"), results)
    lines = figure.axes[2].lines
    assert np.allclose([line.get_color() for line in lines], darkened(np.array(COLORS)))
    assert [line.get_linewidth() for line in lines] == [THIN, THIN, BOLD, BOLD]
    legend = figure.subfigs[0].legends[0]
    assert [text.get_text() for text in legend.get_texts()][-1] == "bus"
    assert [handle.get_linewidth() for handle in legend.legend_handles] == [THIN, THIN, BOLD, BOLD]


def test_windows_add_up_counts_and_average_scalars(results, spec_of):
    entries = [
        {
            "step": step,
            "loss": float(step % 2),
            "loss_supervised": 1.0,
            "labels_student_by_class": [100 * step, 0, 0, 0],
            "right_student_by_class": [100 * step if step % 2 else 0, 0, 0, 0],
        }
        for step in range(1, 37)
    ]
    log_of(results, entries)
    figure = curves.draw(spec_of("curves"), results)
    assert len(figure.axes) == 2
    # 36 entries: windows of 3 and of 6
    loss, right = figure.axes[0].lines[0].axes, figure.axes[1].lines[0]
    assert loss is figure.axes[0]
    got = dict(zip(right.get_xdata(), right.get_ydata(), strict=True))
    window = range(7, 13)  # pandas centres an even window so
    expected = 100 * sum(s for s in window if s % 2) / sum(window)
    assert got[10] == pytest.approx(expected)
    text = caption_of(figure)
    assert "36 logged steps, a value is the mean over 3 of them." in text
    assert "over 6 logged steps" in text


def test_scalars_are_means_over_a_window(results, spec_of):
    entries = [
        {"step": step, "loss": 1.0, "loss_a": float(step == 20), "loss_b": 0.0}
        for step in range(1, 37)
    ]
    log_of(results, entries)
    line = by_label(curves.draw(spec_of("curves"), results).axes[0])["a"]
    got = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert [got[step] for step in (18, 19, 20, 21, 22)] == pytest.approx(
        [0, 1 / 3, 1 / 3, 1 / 3, 0]
    )


@pytest.mark.parametrize("logged", [1, 2])
def test_a_single_value_is_a_dot_and_more_are_a_line(logged, results, spec_of):
    count = [300, 200, 150, 100]
    entry = {
        "loss": 1.0, "loss_a": 1.0, "loss_b": 0.5, "accuracy_student": 0.5,
        "labels_student_by_class": count, "right_student_by_class": count,
    }  # fmt: skip
    log_of(results, [{"step": step} | entry for step in range(1, logged + 1)])
    axes = curves.draw(spec_of("curves"), results).axes
    marks = [{line.get_marker() for line in axis.lines} for axis in axes if axis.axison]
    assert marks == [{"o" if logged == 1 else "None"}] * 3


def test_a_method_without_unlabelled_images_has_losses_only(results, spec_of):
    figure = curves.draw(spec_of("curves", {"Sup.": BASE}), results)
    assert [axis.get_title() for axis in figure.axes] == ["loss, weighted terms"]
    assert not figure.subfigs[0].legends


def test_a_method_without_selection_has_three_panels(results, spec_of):
    count = [300, 200, 100, 50]
    entry = {
        "step": 1, "loss": 1.0, "loss_supervised": 1.0, "accuracy_student": 0.5,
        "share_confident": 0.25, "labels_student_by_class": count, "right_student_by_class": count,
    }  # fmt: skip
    log_of(results, [entry])
    axes = curves.draw(spec_of("curves"), results).axes
    assert [axis.get_title() for axis in axes if axis.axison] == [
        "loss, weighted terms",
        "pseudo-labels: accuracy, shares",
        "pseudo-labels of student that are right",
    ]


def test_all_panels_have_the_whole_training(results, spec_of):
    axes = curves.draw(spec_of("curves"), results).axes
    assert len(axes) == 4
    assert {axis.get_xlim() for axis in axes} == {(0, 8)}
    assert {axis.get_xlabel() for axis in axes} == {"training step"}


def test_parts_of_the_selection_have_a_panel_where_the_log_has_them(results, spec_of):
    right = {"accuracy_consistent": 0.9, "accuracy_high": 0.25, "accuracy_low": None}
    log_of(results, [{"step": 1, "loss": 1.0, "loss_supervised": 1.0, "accuracy_a": 0.5} | right])
    panels = {axis.get_title(): axis for axis in curves.draw(spec_of("curves"), results).axes}
    lines = by_label(panels["pseudo-labels of Gen-Teacher that are right"])
    assert {name: line.get_ydata().tolist() for name, line in lines.items()} == {
        "consistent": [90], "highly mismatched": [25], "low mismatched": [],
    }  # fmt: skip
    rates = by_label(panels["pseudo-labels: accuracy"])
    assert set(rates) == {"accuracy, a"}

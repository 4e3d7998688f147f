from dataclasses import replace

import matplotlib
import pytest
from PIL import Image

from pipeline.artifacts import ROOT
from pipeline.report.figures import draw, kind_of
from pipeline.report.spec import load_paper
from pipeline.report.style import style
from pipeline.typed import ConfigError
from tests.report.study import BASE, OURS

KINDS = {
    "selection": 1, "confusion": 1, "tail": 2, "tsne": 2, "sweep": 2, "qualitative": 2,
    "curves": 1, "gain": 2, "calibration": 2,
}  # fmt: skip
"""How many runs each shows here."""


def of_kind(kind, spec_of, both):
    options = {"axis": "N", "published": {"STPG": 75.14}} if kind == "sweep" else {}
    return spec_of(kind, both if KINDS[kind] == 2 else None, **options)


def test_every_kind_that_paper_yaml_names_is_tested_here():
    figures = load_paper(ROOT / "paper.yaml").figures.values()
    assert {figure.kind for figure in figures} <= set(KINDS)


def test_what_paper_yaml_says_suits_the_kinds(results):
    figures = load_paper(ROOT / "paper.yaml").figures.values()
    once = {(figure.kind, len(figure.runs)): figure for figure in figures}
    for figure in once.values():
        *others, last = figure.runs
        runs = dict.fromkeys(others, BASE) | {last: OURS}  # which has a snapshot
        assert kind_of(figure.kind).draw(replace(figure, runs=runs), results).axes


@pytest.mark.parametrize("kind", KINDS)
def test_equal_results_give_equal_bytes(kind, results, spec_of, both, tmp_path):
    figure = of_kind(kind, spec_of, both)
    for name in ("one", "two"):
        draw(figure, results, tmp_path / name)
    for suffix in ("png", "pdf"):
        one, two = (tmp_path / f"{name}.{suffix}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
        assert len(one.read_bytes()) > 1000


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_with_the_title_and_no_text_below_seven_points(kind, results, spec_of, both):
    figure = kind_of(kind).draw(of_kind(kind, spec_of, both), results)
    assert figure._supxlabel.get_text().startswith("A title. ")
    figure.draw_without_rendering()
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text().strip()]
    assert texts
    assert min(text.get_fontsize() for text in texts) >= 7
    assert figure.get_figwidth() <= 7


@pytest.mark.parametrize("kind", KINDS)
def test_all_is_on_the_page_and_the_caption_below_it(kind, results, spec_of, both):
    with matplotlib.rc_context(style()):
        figure = kind_of(kind).draw(of_kind(kind, spec_of, both), results)
        figure.draw_without_rendering()
    caption, body = figure._supxlabel, figure.subfigs[0]
    boxes = [part.get_tightbbox() for part in (*figure.axes, *body.legends, caption)]
    for box in boxes:
        assert figure.bbox.padded(1).count_contains(box.corners()) == 4
        assert box is boxes[-1] or box.y0 >= boxes[-1].y1 - 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_option_is_named(kind, results, spec_of, both):
    figure = of_kind(kind, spec_of, both)
    figure.options["nun"] = 3
    with pytest.raises(ConfigError, match=r"figure 'A title': options\.nun: unknown"):
        kind_of(kind).draw(figure, results)


@pytest.mark.parametrize("kind", ["selection", "confusion", "curves", "gain"])
def test_another_number_of_runs_is_refused(kind, results, spec_of, both):
    runs = both | {"more": BASE}
    with pytest.raises(ConfigError, match=f"3 runs; a figure of kind {kind} shows"):
        kind_of(kind).draw(spec_of(kind, runs), results)


def test_png_is_of_the_size_that_style_says(results, spec_of, both, tmp_path):
    draw(of_kind("tail", spec_of, both), results, tmp_path / "tail")
    with Image.open(tmp_path / "tail.png") as image:
        assert image.width == 1400


def test_the_users_own_settings_play_no_part(results, spec_of, both, tmp_path):
    figure = of_kind("tail", spec_of, both)
    draw(figure, results, tmp_path / "plain")
    with matplotlib.rc_context({"axes.facecolor": "red", "lines.linewidth": 9}):
        draw(figure, results, tmp_path / "set")
        assert matplotlib.rcParams["axes.facecolor"] == "red"
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "set.png").read_bytes()


def test_an_unknown_kind_lists_the_known():
    with pytest.raises(ConfigError, match="no kind of figure 'tial'; did you mean 'tail'"):
        kind_of("tial")

import base64
import io
import json
import pkgutil
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import Paths, write_json, write_text
from pipeline.params import load_params
from pipeline.report import figures, tables
from pipeline.report.page import SHOWS, collect, to_html, to_markdown
from pipeline.report.results import Results
from pipeline.report.spec import Paper
from pipeline.typed import ConfigError, InputError, from_mapping
from tests.report.study import BASE, OURS, write_study

SIGNS = 'A & B <b>|"*`'
GIVEN = {
    "tables": {
        "scores": {
            "title": f"Scores {SIGNS}",
            "source": "Table 1",
            "columns": ["1/8 (99)"],
            "compare": [SIGNS, "Ours"],
            "rows": [
                {"name": SIGNS, "published": [50.5], "runs": [BASE]},
                {"name": "Ours", "runs": [OURS]},
            ],
        },
        "quoted": {
            "title": "Quoted",
            "source": "Table 2",
            "columns": ["1/4"],
            "rows": [{"name": "Other", "published": [60]}],
        },
        "unused": {"title": "Unused", "source": "Table 3", "columns": [], "rows": []},
    },
    "figures": {
        "features": {
            "kind": "tsne",
            "title": f"Features {SIGNS}",
            "source": "as Figure 7",
            "runs": {SIGNS: BASE, "Ours": OURS},
        },
        "bank": {
            "kind": "sweep",
            "title": "Bank",
            "source": "Figure 8a",
            "runs": {"0": OURS, "1": "absent_run"},
        },
        "more": {"kind": "gain", "title": "More", "source": "not in it", "runs": {"Ours": OURS}},
    },
    "notes": {"tiny": {"title": ", drawn", "note": f"Mind {SIGNS} this."}},
}
PAPER = from_mapping(Paper, GIVEN, "")
PARAMS = replace(
    load_params(), study="tiny", tables=("quoted", "scores"), figures=("more", "bank", "features")
)
VOID = {"meta", "img", "wbr", "br", "hr", "link", "input"}


def picture(width, height):
    """A PNG file."""
    file = io.BytesIO()
    drawn = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(drawn).save(file, "png")
    return file.getvalue()


def pixels(file):
    """What a picture shows, whatever its format."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image.convert("RGB")).tolist()


PICTURES = {"features": picture(3, 2), "bank": picture(4, 5), "more": picture(6, 7)}


@pytest.fixture
def paths(tmp_path):
    """A study with two runs and all that the page links to."""
    paths = Paths("tiny", tmp_path)
    write_study(paths)
    for key, png in PICTURES.items():
        write_text(paths.figures() / f"{key}.pdf", "")
        (paths.figures() / f"{key}.png").write_bytes(png)
    for key in PARAMS.tables:
        for suffix, text in tables.render(PAPER, key, "tiny", Results(paths)).items():
            write_text(paths.tables() / f"{key}.{suffix}", text)
    return paths


@pytest.fixture
def page(paths):
    return collect(PARAMS, PAPER, paths)


class Reader(HTMLParser):
    """What a browser would find; fails on a tag that is not closed where it should be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.tables = [], [], "", []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def test_html_is_well_formed(page):
    text = to_html(page)
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">\n')
    read = Reader(text)
    for tag in ("html", "head", "title", "style", "body", "main", "h1"):
        assert len(read.all(tag)) == 1, tag
    assert {"charset": "utf-8"} in read.all("meta")
    assert {a.get("name"): a.get("content") for a in read.all("meta")}["viewport"] == (
        "width=device-width, initial-scale=1"
    )
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)


def test_html_needs_no_other_file(page):
    text = to_html(page)
    read = Reader(text)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in read.tags}
    assert all(attrs["src"].startswith("data:") for _, attrs in read.tags if "src" in attrs)
    assert not re.search(r"url\(|@import", text)
    outside = [a["href"] for a in read.all("a") if not a["href"].startswith("#")]
    assert outside == ["https://arxiv.org/abs/2409.12680"]


def test_every_figure_is_in_the_html_in_the_order_of_paper_yaml(page):
    images = Reader(to_html(page)).all("img")
    data = [a["src"].removeprefix("data:image/webp;base64,") for a in images]
    shown = [pixels(base64.b64decode(x)) for x in data]
    assert shown == [pixels(png) for png in PICTURES.values()]
    assert [(a["width"], a["height"]) for a in images] == [("3", "2"), ("4", "5"), ("6", "7")]
    assert images[0]["alt"] == f"Features {SIGNS}, drawn. {SHOWS['tsne']} Of {SIGNS}, Ours."


def test_every_link_within_the_html_leads_somewhere(page):
    read = Reader(to_html(page))
    ids = {attrs["id"] for _, attrs in read.tags if "id" in attrs}
    links = {a["href"][1:] for a in read.all("a") if a["href"].startswith("#")}
    assert links <= ids
    assert {"table-scores", "table-quoted", "figure-bank", f"run-{OURS}", "runs"} <= links
    assert "run-absent_run" not in links


def test_every_link_of_the_markdown_leads_somewhere(page, paths):
    text = to_markdown(page)
    anchors = re.findall(r'<a id="([^"]+)"></a>', text)
    assert len(set(anchors)) == len(anchors)
    links = re.findall(r"\]\(([^)]+)\)", text)
    within = {link[1:] for link in links if link.startswith("#")}
    assert within <= set(anchors)
    assert {"table-scores", "figure-bank", f"run-{OURS}", "commit-0123456789ab"} <= within
    files = {link for link in links if not link.startswith(("#", "https:"))}
    assert all((paths.reports() / file).is_file() for file in files)
    assert len(files) == 2 * 3 + 3 * 2  # three forms of each table, two of each figure
    assert "![" in text


def test_a_figure_leads_to_its_runs_and_those_to_their_commits(page):
    text = to_html(page)
    bank = text[text.index('id="figure-bank"') : text.index('id="figure-more"')]
    assert re.findall('href="#([^"]+)"', bank) == [f"run-{OURS}"]
    assert "0 (" in bank
    assert "1 (<code>absent_<wbr>run</code>)" in bank
    runs = text[text.index("<h2", text.index('id="figure-more"')) :]
    row = runs[runs.index(f'id="run-{OURS}"') :].split("</tr>")[0]
    assert re.findall('href="#([^"]+)"', row) == ["commit-0123456789ab"]
    commit = runs[runs.index('id="commit-0123456789ab"') :].split("</li>")[0]
    assert re.findall('href="#([^"]+)"', commit) == [f"run-{OURS}", f"run-{BASE}"]


def test_html_shows_signs_as_they_are(page):
    read = Reader(to_html(page))
    assert f"Mind {SIGNS} this." in read.text
    assert f"Scores {SIGNS}, drawn" in read.text
    assert f"Features {SIGNS}, drawn" in read.text
    assert not read.all("b")
    assert read.tables[0][1][0] == SIGNS


def test_markdown_shows_signs_as_they_are(page):
    text = to_markdown(page)
    shown = r'A & B \<b>\|"\*\`'
    assert f"> Mind {shown} this.\n" in text
    assert f"### Scores {shown}, drawn\n" in text
    assert f"![Features {shown}, drawn. " in text
    assert "<b>" not in text.replace(r"\<b>", "")


def test_tables_have_the_cells_of_the_data_frames(page):
    read, text = Reader(to_html(page)), to_markdown(page)
    scores, quoted = page.tables["scores"], page.tables["quoted"]
    frames = [scores.compared, scores.differences, scores.classes, quoted.compared]
    assert len(read.tables) == len(frames) + 1
    for frame, cells in zip(frames, read.tables, strict=False):
        assert cells == [list(frame.columns), *frame.to_numpy().tolist()]
    assert scores.differences["seeds"].tolist() == ["2"]
    assert all(tables.to_markdown(frame) in text for frame in frames)


def test_what_made_a_run_worked_by_hand(paths):
    records = json.loads(paths.record(OURS).read_text())  # of seeds 1 and 0
    first = {"minutes": 2.0, "seconds_per_step": 0.5, "peak_memory_gib": 3.25, "device": "gpu"}
    second = {"minutes": 4.5, "seconds_per_step": 0.25, "peak_memory_gib": 1.0}
    write_json(
        paths.record(OURS),
        [records[0] | first | {"commit": "fedcba987654-dirty"}, records[1] | second],
    )
    page = collect(PARAMS, PAPER, paths)
    read = Reader(to_html(page))
    assert read.tables[-1] == [
        ["run", "method", "split", "labelled", "seeds", "mIoU (%)", "minutes", "s a step", "GiB",
         "commit"],
        [OURS, "stpg", "tiny_8", "3", "1, 0", page.runs[OURS].miou, "3.2", "0.375", "3.2",
         "fedcba987654-dirty, 0123456789ab"],
        [BASE, "supervised", "tiny_8", "3", "0, 1, 2", page.runs[BASE].miou, "0.5", "0.250", "0.1",
         "0123456789ab"],
    ]  # fmt: skip
    assert page.runs[OURS].miou == "50.00 ± 3.54"  # 0.525, 0.475
    assert "5 trainings, 0.1 hours in all." in read.text  # 2 + 4.5 + 3 * 0.5 = 8 minutes
    assert f"Their devices differ:\n\ncpu: {OURS}, {BASE}\ngpu: {OURS}\n" in read.text
    assert "All with python 3.11.7, torch 2.0.0." in read.text
    assert "(-dirty: with changes that are in none):" in read.text
    assert f"fedcba987654-dirty: {OURS}\n" in read.text


def test_versions_that_differ_are_listed(paths):
    records = json.loads(paths.record(BASE).read_text())
    records[0]["versions"]["torch"] = "2.1.0"
    write_json(paths.record(BASE), records)
    for form in (to_html, to_markdown):
        text = form(collect(PARAMS, PAPER, paths))
        assert "Their versions differ:" in text
        assert "python 3.11.7, torch 2.0.0: " in text
        assert "python 3.11.7, torch 2.1.0: " in text
        assert "All with" not in text
        assert "All on cpu." in text
        assert "-dirty" not in text


def test_the_source_of_each_figure(page):
    assert [figure.source for figure in page.figures.values()] == [
        "Like Figure 7 of the paper.",
        "Like Figure 8a of the paper.",
        "Not in it.",
    ]


def test_only_the_study_s_own_in_the_order_of_paper_yaml(page):
    assert list(page.tables) == ["scores", "quoted"]
    assert list(page.figures) == ["features", "bank", "more"]
    heads = re.findall(r"^### (\w+)", to_markdown(page), flags=re.MULTILINE)
    assert heads == ["Scores", "Quoted", "Features", "Bank", "More"]


@pytest.mark.parametrize("kept", ["quoted", "none"])
def test_published_numbers_are_told_of_only_where_there_are_some(page, kept):
    bare = page.tables["quoted"].compared[["method"]]
    table = (
        page.tables["quoted"] if kept == "quoted" else replace(page.tables["quoted"], compared=bare)
    )
    text = to_markdown(replace(page, tables={"quoted": table}))
    assert ("beside what was published" in text) == (kept == "quoted")
    assert ("Published: of the real data set" in text) == (kept == "quoted")


def test_the_command_that_makes_it_stands_by_each(page):
    for form in (to_html, to_markdown):
        text = form(page)
        assert text.count("Made by") == 5
        for target in ("tables", "figures", "train@RUN", "evaluate@RUN"):
            assert f"dvc repro {target}" in text


def test_the_same_bytes_from_the_same_results(paths, tmp_path):
    pages = [collect(PARAMS, PAPER, Paths("tiny", tmp_path)) for _ in range(2)]
    for form in (to_html, to_markdown):
        texts = [form(page) for page in pages]
        assert texts[0] == texts[1]
        assert str(tmp_path) not in texts[0]


def test_a_study_of_which_nothing_is_measured(tmp_path):
    page = collect(replace(PARAMS, figures=()), PAPER, Paths("tiny", tmp_path))
    read = Reader(to_html(page))
    assert len(read.tables) == 2
    assert read.text.count("Nothing is measured yet.") == 3  # of two tables, and no runs
    assert "Figures" not in re.findall("^## (.*)$", to_markdown(page), flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("figures/bank.png", "bank.png: missing; run `dvc repro figures`$"),
        (f"records/{OURS}.json", f"{OURS}.json: missing; run `dvc repro evaluate@{OURS}`$"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_makes_it(paths, gone, message):
    (paths.reports() / gone).unlink()
    with pytest.raises(InputError, match=message):
        collect(PARAMS, PAPER, paths)


@pytest.mark.parametrize("section", ["tables", "figures"])
def test_a_name_that_paper_yaml_lacks_is_refused(paths, section):
    params = replace(PARAMS, **{section: ("bnk",)})
    with pytest.raises(ConfigError, match=f"^paper.yaml: {section}: no 'bnk'; "):
        collect(params, PAPER, paths)


def test_it_is_told_what_each_kind_of_figure_shows():
    assert {module.name for module in pkgutil.iter_modules(figures.__path__)} <= set(SHOWS)

from dataclasses import replace

import pytest

from pipeline.check import studies
from pipeline.config import ExaminedConfig, Params
from pipeline.report.spec import FigureSpec, Paper, Row, TableSpec
from pipeline.typed import from_mapping
from tests.check.example import PARAMS, RUN


def study(**runs):
    """The example's study with other runs: name -> what differs from `RUN`."""
    entries = {name: RUN | {"seeds": [0]} | changes for name, changes in runs.items()}
    examined = {next(iter(runs)): {"dataset": "shapes"}}
    return from_mapping(Params, PARAMS | {"runs": entries, "examined": examined}, "")


def with_figures(params, *figures, examined=()):
    looked_into = {run: ExaminedConfig("shapes") for run in examined}
    return replace(params, figures=figures, examined=looked_into)


def table(*runs):
    columns = tuple(f"1/{i + 1}" for i in range(len(runs)))
    return TableSpec("First", "Table 1", columns, (Row("Mix", runs=runs), Row("Other")))


def paper(*runs, **figures):
    """One table that cites `runs`, and figures: name -> (kind, run)."""
    specs = {
        name: FigureSpec(kind, name, "Figure 1", {"Mix": run})
        for name, (kind, run) in figures.items()
    }
    return Paper({"first": table(*runs)}, specs)


@pytest.mark.parametrize(
    "second",
    [
        {"seeds": [1]},
        {"set": {"rate": 1.0}},
        {"set": {"bank": {"decay": 0.5}}},
    ],
    ids=str,
)
def test_two_runs_of_one_configuration_are_found(second):
    assert list(studies.twins(study(one={}, two=second, three={"method": "plain"}))) == [
        "study tiny: runs one, two have one configuration; "
        "keep one, with all their seeds, and cite it in every table"
    ]


@pytest.mark.parametrize(
    "second", [{"method": "plain"}, {"set": {"rate": 2.0}}, {"set": {"bank": {"size": 5}}}], ids=str
)
def test_runs_that_differ_are_not_twins(second):
    assert list(studies.twins(study(one={}, two=second))) == []


def test_a_cited_run_that_no_study_has_is_found_with_the_nearest_name():
    every = [study(one={}), study(two_stpg={})]
    found = list(studies.unregistered(paper("one", None, "two_sptg"), every))
    assert found == [
        "paper.yaml: tables.first: run 'two_sptg' is in no study; "
        "did you mean 'two_stpg'? known: one, two_stpg"
    ]
    assert list(studies.unregistered(paper("one", None, "two_stpg"), every)) == []
    found = list(studies.unregistered(paper("one", bars=("tail", "three")), every))
    assert found == ["paper.yaml: figures.bars: run 'three' is in no study; known: one, two_stpg"]


@pytest.mark.parametrize(
    ("content", "figures", "found"),
    [
        (paper("one", "two"), (), []),
        (paper("one"), (), ["two"]),
        (paper("one", axis=("sweep", "two")), ("axis",), []),
        (paper("one", axis=("sweep", "two")), (), ["two"]),
        (Paper({"first": table("one"), "of_another_study": table("two")}), (), ["two"]),
        (Paper({}), (), ["one", "two"]),
    ],
)
def test_a_run_that_nothing_of_the_study_cites_is_found(content, figures, found):
    params = with_figures(study(one={}, two={"seeds": [1]}), *figures)
    assert list(studies.uncited(params, content)) == [
        f"params.yaml: runs.{run}: in none of the study's tables and figures; "
        "cite it in paper.yaml, list its table under tables, or remove it"
        for run in found
    ]


def test_a_run_that_is_examined_for_no_figure_is_found():
    content = paper("one", "two", places=("tsne", "one"))
    params = with_figures(study(one={}, two={"seeds": [1]}), "places", examined=("one", "two"))
    assert list(studies.uncited(params, content)) == [
        "params.yaml: examined.two: no figure of the study looks into it; remove it"
    ]


def test_one_run_may_be_examined_for_no_figure():
    params = with_figures(study(one={}), examined=("one",))
    assert list(studies.uncited(params, paper("one"))) == []
    params = with_figures(study(one={}, two={"seeds": [1]}), examined=("one", "two"))
    assert list(studies.uncited(params, paper("one", "two"))) == [
        "params.yaml: examined.two: no figure of the study looks into it; remove it"
    ]


def test_what_cannot_be_drawn_is_found():
    params = study(one={})
    assert list(studies.undrawable(params, paper("one", "of_another_study"))) == []
    assert list(studies.undrawable(params, Paper({"frist": table("one")}))) == [
        "params.yaml: tables: first: not in paper.yaml; did you mean 'frist'? known: frist"
    ]
    content = paper("one", places=("tsne", "one"), axis=("sweep", "two"))
    params = with_figures(params, "places", "axis", "bars")
    assert list(studies.undrawable(params, content)) == [
        "params.yaml: figures: bars: not in paper.yaml; known: axis, places",
        "params.yaml: figures: places looks into run one; add it to `examined`, with its dataset",
        "params.yaml: figures: axis shows run two, which the study has not; "
        "add the run, or remove the figure",
    ]
    assert list(studies.undrawable(with_figures(params, "places", examined=["one"]), content)) == []


@pytest.mark.parametrize(
    ("written", "line", "expected"),
    [
        ("a:\n  b: 1.0e-3\n  c:\n  - 1\n  - 2\n", None, None),
        ("# why\na: 0.5  # half\n", None, None),
        ("a: 1\nb: [1, 2]\n", 2, "b:\n"),
        ("a:\n    b: 1\n", 2, "  b: 1\n"),
        ("a: 1", 1, "a: 1\n"),
        (f"a: {'x ' * 50}y\n", 1, f"a: {'x ' * 38}x\n"),
    ],
)
def test_the_first_line_that_dvc_would_rewrite_is_found(tmp_path, written, line, expected):
    path = tmp_path / "params.yaml"
    path.write_text(written)
    found = list(studies.not_canonical(path))
    assert path.read_text() == written
    assert len(found) == (line is not None)
    for finding in found:
        assert finding.startswith(f"params.yaml: line {line}: found ")
        assert f"expected {expected!r}, as `dvc exp run -S` writes it" in finding

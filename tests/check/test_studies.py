import pytest

from pipeline.check import studies
from pipeline.config import Params
from pipeline.report.tables import Row, TableSpec
from pipeline.typed import from_mapping
from tests.check.example import PARAMS, RUN


def study(**runs):
    """The study above with other runs: name -> what differs from `RUN`."""
    entries = {name: RUN | {"seeds": [0]} | changes for name, changes in runs.items()}
    return from_mapping(Params, PARAMS | {"runs": entries}, "")


def table(*runs):
    columns = tuple(f"1/{i + 1}" for i in range(len(runs)))
    return TableSpec("First", "Table 1", columns, (Row("Mix", runs=runs), Row("Other")))


@pytest.mark.parametrize(
    "second",
    [
        {"seeds": [1]},
        {"group": "other"},
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
    found = list(studies.unregistered({"first": table("one", None, "two_sptg")}, every))
    assert found == [
        "paper.yaml: tables.first: run 'two_sptg' is in no study; "
        "did you mean 'two_stpg'? known: one, two_stpg"
    ]
    assert list(studies.unregistered({"first": table("one", None, "two_stpg")}, every)) == []


@pytest.mark.parametrize(
    ("tables", "found"),
    [
        ({"first": table("one", "two")}, []),
        ({"first": table("one")}, ["two"]),
        ({"first": table("one"), "of_another_study": table("two")}, ["two"]),
        ({}, ["one", "two"]),
    ],
)
def test_a_run_that_no_table_of_the_study_cites_is_found(tables, found):
    messages = list(studies.uncited(study(one={}, two={"seeds": [1]}), tables))
    assert messages == [
        f"params.yaml: runs.{run}: in none of the study's tables; "
        "cite it in paper.yaml, list its table under tables, or remove it"
        for run in found
    ]


def test_a_table_finds_what_it_cites_in_its_group_alone():
    params = study(one={}, two={"group": "other"})
    assert list(studies.unreadable_cells(params, {"first": table("one", "of_another_study")})) == []
    assert list(studies.unreadable_cells(params, {"first": table("one", "two")})) == [
        "params.yaml: tables.first reads group main, but it cites run two of group other; "
        "give both one group"
    ]
    assert list(studies.unreadable_cells(params, {"frist": table("one")})) == [
        "params.yaml: tables.first: not in paper.yaml; did you mean 'frist'? known: frist"
    ]


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

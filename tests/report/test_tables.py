import pandas as pd
import pytest

from pipeline.artifacts import ROOT
from pipeline.config import ConfigError, load_params, read_yaml
from pipeline.report.spec import TableSpec
from pipeline.report.tables import compare, per_class, to_markdown
from pipeline.typed import from_mapping

GIVEN = {
    "title": "A table",
    "source": "Table 1",
    "columns": ["1/8 (99)", "1/4", "full"],
    "rows": [
        {"name": "Base", "published": [50, 60.5, None], "runs": ["base_8", "base_4", None]},
        {"name": "Quoted", "published": [None, 72.0, None]},
        {"name": "Ours", "runs": ["ours_8", None, None]},
    ],
}
SEEDS = pd.DataFrame(
    [("base_8", 7, 0, 0.4), ("base_8", 7, 1, 0.5), ("ours_8", 7, 0, 0.625), ("other", 9, 0, 0.1)],
    columns=["run", "labeled", "seed", "miou"],
)
CLASSES = pd.DataFrame(
    [
        ("base_8", 0, "road", 0.8),
        ("base_8", 0, "sky", 0.0),
        ("base_8", 1, "road", 0.8),
        ("base_8", 1, "sky", 1.0),
        ("ours_8", 0, "road", 0.5),
        ("ours_8", 0, "sky", float("nan")),
    ],
    columns=["run", "seed", "class", "iou"],
)


def spec():
    return from_mapping(TableSpec, GIVEN, "tables.some")


def test_measured_stands_beside_published():
    table = compare(spec(), SEEDS)
    assert table.to_dict("list") == {
        "method": ["Base", "Quoted", "Ours"],
        "1/8 measured (7)": ["45.00 ± 7.07", "", "62.50"],
        "1/8 (99) published": ["50.0", "", ""],
        "1/4 published": ["60.5", "72.0", ""],
    }


def test_without_measurements_there_is_what_was_published():
    assert list(compare(spec(), SEEDS.head(0))) == ["method", "1/8 (99) published", "1/4 published"]


def test_each_measured_run_has_a_column_of_classes():
    table = per_class(spec(), CLASSES)
    assert table.to_dict("list") == {
        "class": ["road", "sky"],
        "Base 1/8": ["80.00 ± 0.00", "50.00 ± 70.71"],
        "Ours 1/8": ["50.00", ""],
    }


def test_markdown_by_hand():
    table = pd.DataFrame({"method": ["a", "b"], "1/8": ["1.00", ""]})
    assert to_markdown(table) == "| method | 1/8 |\n|---|---:|\n| a | 1.00 |\n| b |  |"


@pytest.mark.parametrize("part", ["published", "runs"])
@pytest.mark.parametrize("cells", [[None], [None] * 4])
def test_a_row_of_another_length_is_refused(part, cells):
    given = GIVEN | {"rows": [{"name": "Short", part: cells}]}
    message = f"^tables.some: row 'Short' has {len(cells)} {part}; expected 3, one a column$"
    with pytest.raises(ValueError, match=message):
        from_mapping(TableSpec, given, "tables.some")


def test_a_published_number_is_a_number():
    given = GIVEN | {"rows": [{"name": "Typo", "published": ["50,1", None, None]}]}
    with pytest.raises(ConfigError, match=r"published\[0\]: found '50,1'; expected a number"):
        from_mapping(TableSpec, given, "tables.some")


PAPER = read_yaml(ROOT / "paper.yaml")


@pytest.mark.parametrize("name", PAPER["tables"])
def test_a_table_of_the_repository_is_well_formed(name):
    table = from_mapping(TableSpec, PAPER["tables"][name], f"paper.yaml: tables.{name}")
    published = [value for row in table.rows for value in row.published if value is not None]
    assert all(10 < value < 100 for value in published)  # percent
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names)
    measured = [row.name for row in table.rows if row.runs]
    runs = [run for row in table.rows for run in row.runs if run is not None]
    assert len(set(runs)) == len(runs)
    if name == "selection":
        return  # without a supervised row
    assert {"Sup. baseline", "STPG"} <= set(measured)


@pytest.mark.parametrize(
    ("name", "rows", "published"),
    [
        ("cityscapes", 11, 28),
        ("blender", 12, 38),
        ("classic", 12, 44),
        ("ablation", 6, 12),
        ("selection", 4, 4),
    ],
)
def test_the_paper_s_tables_are_complete(name, rows, published):
    table = from_mapping(TableSpec, PAPER["tables"][name], name)
    assert sum(bool(row.published) for row in table.rows) == rows
    found = [value for row in table.rows for value in row.published if value is not None]
    assert len(found) == published


def test_every_table_of_the_study_in_place_is_described():
    assert set(load_params().tables) <= set(PAPER["tables"])

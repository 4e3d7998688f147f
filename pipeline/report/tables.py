"""Tables of measured beside published numbers, as data frames and Markdown."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.config import read_yaml
from pipeline.report.results import mean_and_deviation
from pipeline.typed import ConfigError, from_mapping


@dataclass(frozen=True)
class Row:
    """One method: what was published, and the runs that measure it; None = empty cell."""

    name: str
    published: tuple[float | None, ...] = ()
    runs: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Note:
    """What the tables of one study say of its data."""

    title: str = ""
    """Follows the table's own title."""
    note: str = ""
    """A sentence or two above the table."""


@dataclass(frozen=True)
class TableSpec:
    """One table as paper.yaml describes it."""

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def check(self, key: str) -> None:
        """Each row has as many cells as there are columns, or none at all."""
        for row in self.rows:
            for part in ("published", "runs"):
                cells = getattr(row, part)
                if cells and len(cells) != len(self.columns):
                    raise ConfigError(
                        f"{key}: row {row.name!r} has {len(cells)} {part}; "
                        f"expected {len(self.columns)}, one a column"
                    )


@dataclass(frozen=True)
class Paper:
    """The content of paper.yaml."""

    tables: dict[str, TableSpec]
    notes: dict[str, Note] = field(default_factory=dict)
    """By study."""


def load_paper(path: Path) -> Paper:
    """Reads paper.yaml; raises ConfigError naming the file and the key."""
    try:
        return from_mapping(Paper, read_yaml(path), "")
    except ConfigError as error:
        message = str(error).removeprefix(f"{path.name}: ")
        raise ConfigError(f"{path.name}: {message}") from None


def compare(spec: TableSpec, seeds: pd.DataFrame) -> pd.DataFrame:
    """One row a method; for each column `measured` (mean ± sd over seeds) and `published`.

    Columns in which nothing was measured keep only what was published. The head of a measured
    column says how many images were labelled. Numbers are mIoU in
    percent; an empty text is an empty cell.
    """
    table = pd.DataFrame({"method": [row.name for row in spec.rows]})
    for i, column in enumerate(spec.columns):
        runs = [row.runs[i] if row.runs else None for row in spec.rows]
        measured = [mean_and_deviation(seeds.loc[seeds["run"] == run, "miou"]) for run in runs]
        published = [row.published[i] if row.published else None for row in spec.rows]
        if any(measured):
            counts = sorted(set(seeds.loc[seeds["run"].isin(runs), "labeled"]))
            labeled = " or ".join(map(str, counts))
            table[f"{without_count(column)} measured ({labeled})"] = measured
        if any(value is not None for value in published):
            table[f"{column} published"] = ["" if v is None else str(v) for v in published]
    return table


def without_count(column: str) -> str:
    """`1/8` of `1/8 (372)`: the number of labelled images is the real data set's."""
    return column.partition(" (")[0]


def per_class(spec: TableSpec, seeds: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """One row a class, one column a measured run of the table: IoU, mean ± sd, in percent."""
    table = pd.DataFrame({"class": classes["class"].drop_duplicates()})
    for row in spec.rows:
        for column, run in zip(spec.columns, row.runs, strict=False):
            mine = classes[classes["run"] == run]
            if len(mine):
                by_class = mine.groupby("class")["iou"].apply(mean_and_deviation)
                table[f"{row.name} {without_count(column)}"] = table["class"].map(by_class)
    return table


def to_markdown(table: pd.DataFrame) -> str:
    """A pipe table; columns of numbers are right-aligned."""
    header = "| " + " | ".join(table.columns) + " |"
    ruler = "|---" + "|---:" * (len(table.columns) - 1) + "|"
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([header, ruler, *lines])

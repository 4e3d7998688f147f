"""Tables of measured beside published numbers, as data frames and Markdown."""

from dataclasses import dataclass

import pandas as pd

from pipeline.report.results import mean_and_deviation


@dataclass(frozen=True)
class Row:
    """One method: what was published, and the runs that measure it; None = empty cell."""

    name: str
    published: tuple[float | None, ...] = ()
    runs: tuple[str | None, ...] = ()


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
                    raise ValueError(
                        f"{key}: row {row.name!r} has {len(cells)} {part}; "
                        f"expected {len(self.columns)}, one a column"
                    )


def compare(spec: TableSpec, seeds: pd.DataFrame) -> pd.DataFrame:
    """One row a method; for each column `measured` (mean ± sd over seeds) and `published`.

    Columns in which nothing was measured keep only what was published. Numbers are mIoU in
    percent; an empty text is an empty cell.
    """
    table = pd.DataFrame({"method": [row.name for row in spec.rows]})
    for i, column in enumerate(spec.columns):
        runs = [row.runs[i] if row.runs else None for row in spec.rows]
        measured = [mean_and_deviation(seeds.loc[seeds["run"] == run, "miou"]) for run in runs]
        published = [row.published[i] if row.published else None for row in spec.rows]
        if any(measured):
            table[f"{column} measured"] = measured
        if any(value is not None for value in published):
            table[f"{column} published"] = ["" if v is None else str(v) for v in published]
    return table


def per_class(spec: TableSpec, seeds: pd.DataFrame, classes: pd.DataFrame) -> pd.DataFrame:
    """One row a class, one column a measured run of the table: IoU, mean ± sd, in percent."""
    table = pd.DataFrame({"class": classes["class"].drop_duplicates()})
    for row in spec.rows:
        for column, run in zip(spec.columns, row.runs, strict=False):
            mine = classes[classes["run"] == run]
            if len(mine):
                by_class = mine.groupby("class")["iou"].apply(mean_and_deviation)
                table[f"{row.name} {column}"] = table["class"].map(by_class)
    return table


def to_markdown(table: pd.DataFrame) -> str:
    """A pipe table; columns of numbers are right-aligned."""
    header = "| " + " | ".join(table.columns) + " |"
    ruler = "|---" + "|---:" * (len(table.columns) - 1) + "|"
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([header, ruler, *lines])

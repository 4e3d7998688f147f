"""Tables of measured beside published numbers: data frames, Markdown, CSV and LaTeX."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.report.results import Results, mean_and_deviation
from pipeline.report.spec import Note, Paper, TableSpec
from pipeline.report.statistics import DRAWS, Interval, over_images, over_seeds

CHECK = "\u2713"


def render(paper: Paper, key: str, study: str, results: Results) -> dict[str, str]:
    """The table called `key` by file suffix: md, csv, tex."""
    spec, note = paper.tables[key], paper.notes.get(study, Note())
    table = compare(spec, results.seeds)
    title = f"{spec.title}{note.title}: mIoU (%), study `{study}`"
    text = [
        f"# {title}",
        note.note,
        f"Published: {spec.source}. Measured: mean ± sample standard deviation over seeds, last "
        f"step of training, validation images; in brackets the images with labels. "
        f"{seeds_of(spec, results.seeds)}",
        to_markdown(table),
        "\n".join(f"- {line}" for line in comparisons(spec, results)),
        "## IoU of each class (%)" if len(results.classes) else "",
        to_markdown(per_class(spec, results.classes)),
    ]
    return {
        "md": "\n\n".join(filter(None, text)) + "\n",
        "csv": table.to_csv(index=False),
        "tex": to_latex(table, caption=title.replace("`", ""), label=f"tab:{study}-{key}"),
    }


def compare(spec: TableSpec, seeds: pd.DataFrame) -> pd.DataFrame:
    """One row a method; for each column `measured` (mean ± sd over seeds) and `published`.

    Columns in which nothing was measured keep only what was published. The head of a measured
    column says how many images were labelled. Numbers are mIoU in
    percent; an empty text is an empty cell.
    """
    table = pd.DataFrame({"method": [row.name for row in spec.rows]})
    for part in spec.parts:
        table[part] = [CHECK if part in row.parts else "" for row in spec.rows]
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


def seeds_of(spec: TableSpec, seeds: pd.DataFrame) -> str:
    """Whose lists the splits are, and how many seeds each run has."""
    mine = seeds[seeds["run"].isin(spec.cited())]
    families = ", ".join(sorted(set(mine["family"])))
    by_number: dict[int, list[str]] = {}
    for run, rows in mine.groupby("run"):
        by_number.setdefault(len(rows), []).append(str(run))
    if not by_number:
        return "Nothing is measured yet."
    usual = max(by_number, key=lambda number: len(by_number[number]))
    others = [
        f"{', '.join(runs)}: {number}"
        for number, runs in sorted(by_number.items())
        if number != usual
    ]
    more = f" ({'; '.join(others)})" if others else ""
    return f"Splits: {families}. Seeds: {usual}{more}."


def comparisons(spec: TableSpec, results: Results) -> Iterator[str]:
    """A sentence for each column in which both rows of `spec.compare` are measured."""
    if spec.compare is None:
        return
    rows = {row.name: row for row in spec.rows}
    base, other = (rows[name] for name in spec.compare)
    for column, base_run, other_run in zip(spec.columns, base.runs, other.runs, strict=True):
        if base_run in results.metrics and other_run in results.metrics:
            yield difference(results, (base.name, base_run), (other.name, other_run), column)


def difference(results: Results, base: tuple[str, str], other: tuple[str, str], column: str) -> str:
    """How much better the other run is than the base, over their common seeds."""
    by_seed = {}
    for _, run in (base, other):
        mine = results.seeds[results.seeds["run"] == run]
        by_seed[run] = dict(zip(mine["seed"], mine["miou"], strict=True))
    common = [seed for seed in by_seed[base[1]] if seed in by_seed[other[1]]]
    scores, counts = [], []
    for _, run in (base, other):
        scores.append(np.array([by_seed[run][seed] for seed in common]))
        places = [list(by_seed[run]).index(seed) for seed in common]
        counts.append(results.counts(run)[places])
    mean = 100 * (scores[1] - scores[0]).mean()
    images, seeds = over_images(*counts), over_seeds(*scores)
    trained = f"over {len(common)} seeds {percent(seeds)} (paired t)" if seeds else "one seed"
    return (
        f"{other[0]} - {base[0]}, {without_count(column)}: {mean:+.2f}; 95 % intervals: over "
        f"images {percent(images)} (paired bootstrap, {DRAWS} draws), {trained}"
    )


def percent(interval: Interval) -> str:
    """`[low, high]`."""
    return f"[{100 * interval.low:+.2f}, {100 * interval.high:+.2f}]"


def per_class(spec: TableSpec, classes: pd.DataFrame) -> pd.DataFrame:
    """One row a class, one column a measured run of the table: IoU, mean ± sd, in percent."""
    columns = {}
    for row in spec.rows:
        for column, run in zip(spec.columns, row.runs, strict=False):
            mine = classes[classes["run"] == run]
            if len(mine):
                by_class = mine.groupby("class", sort=False)["iou"].apply(mean_and_deviation)
                columns[f"{row.name} {without_count(column)}"] = by_class
    table = pd.DataFrame(columns).fillna("")
    return table.rename_axis("class").reset_index()


def to_markdown(table: pd.DataFrame) -> str:
    """A pipe table; columns of numbers are right-aligned. Nothing of a single column."""
    if len(table.columns) < 2:
        return ""
    header = "| " + " | ".join(table.columns) + " |"
    ruler = "|---" + "|---:" * (len(table.columns) - 1) + "|"
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([header, ruler, *lines])


def to_latex(table: pd.DataFrame, *, caption: str, label: str) -> str:
    """A table environment; needs the packages booktabs and amssymb."""
    text = table.to_latex(
        index=False,
        escape=True,
        column_format="l" + "r" * (len(table.columns) - 1),
        caption=re.sub(r"([%&#_$])", r"\\\1", caption),
        label=label,
        position="t",
    )
    signs = {CHECK: r"$\checkmark$", "±": r"$\pm$"}
    for sign, command in signs.items():
        text = text.replace(sign, command)
    return "% needs \\usepackage{booktabs,amssymb}\n" + text

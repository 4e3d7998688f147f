"""Tables of measured beside published numbers: data frames, Markdown, CSV and LaTeX."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pipeline.report.results import Results, mean_and_deviation
from pipeline.report.spec import Note, Paper, TableSpec
from pipeline.report.statistics import DRAWS, LEVEL, Interval, over_images, over_seeds

CHECK = "\u2713"
MEASURED = (
    "Measured: mean ± sample standard deviation over seeds, last step of training, validation "
    "images; in brackets the images with labels."
)
INTERVALS = (
    f"Differences are in points of mIoU, over the seeds that both rows have. Their "
    f"{100 * LEVEL:.0f} % intervals: over validation images (paired bootstrap, {DRAWS} draws), and "
    "over seeds (paired t; none of a single seed)."
)
PUBLISHED = " published"
"""The end of such columns' heads."""
STEP = "step"
STEP_COST = (
    "Step: cost of a training step by that of the supervised baseline, measured by "
    "benchmarks/steps.py."
)
LATEX = {symbol: f"\\{symbol}" for symbol in "%&#_${}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    CHECK: r"$\checkmark$",
    "±": r"$\pm$",
}


@dataclass(frozen=True)
class Table:
    """What a table holds, in whatever form it is written."""

    title: str
    about: str
    """Where the published numbers are from; whose splits, and how many seeds."""
    compared: pd.DataFrame
    differences: pd.DataFrame
    """Without rows if nothing is compared, or nothing of it measured."""
    classes: pd.DataFrame
    """Without rows if nothing is measured."""
    runs: tuple[str, ...]
    """The measured ones that it shows."""


def fill(paper: Paper, key: str, study: str, results: Results) -> Table:
    """The table called `key`."""
    spec, note = told(paper.tables[key], results), paper.notes.get(study, Note())
    published = any(value is not None for row in spec.rows for value in row.published)
    source = (
        f"Published: {spec.source}" if published else f"{spec.source[:1].upper()}{spec.source[1:]}"
    )
    blocks = f"Bootstrap: blocks of {spec.block} successive images." if spec.block > 1 else ""
    costs = STEP_COST if spec.step_cost and results.step_costs else ""
    runs = tuple(run for run in spec.cited() if run in results.metrics)
    about = [f"{source}.", seeds_of(spec, results.seeds), unseen(runs, results), costs, blocks]
    return Table(
        title=f"{spec.title}{note.title}",
        about=" ".join(filter(None, about)),
        compared=compare(spec, results.seeds).join(step_column(spec, results)),
        differences=comparisons(spec, results),
        classes=per_class(spec, results.classes),
        runs=runs,
    )


def capitalized(text: str) -> str:
    """With a capital first letter."""
    return text[:1].upper() + text[1:]


def render(paper: Paper, key: str, study: str, results: Results) -> dict[str, str]:
    """The table called `key` by file suffix: md, csv, tex."""
    table, note = fill(paper, key, study, results), paper.notes.get(study, Note())
    text = [
        f"# {table.title}: mIoU (%), study `{study}`",
        note.note,
        f"{in_markdown(table.about)} {MEASURED}",
        to_markdown(table.compared),
    ]
    if len(table.differences):
        text += ["## Differences", INTERVALS, to_markdown(table.differences)]
    if len(table.classes):
        text += ["## IoU of each class (%)", to_markdown(table.classes)]
    caption = f"{table.title}: mIoU (%), study {study}"
    return {
        "md": "\n\n".join(filter(None, text)) + "\n",
        "csv": table.compared.to_csv(index=False),
        "tex": to_latex(table.compared, caption=caption, label=f"tab:{study}-{key}"),
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
            table[f"{column}{PUBLISHED}"] = [
                "" if value is None else f"{value:.{decimals(row.published)}f}"
                for row, value in zip(spec.rows, published, strict=True)
            ]
    return table


def decimals(published: Sequence[float | None]) -> int:
    """Those of the most exact number of a row, which YAML keeps without its last zeros."""
    return max(len(str(value).partition(".")[2]) for value in published if value is not None)


def told(spec: TableSpec, results: Results) -> TableSpec:
    """The table without rows of which nothing is published and nothing measured."""
    rows = [
        row
        for row in spec.rows
        if any(value is not None for value in row.published)
        or any(run in results.metrics for run in row.runs)
        or row.name in (spec.compare or ())
    ]
    return replace(spec, rows=tuple(rows))


def step_column(spec: TableSpec, results: Results) -> pd.DataFrame:
    """What a step of each measured row's method costs; no column where nothing is to be shown."""
    if not (spec.step_cost and results.step_costs):
        return pd.DataFrame(index=range(len(spec.rows)))
    methods = [
        next((results.metrics[run]["method"] for run in row.runs if run in results.metrics), None)
        for row in spec.rows
    ]
    known = results.step_costs
    return pd.DataFrame({STEP: [f"{known[m]:.2f}" if m in known else "" for m in methods]})


def without_count(column: str) -> str:
    """`1/8` of `1/8 (372)`: the number of labelled images is the real data set's."""
    return column.partition(" (")[0]


def seeds_of(spec: TableSpec, seeds: pd.DataFrame) -> str:
    """Whose lists the splits are, and how many seeds each run has."""
    mine = seeds[seeds["run"].isin(spec.cited())]
    if mine.empty:
        return "Nothing is measured yet."
    by_number: dict[int, list[str]] = {}
    for run, number in sorted(mine["run"].value_counts().items()):
        by_number.setdefault(number, []).append(run)
    usual = max(by_number, key=lambda number: (len(by_number[number]), number))
    others = [
        f"{', '.join(runs)}: {number}"
        for number, runs in sorted(by_number.items())
        if number != usual
    ]
    more = f" ({'; '.join(others)})" if others else ""
    families = ", ".join(sorted(set(mine["family"])))
    return f"Splits: {families}. Seeds a run: {usual}{more}."


def unseen(runs: Iterable[str], results: Results) -> str:
    """What to mind of classes that some run's validation images do not show; or nothing."""
    names: dict[str, list[str]] = {}
    for run in runs:
        result = results.metrics[run]
        pixels_C = np.sum(result["seeds"][0]["confusion"], axis=1)
        absent = [n for n, num in zip(result["classes"], pixels_C, strict=True) if not num]
        names |= {result["dataset"]: absent} if absent else {}
    if not names:
        return ""
    lists = "; ".join(f"{name} show no {', no '.join(n)}" for name, n in names.items())
    return (
        f"The validation images of {lists}: such a class is 0 in the mean of a run that predicts "
        "it there, and left out of the mean of one that does not, so that two means may be over "
        "different classes."
    )


def comparisons(spec: TableSpec, results: Results) -> pd.DataFrame:
    """What the second row of `spec.compare` gains: a row for each column with both measured."""
    names, found = spec.compare or ("", ""), []
    if spec.compare is not None:
        rows = {row.name: row for row in spec.rows}
        of_both = (rows[name].runs for name in names)
        for column, *runs in zip(spec.columns, *of_both, strict=False):  # a row may have no runs
            if all(run in results.metrics for run in runs):
                found += difference(results, *runs, without_count(column), spec.block)
    intervals = [f"{100 * LEVEL:.0f} % over {what}" for what in ("images", "seeds")]
    head = [f"{names[1]} minus {names[0]}", "points", *intervals, "seeds"]
    return pd.DataFrame(found, columns=head)


def difference(
    results: Results, base: str, other: str, column: str, block: int
) -> list[tuple[str, ...]]:
    """The row for two runs, in points, over the seeds that both have; none without such."""
    results.comparable(base, other)
    base_of, other_of = results.by_seed(base), results.by_seed(other)
    common = [seed for seed in base_of if seed in other_of]
    if not common:
        return []
    base_S, other_S = (np.array([of[seed].miou for seed in common]) for of in (base_of, other_of))
    base_SI3C, other_SI3C = (
        np.stack([of[seed].counts_I3C for seed in common]) for of in (base_of, other_of)
    )
    seeds = over_seeds(base_S, other_S)
    return [
        (
            column,
            points((other_S - base_S).mean()),
            bounds(over_images(base_SI3C, other_SI3C, block=block)),
            bounds(seeds) if seeds else "",
            str(len(common)),
        )
    ]


def points(fraction: float) -> str:
    """In percent, signed; zero is +0.00."""
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"


def bounds(interval: Interval) -> str:
    """`[low, high]`."""
    return f"[{points(interval.low)}, {points(interval.high)}]"


def per_class(spec: TableSpec, classes: pd.DataFrame) -> pd.DataFrame:
    """IoU of each class in each measured run of the table: mean ± sd over seeds, in percent.

    One row a class, or a row a run where there are more runs than classes.
    """
    columns = {}
    for row in spec.rows:
        for column, run in zip(spec.columns, row.runs, strict=False):
            mine = classes[classes["run"] == run]
            if len(mine):
                by_class = mine.groupby("class", sort=False)["iou"].apply(mean_and_deviation)
                columns[f"{row.name} {without_count(column)}"] = by_class
    in_order = list(dict.fromkeys(name for column in columns.values() for name in column.index))
    table = pd.DataFrame(columns, index=in_order).fillna("")
    if len(table.columns) > len(table):
        return table.T.rename_axis("method").reset_index()
    return table.rename_axis("class").reset_index()


def to_markdown(table: pd.DataFrame) -> str:
    """A pipe table; columns after the first are right-aligned. Nothing of a single column."""
    if len(table.columns) < 2:
        return ""
    rows = [map(in_markdown, row) for row in table.itertuples(index=False)]
    return pipe_table([*map(in_markdown, table.columns)], rows)


def pipe_table(
    head: Sequence[str], rows: Iterable[Iterable[str]], left: Sequence[int] = (0,)
) -> str:
    """Of Markdown; all but the columns `left` are right-aligned."""
    rulers = ["---" if i in left else "---:" for i in range(len(head))]
    lines = [" | ".join(head), *map(" | ".join, rows)]
    header, *body = (f"| {line} |" for line in lines)
    return "\n".join([header, f"|{'|'.join(rulers)}|", *body])


def in_markdown(text: str) -> str:
    """As it is, for Markdown: signs that would start something else are escaped."""
    return re.sub(r"([\\`*|<])", r"\\\1", text)


def to_latex(table: pd.DataFrame, *, caption: str, label: str) -> str:
    """A table environment; needs the packages booktabs and amssymb."""
    lines = [
        r"% needs \usepackage{booktabs,amssymb}",
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{in_latex(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"\toprule",
        latex_row(table.columns),
        r"\midrule",
        *map(latex_row, table.itertuples(index=False)),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def latex_row(cells: Iterable[str]) -> str:
    """One line of a tabular."""
    return " & ".join(map(in_latex, cells)) + r" \\"


def in_latex(text: str) -> str:
    """As it is, for LaTeX."""
    return "".join(LATEX.get(character, character) for character in text)

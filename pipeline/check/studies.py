"""Rules about parameters and presentation: params.yaml, studies/ and paper.yaml."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from dvc.utils.hydra import apply_overrides

from pipeline.config import Params, RunConfig
from pipeline.report.tables import TableSpec, load_paper
from pipeline.typed import did_you_mean

Tables = Mapping[str, TableSpec]


def study_files(root: Path) -> list[Path]:
    """Every study's parameters, the active one's first."""
    return [root / "params.yaml", *sorted((root / "studies").glob("*.yaml"))]


def load_tables(path: Path) -> Tables:
    """The tables of paper.yaml, all of which is checked."""
    return load_paper(path).tables


def unusable(path: Path, load: Callable[[Path], Any]) -> Iterator[str]:
    """A file that does not load; the reader's own message names the key and the fix."""
    try:
        load(path)
    except (OSError, ValueError) as error:
        yield str(error)


def not_canonical(path: Path) -> Iterator[str]:
    """Parameters in another style than DVC's own, so that `-S` would rewrite the whole file."""
    text = path.read_text()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_text(text)
        apply_overrides(copy, [])
        rewritten = copy.read_text()
    lines = zip_longest(text.splitlines(True), rewritten.splitlines(True), fillvalue="")
    for number, (found, expected) in enumerate(lines, 1):
        if found != expected:
            yield (
                f"{path.name}: line {number}: found {found!r}; expected {expected!r}, as "
                "`dvc exp run -S` writes it: block lists, lines under 80"
            )
            return


def twins(params: Params) -> Iterator[str]:
    """Runs of one study that train the same thing under two names."""
    alike: dict[str, list[str]] = {}
    for key, run in params.runs.items():
        alike.setdefault(configuration(params, run), []).append(key)
    for keys in alike.values():
        if len(keys) > 1:
            yield (
                f"study {params.study}: runs {', '.join(keys)} have one configuration; "
                "keep one, with all their seeds, and cite it in every table"
            )


def configuration(params: Params, run: RunConfig) -> str:
    """All that a run trains with, but for its seeds."""
    parameters = leaves(params.methods[run.method]) | leaves(run.set)
    parts = [run.dataset, run.split, run.recipe, run.method, parameters]
    return json.dumps(parts, sort_keys=True)


def leaves(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted path: {"a": {"b": 1}} is {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inner = isinstance(value, Mapping)
        flat |= leaves(value, f"{path}{name}.") if inner else {f"{path}{name}": value}
    return flat


def cited(table: TableSpec) -> list[str]:
    """The runs that fill a table's cells, each once."""
    return list(dict.fromkeys(run for row in table.rows for run in row.runs if run is not None))


def unregistered(tables: Tables, studies: Iterable[Params]) -> Iterator[str]:
    """Cells that cite a run that no study has."""
    runs = {run for study in studies for run in study.runs}
    for key, table in tables.items():
        for run in cited(table):
            if run not in runs:
                yield (
                    f"paper.yaml: tables.{key}: run {run!r} is in no study; "
                    f"{did_you_mean(run, runs)}"
                )


def uncited(params: Params, tables: Tables) -> Iterator[str]:
    """Runs of the active study that train for no table."""
    shown = {run for key in params.tables if key in tables for run in cited(tables[key])}
    for run in params.runs:
        if run not in shown:
            yield (
                f"params.yaml: runs.{run}: in none of the study's tables; "
                "cite it in paper.yaml, list its table under tables, or remove it"
            )


def unreadable_cells(params: Params, tables: Tables) -> Iterator[str]:
    """Tables of the active study that paper.yaml lacks, or that cite runs of another group."""
    for key, config in params.tables.items():
        if key not in tables:
            yield f"params.yaml: tables.{key}: not in paper.yaml; {did_you_mean(key, tables)}"
            continue
        for run in cited(tables[key]):
            if run in params.runs and (group := params.runs[run].group) != config.group:
                yield (
                    f"params.yaml: tables.{key} reads group {config.group}, but it cites run "
                    f"{run} of group {group}; give both one group"
                )

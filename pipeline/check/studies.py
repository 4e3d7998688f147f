"""Rules about parameters and presentation: params.yaml, studies/ and paper.yaml."""

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from dvc.utils.hydra import apply_overrides

from pipeline.config import Params, RunConfig
from pipeline.report.figures import kind_of
from pipeline.report.spec import FigureSpec, Paper
from pipeline.typed import did_you_mean


def study_files(root: Path) -> list[Path]:
    """Every study's parameters, the active one's first."""
    return [root / "params.yaml", *sorted((root / "studies").glob("*.yaml"))]


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


def unregistered(paper: Paper, studies: Iterable[Params]) -> Iterator[str]:
    """Cells and figures that cite a run that no study has."""
    runs = {run for study in studies for run in study.runs}
    for section in ("tables", "figures"):
        for key, spec in getattr(paper, section).items():
            for run in spec.cited():
                if run not in runs:
                    yield (
                        f"paper.yaml: {section}.{key}: run {run!r} is in no study; "
                        f"{did_you_mean(run, runs)}"
                    )


def uncited(params: Params, paper: Paper) -> Iterator[str]:
    """Runs of the active study that train for no table and no figure, or are examined for none."""
    shown = {
        run for key in params.tables if key in paper.tables for run in paper.tables[key].cited()
    }
    figures = [paper.figures[key] for key in params.figures if key in paper.figures]
    shown |= {run for figure in figures for run in figure.cited()}
    for run in params.runs:
        if run not in shown:
            yield (
                f"params.yaml: runs.{run}: in none of the study's tables and figures; "
                "cite it in paper.yaml, list its table under tables, or remove it"
            )
    looked_into = {run for figure in figures if looks_into(figure) for run in figure.cited()}
    idle = [run for run in params.examined if run not in looked_into]
    # The stage `figures` needs one.
    for run in idle[1:] if len(idle) == len(params.examined) else idle:
        yield f"params.yaml: examined.{run}: no figure of the study looks into it; remove it"


def undrawable(params: Params, paper: Paper) -> Iterator[str]:
    """Tables and figures of the active study that are not in paper.yaml, or lack what they show."""
    for section in ("tables", "figures"):
        known = getattr(paper, section)
        for key in getattr(params, section):
            if key not in known:
                hint = did_you_mean(key, known)
                yield f"params.yaml: {section}: {key}: not in paper.yaml; {hint}"
    for key in params.figures:
        if key not in paper.figures:
            continue
        for run in paper.figures[key].cited():
            if run not in params.runs:
                yield (
                    f"params.yaml: figures: {key} shows run {run}, which the study has not; "
                    "add the run, or remove the figure"
                )
            elif looks_into(paper.figures[key]) and run not in params.examined:
                yield (
                    f"params.yaml: figures: {key} looks into run {run}; add it to `examined`, with "
                    "its dataset"
                )


def looks_into(figure: FigureSpec) -> bool:
    """Whether a figure needs what stage `examine` writes."""
    return kind_of(figure.kind).EXAMINES

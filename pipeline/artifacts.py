"""Paths and files that cross a stage border: written whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.typed import ConfigError

ROOT = Path(__file__).resolve().parents[1]
"""The repository: every path of the pipeline is relative to it."""


def sources() -> Path:
    """Where published data and weights lie: `$STPG_DATA`, or data/sources."""
    named = os.environ.get("STPG_DATA")
    if named and not Path(named).is_dir():
        raise ConfigError(
            f"$STPG_DATA: {named}: no such folder; point it at the folder that holds CamVid/, VOC/ "
            "or Cityscapes/, or unset it"
        )
    return Path(named) if named else ROOT / "data/sources"


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as sorted, indented JSON, whole or not at all; a nan is a ValueError."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a file, whole or not at all; an OSError names it and the fix."""
    with writing_whole(path) as partial:
        partial.write_text(text)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a compressed .npz, whole or not at all; equal arrays give equal bytes."""
    with writing_whole(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


@contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """A sibling of `path` to write, which then takes its place; an OSError names the fix."""
    partial = path.with_name(path.name + ".partial")
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, path)
        finally:
            with suppress(OSError):
                partial.unlink()


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Gives an OSError within, as of a full disk, a message that names `out` and the fix."""
    try:
        yield
    except OSError as error:
        message = (
            f"{out} cannot be written ({error}); "
            "free some disk space, or make its parent folder writable"
        )
        raise OSError(error.errno, message) from error


@contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """An empty folder to fill, which then takes the place of `final`; removed if that fails."""
    with writing_to(final):
        partial = fresh_folder(final)
    try:
        yield partial
        with writing_to(final):
            commit_folder(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fresh_folder(final: Path) -> Path:
    """An empty sibling of `final` to fill and then to put in its place by `commit_folder`."""
    partial = final.with_name(final.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return partial


def commit_folder(partial: Path, final: Path) -> None:
    """Puts the filled folder in place of `final`; the old one goes only when the new one is in."""
    old = final.with_name(final.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        os.replace(final, old)
    os.replace(partial, final)
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Paths:
    """Where a study keeps what crosses a stage border; dvc.yaml names the same places."""

    study: str
    root: Path = ROOT

    def raw(self, dataset: str) -> Path:
        """As published or drawn; immutable."""
        return self.root / "data/raw" / dataset

    def prepared(self, dataset: str) -> Path:
        """`pipeline.data.base.Prepared`."""
        return self.root / "data/prepared" / dataset

    def lists(self) -> Path:
        """Published lists of labelled images."""
        return self.root / "data/lists"

    def split(self, split: str) -> Path:
        """`pipeline.data.splits.Split` as JSON."""
        return self.root / "data/splits" / self.study / f"{split}.json"

    def fingerprint(self, name: str) -> Path:
        """Hash of the code that a stage runs."""
        return self.root / "fingerprints" / f"{name}.json"

    def run(self, run: str) -> Path:
        """A folder `seed<k>` for each seed, with model.pt, log.jsonl and record.json."""
        return self.root / "runs" / self.study / run

    def reports(self) -> Path:
        """All that follows, which git holds."""
        return self.root / "reports" / self.study

    def metrics(self, run: str) -> Path:
        """What was measured of a run; the same bits from the same inputs."""
        return self.reports() / "metrics" / f"{run}.json"

    def images(self, run: str) -> Path:
        """What was counted on each validation image: `pipeline.evaluate.Evaluation.counts_I3C`."""
        return self.reports() / "images" / f"{run}.npz"

    def record(self, run: str) -> Path:
        """How a run was made: configuration, commit, device, minutes."""
        return self.reports() / "records" / f"{run}.json"

    def examined(self, run: str) -> Path:
        """A folder of what figures show of a run: `pipeline.examine`."""
        return self.reports() / "examined" / run

    def tables(self) -> Path:
        """A Markdown, a CSV and a LaTeX file for each table."""
        return self.reports() / "tables"

    def figures(self) -> Path:
        """A PNG and a PDF file for each figure."""
        return self.reports() / "figures"

    def summary(self) -> Path:
        """All runs' mean IoU, for `dvc metrics` and `dvc exp show`."""
        return self.reports() / "summary.json"

    def step_costs(self) -> Path:
        """What benchmarks/steps.py measured, of all studies."""
        return self.root / "benchmarks/steps.csv"

    def scratch(self) -> Path:
        """Resume states and finished seeds of all studies, no output of DVC; `$STPG_WORK` moves it.

        A folder in it is named by all that determines its training, so that studies share them.
        """
        return Path(os.environ.get("STPG_WORK") or self.root / ".work")


def sha256_of(value: Any) -> str:
    """Of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

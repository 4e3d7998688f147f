"""What was measured, as git holds it: tidy data frames and arrays.

Letters: S seeds, I images, C classes, P points, B bins of confidence.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.artifacts import Paths
from pipeline.typed import InputError


@dataclass(frozen=True)
class Results:
    """All results of a study."""

    paths: Paths

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """The metrics file of each run, by the run's name."""
        files = sorted(self.paths.metrics("_").parent.glob("*.json"))
        return {path.stem: json.loads(path.read_text()) for path in files}

    @cached_property
    def seeds(self) -> pd.DataFrame:
        """One row for each run and seed.

        Columns run, method, dataset, split, family and labeled (whose list it is, and its number
        of labelled images), seed, miou (a fraction); sorted by run and seed.
        """
        rows = [
            {k: result[k] for k in ("run", "method", "dataset")}
            | {"split": result["split"]["name"]}
            | {k: result["split"][k] for k in ("family", "labeled")}
            | {"seed": seed["seed"], "miou": seed["miou"]}
            for result in self.metrics.values()
            for seed in result["seeds"]
        ]
        columns = ["run", "method", "dataset", "split", "family", "labeled", "seed", "miou"]
        return pd.DataFrame(rows, columns=columns).sort_values(["run", "seed"], ignore_index=True)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """One row for each run, seed and class: run, seed, class, iou (a fraction or nan)."""
        rows = [
            {"run": run, "seed": seed["seed"], "class": name, "iou": iou}
            for run, result in self.metrics.items()
            for seed in result["seeds"]
            for name, iou in zip(result["classes"], seed["iou"], strict=True)
        ]
        return pd.DataFrame(rows, columns=["run", "seed", "class", "iou"]).astype({"iou": float})

    @cached_property
    def step_costs(self) -> dict[str, float]:
        """A training step of each method by one of the baseline, as measured for this study."""
        path = self.paths.step_costs()
        if not path.is_file():
            return {}
        table = pd.read_csv(path)
        mine = table[table["study"] == self.paths.study]
        return dict(zip(mine["method"], mine["ratio"], strict=True))

    def overview(self) -> pd.DataFrame:
        """One row a run: what it is, its number of seeds, mean and deviation of mIoU in percent."""
        return over_seeds(self.seeds, ["run", "method", "dataset", "split", "labeled"], "miou")

    def classes_overview(self) -> pd.DataFrame:
        """One row a run and class: number of seeds, mean and deviation of the IoU in percent."""
        return over_seeds(self.classes, ["run", "class"], "iou")

    def calibration(self, run: str) -> np.ndarray:
        """Float64 [S, 3, B] of a run: see `pipeline.metrics.calibration`."""
        return np.array([seed["calibration"] for seed in self.metrics[run]["seeds"]])

    def counts(self, run: str) -> np.ndarray:
        """Int32 [S, I, 3, C] of a run: see `pipeline.evaluate.Evaluation.counts_I3C`."""
        with np.load(self.paths.images(run)) as file:
            return file["counts_SI3C"]

    def image_ids(self, run: str) -> list[str]:
        """The validation images that a run was scored on, in the order of `counts`."""
        with np.load(self.paths.images(run)) as file:
            return file["ids"].tolist()

    def comparable(self, *runs: str) -> None:
        """Raises an InputError unless all were scored on the same images."""
        for other in runs[1:]:
            if self.image_ids(other) != self.image_ids(runs[0]):
                raise InputError(
                    f"paper.yaml: {runs[0]} is compared with {other}, which was scored on other "
                    "images; cite runs of one data set"
                )

    def by_seed(self, run: str) -> dict[int, "Scored"]:
        """What was measured of each seed, in the order of the run's seeds."""
        seeds = self.metrics[run]["seeds"]
        pairs = zip(seeds, self.counts(run), strict=True)
        return {seed["seed"]: Scored(seed["miou"], counts_I3C) for seed, counts_I3C in pairs}

    def examined(self, run: str) -> "Examined":
        """What stage `examine` wrote of a run; an InputError if it is not among `examined`."""
        folder = self.paths.examined(run)
        if not (folder / "about.json").exists():
            raise InputError(f"paper.yaml: run {run} is not examined; add it to `examined`")
        return Examined(folder)


class Scored(NamedTuple):
    """One seed of a run."""

    miou: float
    """A fraction."""
    counts_I3C: np.ndarray
    """See `pipeline.evaluate.Evaluation`."""


@dataclass(frozen=True)
class Examined:
    """What figures show of one run (`stages/examine.py`)."""

    folder: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """Classes, colours, numbers of pixels, silhouettes."""
        return json.loads((self.folder / "about.json").read_text())

    @property
    def classes(self) -> list[str]:
        """Names, by index."""
        return self.about["classes"]

    @property
    def colors(self) -> np.ndarray:
        """The data set's own: uint8 [C, 3]."""
        return np.array(self.about["colors"], np.uint8)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """`embedding`, `pictures` or `snapshot`; an InputError if the method has no snapshot."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            raise InputError(f"{path}: missing; the run's method has no {name}")
        with np.load(path) as file:
            return dict(file)

    def log(self) -> pd.DataFrame:
        """One row a logged step; vectors by class or confidence are lists."""
        lines = (self.folder / "log.jsonl").read_text().splitlines()
        return pd.DataFrame([json.loads(line) for line in lines])


def over_seeds(table: pd.DataFrame, by: list[str], name: str) -> pd.DataFrame:
    """Number of seeds, mean and deviation in percent of a fraction, of each `by` as they come."""
    grouped = (100 * table[name]).groupby([table[key] for key in by], sort=False)
    found = grouped.agg(["count", "mean", "std"]).reset_index()
    found = found.rename(columns={"count": "seeds", "mean": name, "std": f"{name}_sd"})
    return found.round({name: 2, f"{name}_sd": 2})


def mean_and_deviation(values: pd.Series) -> str:
    """`mean ± sd` of fractions, in percent; without a deviation for a single value.

    The deviation is the sample's (n - 1); nothing at all is an empty text.
    """
    values = 100 * values.dropna()
    if values.empty:
        return ""
    if len(values) == 1:
        return f"{values.iloc[0]:.2f}"
    return f"{values.mean():.2f} ± {values.std(ddof=1):.2f}"

"""What was measured, as tidy data frames."""

import json
from pathlib import Path

import pandas as pd


def read_seeds(folder: Path) -> pd.DataFrame:
    """One row for each run and seed below `folder`.

    Returns:
      Columns run, method, dataset, split, family and labeled (whose list it is, and its number of
      labelled images), seed, miou (a fraction); sorted by run and seed.
    """
    rows = [
        {k: result[k] for k in ("run", "method", "dataset")}
        | {"split": result["split"]["name"]}
        | {k: result["split"][k] for k in ("family", "labeled")}
        | {"seed": seed["seed"], "miou": seed["miou"]}
        for result in read_all(folder)
        for seed in result["seeds"]
    ]
    columns = ["run", "method", "dataset", "split", "family", "labeled", "seed", "miou"]
    return pd.DataFrame(rows, columns=columns).sort_values(["run", "seed"], ignore_index=True)


def read_classes(folder: Path) -> pd.DataFrame:
    """One row for each run, seed and class: columns run, seed, class, iou (a fraction or nan)."""
    rows = [
        {"run": result["run"], "seed": seed["seed"], "class": name, "iou": iou}
        for result in read_all(folder)
        for seed in result["seeds"]
        for name, iou in zip(result["classes"], seed["iou"], strict=True)
    ]
    return pd.DataFrame(rows, columns=["run", "seed", "class", "iou"]).astype({"iou": float})


def read_all(folder: Path) -> list[dict]:
    """The metrics files below `folder`, in the order of their names."""
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


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

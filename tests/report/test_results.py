import pandas as pd
import pytest

from pipeline.artifacts import write_json
from pipeline.report.results import mean_and_deviation, read_classes, read_seeds


def write_result(folder, run, seeds):
    """A metrics file as the stage `evaluate` writes it; seeds: number -> (miou, iou)."""
    result = {
        "run": run,
        "method": "stpg",
        "split": {"name": "voc_8", "family": "cps", "labeled": 7, "unlabeled": 49},
        "dataset": "voc",
        "classes": ["road", "sky"],
        "seeds": [
            {"seed": seed, "miou": miou, "iou": iou, "confusion": [[1, 0], [0, 1]]}
            for seed, (miou, iou) in seeds.items()
        ],
    }
    write_json(folder / f"{run}.json", result)


def test_seeds_are_rows_in_order_of_run_and_seed(tmp_path):
    write_result(tmp_path / "a", "z", {1: (0.5, [0.5, 0.5]), 0: (0.25, [0.25, None])})
    write_result(tmp_path / "b", "y", {0: (0.75, [1.0, 0.5])})
    got = read_seeds(tmp_path)
    assert list(got) == [
        "run", "method", "dataset", "split", "family", "labeled", "seed", "miou",
    ]  # fmt: skip
    assert set(got["family"]) == {"cps"}
    assert set(got["labeled"]) == {7}
    assert got[["run", "seed", "miou"]].values.tolist() == [
        ["y", 0, 0.75],
        ["z", 0, 0.25],
        ["z", 1, 0.5],
    ]
    assert set(got["method"]) == {"stpg"}


def test_classes_are_rows_and_an_absent_one_is_nan(tmp_path):
    write_result(tmp_path, "z", {0: (0.25, [0.25, None]), 1: (0.5, [0.75, 0.25])})
    got = read_classes(tmp_path)
    assert list(got) == ["run", "seed", "class", "iou"]
    assert got["class"].tolist() == ["road", "sky"] * 2
    assert got["iou"].fillna(-1).tolist() == [0.25, -1, 0.75, 0.25]


@pytest.mark.parametrize("read", [read_seeds, read_classes])
def test_an_empty_folder_gives_an_empty_frame_with_its_columns(tmp_path, read):
    got = read(tmp_path / "nothing")
    assert got.empty
    assert "run" in got
    assert "seed" in got


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], ""),
        ([float("nan")], ""),
        ([0.5], "50.00"),
        ([0.75456, float("nan")], "75.46"),
        # mean 0.72, deviations -0.02, 0, 0.02: sqrt(0.0008 / 2) = 0.02
        ([0.70, 0.72, 0.74], "72.00 ± 2.00"),
        ([0.5, 0.5], "50.00 ± 0.00"),
    ],
)
def test_mean_and_deviation_by_hand(values, text):
    assert mean_and_deviation(pd.Series(values, dtype=float)) == text

import pandas as pd
import pytest

from pipeline.artifacts import Paths, write_json
from pipeline.report.results import Results, mean_and_deviation
from pipeline.typed import InputError
from tests.report.study import BASE, OURS, write_study


def write_result(paths, run, seeds):
    """A metrics file as the stage `evaluate` writes it; seeds: number -> (miou, iou)."""
    result = {
        "run": run,
        "method": "stpg",
        "split": {"name": "voc_8", "family": "cps", "labeled": 7, "unlabeled": 49},
        "dataset": "voc",
        "classes": ["road", "sky"],
        "seeds": [
            {"seed": seed, "miou": miou, "iou": iou, "calibration": [[2], [1], [1.5]]}
            for seed, (miou, iou) in seeds.items()
        ],
    }
    write_json(paths.metrics(run), result)


@pytest.fixture
def paths(tmp_path):
    return Paths("tiny", tmp_path)


def test_seeds_are_rows_in_order_of_run_and_seed(paths):
    write_result(paths, "z", {1: (0.5, [0.5, 0.5]), 0: (0.25, [0.25, None])})
    write_result(paths, "y", {0: (0.75, [1.0, 0.5])})
    got = Results(paths).seeds
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


def test_classes_are_rows_and_an_absent_one_is_nan(paths):
    write_result(paths, "z", {0: (0.25, [0.25, None]), 1: (0.5, [0.75, 0.25])})
    got = Results(paths).classes
    assert list(got) == ["run", "seed", "class", "iou"]
    assert got["class"].tolist() == ["road", "sky"] * 2
    assert got["iou"].fillna(-1).tolist() == [0.25, -1, 0.75, 0.25]


def test_the_overview_has_a_row_a_run(paths):
    write_result(paths, "z", {0: (0.25, [0.25, None]), 1: (0.5, [0.75, 0.25])})
    write_result(paths, "y", {0: (0.75, [1.0, 0.5])})
    got = Results(paths).overview().fillna(-1)
    assert got[["run", "seeds", "miou", "miou_sd"]].values.tolist() == [
        ["y", 1, 75.0, -1],
        ["z", 2, 37.5, 17.68],
    ]


def test_calibration_is_an_array_by_seed(paths):
    write_result(paths, "z", {0: (0.25, [0.25, None]), 1: (0.5, [0.75, 0.25])})
    assert Results(paths).calibration("z").tolist() == [[[2], [1], [1.5]]] * 2


@pytest.mark.parametrize("frame", ["seeds", "classes"])
def test_an_empty_folder_gives_an_empty_frame_with_its_columns(paths, frame):
    got = getattr(Results(paths), frame)
    assert got.empty
    assert "run" in got
    assert "seed" in got


def test_a_run_that_is_not_examined_is_named(paths):
    with pytest.raises(InputError, match="run z is not examined; add it to `examined`"):
        Results(paths).examined("z")


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


def test_every_class_of_every_run_in_numbers(tmp_path):
    paths = Paths("tiny", tmp_path)
    write_study(paths)
    table = Results(paths).classes_overview().set_index(["run", "class"])
    assert table.loc[(BASE, "road")].tolist() == [3, 70.0, 17.32]  # 80, 80, 50
    assert table.loc[(OURS, "bus")].tolist() == [2, 10.0, 14.14]
    assert table.loc[(BASE, "bus"), "seeds"] == 0
    assert len(table) == 8

"""What several tests share: one thread, a tiny network, a tiny data set."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from pipeline.artifacts import Paths, write_json
from pipeline.config import NetworkConfig, TrainConfig
from pipeline.data.base import Prepared
from pipeline.data.splits import make_split, write_split
from pipeline.runtime import Runtime, set_up
from tests.prepared import make_prepared
from tests.tiny import study


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors are slower with more, and sums round differently."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_network() -> NetworkConfig:
    """A DeepLabV3+ of 0.4 million parameters; it needs no weights from outside."""
    return NetworkConfig(
        trunk="test_resnet",
        weights="none",
        low_level_channels=8,
        aspp_channels=16,
        aspp_rates=(1, 2),
        decoder_channels=16,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """What the trainings of a file learn from."""
    return make_prepared(tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Of the study of tests/tiny.py, prepared and split."""
    monkeypatch.setenv("STPG_WORK", str(tmp_path / "work"))
    paths = Paths("tiny", tmp_path)
    data = make_prepared(paths.prepared("blocks"))
    write_split(paths.split("half"), make_split(data, study().splits["half"]))
    for method in study().methods:
        write_json(paths.fingerprint(f"train-{method}"), {"pipeline.trainer": "0"})
    return paths


@pytest.fixture
def runtime() -> Runtime:
    """The CPU with one thread."""
    return set_up(TrainConfig(threads=1))


@pytest.fixture
def tiny_prepared(tmp_path: Path) -> Callable[..., Prepared]:
    """`make_prepared` in a folder of this test's own."""
    return partial(make_prepared, tmp_path / "tiny")

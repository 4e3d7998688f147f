"""Two processes against one with the whole batch, on the CPU (gloo)."""

import json
import subprocess
import sys

import pytest
import torch

from pipeline.artifacts import ROOT
from pipeline.trainer import Interrupted
from tests.joint import train
from tests.prepared import make_prepared

STEPS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "tiny"
    make_prepared(folder)
    return folder


def two(*arguments, check=True):
    """`tests.joint` in two processes; all that they print."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "--module", "tests.joint", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180
    )
    assert (done.returncode == 0) == check, done.stdout
    return done.stdout


def log(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def state(folder, rank=0):
    return torch.load(folder / f"rank{rank}.pt", weights_only=True)


def same_training(first, second):
    """Losses within 1e-6 of each other at every step, and states alike (float64)."""
    for one, other in zip(log(first), log(second), strict=True):
        assert {k: v for k, v in one.items() if k.startswith("loss")} == pytest.approx(
            {k: v for k, v in other.items() if k.startswith("loss")}, rel=1e-6, abs=1e-9
        )
    one, other = state(first), state(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-8, msg=name)


@pytest.fixture(
    scope="module",
    params=[
        "stpg",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("supervised", "cps")),
    ],
)
def both(request, data, tmp_path_factory):
    """Folders of a training in two processes and of one in one."""
    folder = tmp_path_factory.mktemp(request.param)
    two(data, folder / "two", request.param, STEPS)
    train(data, folder / "one", request.param, STEPS)
    return folder / "two", folder / "one"


def test_two_processes_train_as_one_with_the_whole_batch(both):
    same_training(*both)


def test_all_processes_end_in_the_same_bits(both):
    folder, _ = both
    first, second = state(folder, 0), state(folder, 1)
    assert all(torch.equal(second[name], value) for name, value in first.items())


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(data, tmp_path):
    folder = tmp_path / "run"
    printed = two(data, folder, "stpg", STEPS, 3, check=False)
    assert "stopped at step 4 of 8; run again to go on" in printed
    train(data, folder, "stpg", STEPS)
    train(data, tmp_path / "whole", "stpg", STEPS)
    same_training(folder, tmp_path / "whole")
    with pytest.raises(Interrupted, match="stopped at step 4"):
        train(data, tmp_path / "again", "stpg", STEPS, stop_at=3)
    two(data, tmp_path / "again", "stpg", STEPS)
    same_training(tmp_path / "again", tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_state_is_kept(data, tmp_path):
    printed = two(data, tmp_path / "run", "stpg", STEPS, -1, 5, check=False)
    assert "exitcode" in printed
    assert not (tmp_path / "run/model.pt").exists()
    two(data, tmp_path / "run", "stpg", STEPS)
    train(data, tmp_path / "whole", "stpg", STEPS)
    same_training(tmp_path / "run", tmp_path / "whole")

"""Two processes against one with the whole batch, on the CPU (gloo)."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch.nn import BatchNorm2d

from pipeline import processes
from pipeline.artifacts import ROOT
from pipeline.methods.base import available
from pipeline.trainer import Interrupted
from tests.joint import train
from tests.methods.test_contract import make
from tests.prepared import make_prepared

STEPS = 8
FEW = 5
"""Steps of each method: all of its parts are at work in the last two."""


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


def steps(folder):
    """Which the last process to write took."""
    return json.loads((folder / "steps0.json").read_text())


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


ALL = [
    name if name.startswith("stpg") else pytest.param(name, marks=pytest.mark.slow)
    for name in ("stpg+parts", "stpg+again", *available())
]


@pytest.fixture(scope="module")
def trained_by_two(request, data, tmp_path_factory):
    """A folder with a training of each method that is tested, in two processes."""
    folder = tmp_path_factory.mktemp("two")
    names = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    }
    two(data, folder, ",".join(sorted(names)), FEW)
    return folder


@pytest.mark.parametrize("name", ALL)
def test_two_processes_train_as_one_with_the_whole_batch(name, data, trained_by_two, tmp_path):
    train(data, tmp_path, name, FEW)
    same_training(trained_by_two / name, tmp_path)


@pytest.mark.parametrize("name", ALL)
def test_all_processes_end_in_the_same_bits(name, trained_by_two):
    first, second = (state(trained_by_two / name, rank) for rank in (0, 1))
    assert all(torch.equal(second[name], value) for name, value in first.items())


@pytest.mark.slow
def test_a_training_goes_on_with_another_number_of_processes(data, tmp_path):
    folder = tmp_path / "stpg"
    printed = two(data, tmp_path, "stpg", STEPS, 3, check=False)
    assert "stopped at step 4 of 8; run again to go on" in printed
    train(data, folder, "stpg", STEPS)
    assert steps(folder) == [4, 5, 6, 7]
    train(data, tmp_path / "whole", "stpg", STEPS)
    same_training(folder, tmp_path / "whole")
    with pytest.raises(Interrupted, match="stopped at step 4"):
        train(data, tmp_path / "again", "stpg", STEPS, stop_at=3)
    (tmp_path / "on").mkdir()
    (tmp_path / "again").rename(tmp_path / "on/stpg")
    two(data, tmp_path / "on", "stpg", STEPS)
    assert steps(tmp_path / "on/stpg") == [4, 5, 6, 7]
    same_training(tmp_path / "on/stpg", tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_state_is_kept(data, tmp_path):
    printed = two(data, tmp_path, "stpg", STEPS, -1, 5, check=False)
    assert "exitcode" in printed
    assert not (tmp_path / "stpg/model.pt").exists()
    two(data, tmp_path, "stpg", STEPS)
    assert steps(tmp_path / "stpg") == [4, 5, 6, 7]
    train(data, tmp_path / "whole", "stpg", STEPS)
    same_training(tmp_path / "stpg", tmp_path / "whole")


def test_on_gpus_norms_that_count_become_torchs_own(monkeypatch):
    """As far as it can be seen without one: which become what, and a pass of a whole batch."""
    monkeypatch.setattr(processes, "world", lambda: 2)
    method = torch.nn.ModuleList([make("pseudoseg"), BatchNormAct2d(4)])
    plain = {k: m for k, m in copy.deepcopy(method).named_modules() if isinstance(m, BatchNorm2d)}
    joint = processes.with_joint_norms(method, torch.device("cuda"))
    kinds = {name: type(joint.get_submodule(name)) for name in plain}
    apart = {name for name, norm in plain.items() if not norm.track_running_stats}
    assert {name for name, kind in kinds.items() if kind is BatchNorm2d} == apart != set()
    assert {kinds[name] for name in plain.keys() - apart} == {
        processes.SyncWhereShared,
        processes.SyncActWhereShared,
    }
    for name, norm in plain.items():
        value = torch.randn(2, norm.num_features, 3, 3)
        other = joint.get_submodule(name)
        torch.testing.assert_close(other(value), norm(value))
        for buffer, same in norm.named_buffers():
            torch.testing.assert_close(other.get_buffer(buffer), same)

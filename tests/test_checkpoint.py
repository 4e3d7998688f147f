import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline import checkpoint
from pipeline.checkpoint import load, save, save_model, sole_owner
from pipeline.typed import InputError
from tests.prepared import Trap

CONTENT = {
    "step": 3,
    "method": {"weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(4)},
    "optimizer": {"state": {0: {"momentum": torch.ones(2)}}, "groups": [{"lr": 0.1, "on": None}]},
}


def failing_save(error):
    """A torch.save that breaks off in the middle of a file."""

    def fail(content, path):
        Path(path).write_bytes(b"half")
        raise error

    return fail


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "new" / "state.pt"
    save(path, CONTENT)
    got = load(path)
    assert torch.equal(got["method"].pop("weight"), CONTENT["method"]["weight"])
    assert got["method"] == {"count": 4}
    assert got["optimizer"]["state"][0]["momentum"].tolist() == [1, 1]
    assert got["optimizer"]["groups"] == [{"lr": 0.1, "on": None}]
    assert [p.name for p in path.parent.iterdir()] == ["state.pt"]


def test_a_model_file_holds_network_classes_and_configuration(tmp_path):
    classes, config = [{"name": "road", "color": [1, 2, 3]}], {"seed": 0}
    save_model(tmp_path / "model.pt", {"weight": torch.ones(1)}, classes, config)
    want = {"network": {"weight": torch.ones(1)}, "classes": classes, "config": config}
    assert load(tmp_path / "model.pt") == want


@pytest.mark.parametrize("error", [RuntimeError("disk full"), OSError("disk full")])
def test_a_failed_save_leaves_the_old_file_and_says_so(tmp_path, monkeypatch, error):
    path = tmp_path / "state.pt"
    save(path, {"step": 1})
    monkeypatch.setattr(torch, "save", failing_save(error))
    message = r"state\.pt could not be written \(disk full\); free some disk space, or make its"
    with pytest.raises(OSError, match=message):
        save(path, {"step": 2})
    assert load(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "state.pt"
    save(path, {"step": 1})
    monkeypatch.setattr(torch, "save", failing_save(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(path, {"step": 2})
    assert load(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/state\.pt could not be written"):
        save(tmp_path / "file/state.pt", {})


def test_a_folder_that_cannot_be_owned_is_named_with_the_fix(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/run cannot be written .* free some disk space"):
        with sole_owner(tmp_path / "file/run"):
            pytest.fail("owned")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.pt is missing"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_named_with_the_way_out(tmp_path, kept):
    path = tmp_path / "state.pt"
    save(path, CONTENT)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    message = r"state\.pt \(\d+ bytes\) is not a readable file .* Delete it and run again"
    with pytest.raises(ValueError, match=message):
        load(path)


def test_a_file_with_code_in_it_is_refused_unrun(tmp_path):
    torch.save({"step": Trap(tmp_path / "was here")}, tmp_path / "state.pt")
    with pytest.raises(ValueError, match="UnpicklingError"):
        load(tmp_path / "state.pt")
    assert not (tmp_path / "was here").exists()
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert (tmp_path / "was here").exists()


def test_a_folder_has_one_owner_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.2)
    folder = tmp_path / "new"
    with sole_owner(folder):
        with pytest.raises(InputError, match=r"another process is training in .*new: wait for"):
            with sole_owner(folder):
                pytest.fail("two owners")
        with sole_owner(tmp_path / "other"):
            pass
    with sole_owner(folder):
        pass


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_another_process_owns_its_folder_until_it_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.2)
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process"):
            with sole_owner(tmp_path):
                pytest.fail("two owners")
        other.kill()
        other.wait()
        with sole_owner(tmp_path):
            pass

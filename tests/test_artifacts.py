import errno
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.artifacts import (
    ROOT,
    Paths,
    commit_folder,
    fresh_folder,
    replacing,
    sha256_of,
    write_arrays,
    write_json,
    write_text,
)
from pipeline.data.checksums import manifest_of, summary_of


def test_json_has_its_folder_made_and_its_keys_sorted(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"b": [1, None], "a": 0.5})
    assert path.read_text() == '{\n "a": 0.5,\n "b": [\n  1,\n  null\n ]\n}\n'


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, 1)
    for value, error in ((object(), TypeError), (float("nan"), ValueError)):
        with pytest.raises(error):
            write_json(path, {"a": value})
    assert json.loads(path.read_text()) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_arrays_come_back_and_equal_ones_are_equal_bytes(tmp_path):
    arrays = {"a_P": np.arange(5), "name": np.array(["x"])}
    for name in ("one.npz", "two.npz"):
        write_arrays(tmp_path / "new" / name, arrays)
    one, two = sorted((tmp_path / "new").iterdir())
    assert one.read_bytes() == two.read_bytes()
    with np.load(one) as file:
        assert {name: value.tolist() for name, value in file.items()} == {
            "a_P": [0, 1, 2, 3, 4],
            "name": ["x"],
        }


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("write", [write_json, write_text])
def test_a_full_disk_leaves_the_old_file_and_names_it_with_the_fix(tmp_path, monkeypatch, write):
    path = tmp_path / "a.json"
    path.write_text("old")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"a\.json cannot be written .*; free some disk space"):
        write(path, "new")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.json", "old")]


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", forbidden)
    message = r"out cannot be written .*make its parent folder writable"
    with pytest.raises(OSError, match=message), replacing(tmp_path / "out"):
        pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_that_is_not_filled_leaves_the_old_one_and_no_trace(tmp_path, error):
    final = tmp_path / "out"
    with replacing(final) as folder:
        (folder / "old").touch()

    def fail() -> None:
        with replacing(final) as folder:
            (folder / "half").touch()
            raise error

    with pytest.raises(error):
        fail()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["out", "out/old"]


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    final = tmp_path / "out"
    for name in ("first", "second"):
        partial = fresh_folder(final)
        assert list(partial.iterdir()) == []
        (partial / name).touch()
        commit_folder(partial, final)
    assert [p.name for p in final.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [final]


def test_a_folder_that_is_not_committed_leaves_the_old_one(tmp_path):
    final = tmp_path / "out"
    commit_folder(fresh_folder(final), final)
    (fresh_folder(final) / "left over").touch()
    assert list(final.iterdir()) == []
    assert list(fresh_folder(final).iterdir()) == []


def test_the_old_folder_goes_only_when_the_new_one_is_in(tmp_path):
    final = tmp_path / "out"
    (fresh_folder(final) / "first").touch()
    commit_folder(tmp_path / "out.partial", final)
    with pytest.raises(FileNotFoundError):
        commit_folder(tmp_path / "missing", final)
    assert [path.name for path in tmp_path.rglob("first")] == ["first"]


def outputs(stage: dict) -> list[str]:
    """The paths that a stage of dvc.yaml makes."""
    outs = stage.get("do", stage)["outs"]
    return [out if isinstance(out, str) else next(iter(out)) for out in outs]


def test_dvc_names_the_same_places():
    paths = Paths("${study}", Path())
    prepared = paths.prepared("${key}")
    of_run = [paths.metrics("${key}"), paths.images("${key}"), paths.record("${key}")]
    want = {
        "fingerprint": [str(paths.fingerprint("x").parent)],
        "download": [str(manifest_of(paths.raw("${key}")))],
        "prepare": [str(prepared), str(summary_of(prepared))],
        "split": [str(paths.split("${key}"))],
        "train": [str(paths.run("${key}"))],
        "evaluate": [str(path) for path in of_run],
        "examine": [str(paths.examined("${key}"))],
        "tables": [str(paths.tables()), str(paths.summary())],
        "figures": [str(paths.figures())],
        "report": [str(paths.reports() / f"report.{suffix}") for suffix in ("html", "md")],
    }
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {name: outputs(stages[name]) for name in want} == want


def test_scratch_can_be_moved(tmp_path, monkeypatch):
    monkeypatch.setenv("STPG_WORK", str(tmp_path))
    assert Paths("mini").scratch() == tmp_path
    monkeypatch.setenv("STPG_WORK", "")
    assert Paths("mini").scratch() == ROOT / ".work"


def test_a_hash_depends_on_values_and_not_on_the_order_of_keys():
    assert sha256_of({"a": 1, "b": [2]}) == sha256_of({"b": [2], "a": 1})
    different = [{"a": 1}, {"a": 2}, {"b": 1}, {"a": "1"}, [1, 2], [2, 1]]
    assert len({sha256_of(value) for value in different}) == len(different)

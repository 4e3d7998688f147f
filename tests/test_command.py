import gc
import os
import platform
import re
import subprocess
import sys
from functools import partial

import pytest

from pipeline.artifacts import ROOT, sources
from pipeline.command import run_command, run_stage
from pipeline.typed import ConfigError, InputError


def main(key):
    errors = {"typo": ConfigError("a: no 'b'"), "data": InputError("x.png: unreadable")}
    if key in errors:
        raise errors[key]
    if key == "disk":
        raise OSError(28, "x.png: free some disk space")
    if key == "bare":
        raise OSError(28, "No space left on device", "x.png")
    if key == "stop":
        raise KeyboardInterrupt("stopped at step 3")
    if key == "fault":
        raise ValueError("too many values to unpack")
    print(f"did {key}")


def status(monkeypatch, *arguments, messages=()):
    monkeypatch.setattr(sys, "argv", ["/somewhere/stages/train.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        run_stage(main, *messages)
    return stop.value.code


def test_a_stage_gets_its_arguments(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stages/train.py", "mini"])
    run_stage(main)
    assert capsys.readouterr().out == "did mini\n"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("typo", "stages.train: a: no 'b'"),
        ("data", "stages.train: x.png: unreadable"),
        ("disk", "stages.train: [Errno 28] x.png: free some disk space"),
    ],
)
def test_bad_input_ends_in_one_line(monkeypatch, key, message):
    assert status(monkeypatch, key) == message


def test_a_stop_is_a_message_where_the_stage_says_so(monkeypatch):
    found = status(monkeypatch, "stop", messages=[KeyboardInterrupt])
    assert found == "stages.train: stopped at step 3"


@pytest.mark.parametrize(("key", "error"), [("fault", ValueError), ("bare", OSError)])
def test_what_says_neither_cause_nor_fix_keeps_its_traceback(monkeypatch, key, error):
    monkeypatch.setattr(sys, "argv", ["train.py", key])
    with pytest.raises(error):
        run_stage(main)


def test_a_command_may_say_that_the_systems_words_are_enough(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/stages/predict.py"])
    with pytest.raises(SystemExit) as stop:
        run_command(partial(main, "bare"), OSError)
    assert stop.value.code == "stages.predict: [Errno 28] No space left on device: 'x.png'"
    with pytest.raises(OSError, match="No space left"):
        run_command(partial(main, "bare"))


@pytest.mark.parametrize("arguments", [[], ["a", "b"]])
def test_the_wrong_number_of_arguments_shows_the_right_one(monkeypatch, arguments):
    assert status(monkeypatch, *arguments) == "usage: python -m stages.train KEY"


@pytest.mark.parametrize(
    ("stage", "key"),
    [("train@one", "one"), ("train@a; b 'c'", "a; b 'c'"), ("../x@y/dvc.yaml:train@one", "one")],
)
def test_without_arguments_the_key_is_that_of_dvcs_stage(monkeypatch, stage, key):
    monkeypatch.setenv("DVC_STAGE", stage)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    seen = []

    def main(key):
        seen.append(key)

    run_stage(main)
    monkeypatch.setattr(sys, "argv", ["train.py", "given"])
    run_stage(main)
    assert seen == [key, "given"]


def test_what_was_imported_without_collecting_garbage_is_frozen():
    """And no more than that: where it is collected, what is there may be garbage."""
    seen = []
    try:
        before = gc.get_freeze_count()
        run_command(lambda: seen.append((gc.isenabled(), gc.get_freeze_count() == before)))
        gc.disable()
        run_command(lambda: seen.append((gc.isenabled(), gc.get_freeze_count() > before)))
    finally:
        gc.enable()
        gc.unfreeze()
    assert seen == [(True, True), (True, True)]


def test_garbage_is_not_collected_while_a_command_imports(tmp_path):
    for name, text in (
        ("stages/__init__.py", (ROOT / "stages/__init__.py").read_text()),
        ("stages/probe.py", "import gc\nprint(gc.isenabled())\n"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for command, said in (
        (["-m", "stages.probe"], "False"),
        (["-c", "import stages.probe"], "True"),
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == said


FREEING = """
import resource
import numpy as np
from pipeline.command import run_command
def step():
    blocks = [np.ones(1 << 21) for _ in range(10)]
def main():
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
"""Prints the page faults of a step that frees 160 MiB."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")
def test_freed_memory_is_kept_for_the_next_step():
    allocator = re.compile("MALLOC_|GLIBC_TUNABLES|LD_PRELOAD")
    env = {name: value for name, value in os.environ.items() if not allocator.match(name)}

    def faults(call: str) -> int:
        command = [sys.executable, "-c", FREEING + call]
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    if not (usual := faults("main()")):
        pytest.skip("this system counts no page faults")
    assert usual > 1000  # pages may be huge
    assert faults("run_command(main)") < 100


def test_a_stage_without_key_takes_none_from_dvc(monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "tables")
    assert status(monkeypatch) == "usage: python -m stages.train KEY"


@pytest.mark.parametrize("stage", ["download", "prepare", "split", "train", "evaluate", "examine"])
def test_every_stage_says_in_one_line_what_it_does_not_know(stage):
    command = [sys.executable, "-m", f"stages.{stage}", "nope"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"stages.{stage}: ")
    assert "no 'nope'; known: " in line


def test_a_folder_of_data_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("STPG_DATA", str(tmp_path))
    assert sources() == tmp_path
    for wrong in (tmp_path / "gone", tmp_path / "file"):
        (tmp_path / "file").touch()
        monkeypatch.setenv("STPG_DATA", str(wrong))
        with pytest.raises(ConfigError, match=rf"\$STPG_DATA: {wrong}: no such folder"):
            sources()
        assert not os.path.isdir(wrong)
    monkeypatch.delenv("STPG_DATA")
    assert sources() == ROOT / "data/sources"

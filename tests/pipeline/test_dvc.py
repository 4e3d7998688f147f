"""Whole DVC runs of a small study in a copy of the repository.

The copy is made once. Each test finds it up to date, makes its change, and leaves it up to date.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.faults import kill_points, stage_of
from tests.pipeline.project import BEFORE_TRAINING, REPORTS, Project, make_project

pytestmark = pytest.mark.slow

SECRET = "hunter2-credential"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("project") / "repository")


def test_nothing_runs_twice_and_all_is_as_the_check_wants_it(project):
    assert project.repro() == set()
    assert project.run("pipeline.check") == "ok: study tiny\n"


@pytest.fixture(scope="module")
def retrained(project):
    """What a change of a method's parameter made run, where the environment has a secret."""
    names = ("AWS_SECRET_ACCESS_KEY", "CITYSCAPES_PASSWORD", "GITHUB_TOKEN", "HTTPS_PROXY")
    project.env |= {name: f"https://user:{SECRET}@host" for name in names}
    project.change_params(lambda params: params["methods"]["stpg"].update(lambda_u=0.5))
    try:
        return project.run("dvc", "repro")
    finally:
        for name in names:
            del project.env[name]


def test_a_method_parameter_trains_the_runs_of_that_method(retrained):
    stages = set(re.findall("^Running stage '(.+)':$", retrained, re.MULTILINE))
    assert stages == {"train@ours", "evaluate@ours", "examine@ours"} | REPORTS


def test_no_credential_gets_into_what_is_written(project, retrained):
    assert SECRET not in retrained
    files = [path for path in project.root.rglob("*") if path.is_file()]
    assert len(files) > 100
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path


def test_a_comment_trains_nothing(project):
    project.append("pipeline/methods/stpg.py", "\n# A remark.\n")
    assert project.repro() == {"fingerprint"}


def test_code_trains_the_runs_that_use_it_and_equal_metrics_stop_there(project):
    project.append("pipeline/losses/mismatch.py", "\nUNUSED = 1\n")
    assert project.repro() == {
        "fingerprint",
        "train@ours",
        "evaluate@ours",
        "examine@ours",
        "report",  # the record names another code
    }


def test_a_new_seed_trains_that_seed_alone(project):
    scratch = next((project.root / ".work").glob("plain-seed0-*/model.pt"))
    written, model = scratch.stat().st_mtime_ns, scratch.read_bytes()
    project.change_params(lambda params: params["runs"]["plain"]["seeds"].append(1))
    assert project.repro() == {"train@plain", "evaluate@plain"} | REPORTS
    assert scratch.stat().st_mtime_ns == written
    out = project.root / "runs/tiny/plain"
    assert (out / "seed0/model.pt").read_bytes() == model
    assert (out / "seed1/model.pt").read_bytes() != model


def test_a_clone_without_data_models_and_cache_renders_its_tables(project, tmp_path):
    absent = shutil.ignore_patterns("raw", "prepared", "runs", "cache", "tmp", ".work")
    clone = Project(shutil.copytree(project.root, tmp_path / "clone", ignore=absent))
    paper = clone.root / "paper.yaml"
    paper.write_text(paper.read_text().replace("Streets", "Avenues"))
    assert clone.repro("--allow-missing") == REPORTS
    assert (clone.root / "reports/tiny/tables/first.md").read_text().startswith("# Avenues")


def test_all_made_again_after_interruptions_is_the_same_bits(project):
    before = project.results()
    made = ("data/raw", "data/prepared", "data/splits", "fingerprints", "runs", "reports")
    for name in (*made, ".work", ".dvc/cache"):
        shutil.rmtree(project.root / name)
    (project.root / "dvc.lock").unlink()
    printed = project.stop_training(lambda dvc: os.killpg(dvc.pid, signal.SIGINT))
    assert re.search("train: stopped at step [0-9]+ of 24; run again to go on", printed)
    project.stop_training(lambda dvc: psutil.Process(dvc.pid).children(recursive=True)[-1].kill())
    assert BEFORE_TRAINING.isdisjoint(project.repro())
    assert project.results() == before
    assert {f"runs/tiny/{run}/seed0/model.pt" for run in ("plain", "ours")} <= set(before)


def test_of_two_at_once_one_runs_and_nothing_is_lost(project):
    project.change_params(lambda params: params["methods"]["stpg"].update(lambda_u=0.7))
    command = [sys.executable, "-m", "dvc", "repro"]
    told = {"cwd": project.root, "env": project.env, "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT, "text": True}  # fmt: skip
    with subprocess.Popen(command, **told) as first:
        while stage_of(first) is None:
            assert first.poll() is None
            time.sleep(0.01)
        with subprocess.Popen(command, **told) as second:
            said = second.communicate()[0]
        printed = first.communicate()[0]
    assert first.returncode == 0, printed
    if second.returncode:  # DVC's lock, or the training's own
        assert re.search("lock|another process", said, re.IGNORECASE), said
    assert project.repro() <= REPORTS
    assert project.repro() == set()
    assert project.run("pipeline.check") == "ok: study tiny\n"


def test_a_study_killed_at_random_points_ends_in_the_same_bytes(project):
    points = kill_points(project, 6, seed=1)
    assert [point.problem for point in points] == [""] * 6
    assert sum(point.at_work for point in points) >= 3


def test_a_clock_that_was_a_day_ahead_changes_nothing(project):
    """All that was made before seems to be of tomorrow."""
    before, tomorrow = project.results(), time.time() + 86400
    for path in project.root.rglob("*"):
        if ".git" not in path.parts:
            os.utime(path, (tomorrow, tomorrow), follow_symlinks=False)
    assert project.repro() == set()
    for folder in (project.root / ".work").glob("ours-*"):
        (folder / "model.pt").unlink()
    project.run("dvc", "repro", "--force", "--single-item", "train@ours")
    project.repro()
    assert project.results() == before


def test_a_name_in_params_reaches_no_shell(project):
    def change(params):
        for section in ("datasets", "splits", "runs", "examined"):
            first = next(iter(params[section].values()))
            params[section]["x; touch was-here"] = first

    before = (project.root / "params.yaml").read_text()
    project.change_params(change)
    command = [sys.executable, "-m", "dvc", "repro"]
    done = subprocess.run(
        command, cwd=project.root, env=project.env, capture_output=True, text=True
    )
    (project.root / "params.yaml").write_text(before)
    assert done.returncode != 0
    assert "expected a name of a-z, 0-9 and _ only" in done.stdout + done.stderr
    assert not (project.root / "was-here").exists()


def test_one_of_two_processes_is_killed_and_the_training_goes_on(project):
    project.change_params(lambda params: params["runtime"].update(processes=2))
    assert project.repro() == set()
    folder = next((project.root / ".work").glob("plain-seed0-*"))
    shutil.rmtree(folder)
    command = [sys.executable, "-m", "stages.train", "plain"]
    told = {"cwd": project.root, "env": project.env, "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT, "text": True}  # fmt: skip
    with subprocess.Popen(command, **told) as training:
        while not (folder / "state.pt").exists():
            assert training.poll() is None
            time.sleep(0.005)
        started = psutil.Process(training.pid).children()
        [process for process in started if "stages.train" in process.cmdline()][-1].kill()
        said = training.communicate()[0]
    assert training.returncode == 1, said
    message = r"^stages\.train: process [01] of 2 ended with -9; run again to go on from the last"
    assert re.search(message, said, re.MULTILINE), said
    assert not (folder / "model.pt").exists()
    printed = project.run("dvc", "repro", "--force", "--single-item", "train@plain")
    assert re.search("study tiny: (1 of 2|2 of 3) trainings done, 1 begun", printed)
    record = json.loads((project.root / "runs/tiny/plain/seed0/record.json").read_text())
    assert record["processes"] == 2

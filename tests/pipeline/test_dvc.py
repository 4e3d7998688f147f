"""Whole DVC runs of a small study in a copy of the repository.

The copy is made once. Each test finds it up to date, makes its change, and leaves it up to date.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from dvc.utils.serialize import dumps_yaml

from pipeline.artifacts import ROOT

pytestmark = pytest.mark.slow

FILES = (
    "dvc.yaml",
    "benchmarks/steps.csv",
    ".gitignore",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
)
RUN = {"dataset": "street", "split": "half", "recipe": "short"}
NETWORK = {
    "trunk": "test_resnet",
    "weights": "none",
    "low_level_channels": 8,
    "aspp_channels": 16,
    "decoder_channels": 16,
}
PARAMS = {
    "study": "tiny",
    "datasets": {
        "street": {
            "source": "cityscapes",
            "draw": {"size": 32, "fine": 8, "coarse": 0, "val": 3},
        }
    },
    "splits": {"half": {"dataset": "street", "protocol": "standard", "partition": 2}},
    "recipes": {
        "short": {"crop": [32, 32], "batch": 2, "steps": 24, "lr": 0.01, "network": NETWORK}
    },
    "methods": {"supervised": {}, "stpg": {"lambda_u": 1.0}},
    "train": {"threads": 1},
    "runtime": {"checkpoint_every": 3},
    "evaluation": {"street": {"mode": "whole"}},
    "runs": {
        "plain": RUN | {"method": "supervised", "seeds": [0]},
        "ours": RUN | {"method": "stpg", "seeds": [0]},
    },
    "examined": {"ours": {"dataset": "street"}},
    "tables": ["first"],
    "figures": ["chosen"],
}
ROWS = [{"name": "Baseline", "runs": ["plain"]}, {"name": "STPG", "runs": ["ours"]}]
PAPER = {
    "tables": {"first": {"title": "Streets", "source": "none", "columns": ["1/2"], "rows": ROWS}},
    "figures": {
        "chosen": {
            "kind": "selection",
            "title": "Chosen",
            "source": "Figure 4",
            "runs": {"STPG": "ours"},
        }
    },
    "notes": {"tiny": {"title": ", drawn", "note": "Nothing is learnt here."}},
}
BEFORE_TRAINING = {"fingerprint", "download@street", "prepare@street", "split@half"}
REPORTS = {"tables", "figures", "report"}


class Project:
    """A copy of the repository, and commands that run in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(root.parent / "site"),
            "STPG_DEVICE": "cpu",
            "STPG_WORK": str(root / ".work"),
        }

    def run(self, *arguments: str) -> str:
        """What `python -m ...` prints; it has to succeed."""
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def repro(self, *arguments: str) -> set[str]:
        """The stages that `dvc repro` ran."""
        printed = self.run("dvc", "repro", *arguments)
        return set(re.findall("^Running stage '(.+)':$", printed, re.MULTILINE))

    def change_params(self, change: Callable[[dict], None]) -> None:
        """Lets `change` edit params.yaml."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        change(params)
        path.write_text(dumps_yaml(params))

    def append(self, name: str, text: str) -> None:
        """Adds text at the end of a file."""
        with (self.root / name).open("a") as file:
            file.write(text)

    def results(self) -> dict[str, str]:
        """Hashes of all that has to be the same bits when it is made again."""
        kept = ("data/prepared", "data/splits", "fingerprints", "runs", "reports")
        paths = [path for folder in kept for path in (self.root / folder).rglob("*.*")]
        names = {path.relative_to(self.root).as_posix(): path for path in paths}
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in names.items()
            # Those that are left out hold timings.
            if path.name != "record.json" and "/records/" not in name and path.stem != "report"
        }

    def stop_training(self, stop: Callable[[subprocess.Popen], None]) -> str:
        """Starts `dvc repro train@ours`, calls `stop` once a new state is saved; what it printed.

        A training that stops leaves no output behind, and DVC fails.
        """
        states = self.root / ".work"
        old = {path.stat().st_mtime_ns for path in states.glob("ours-*/state.pt")}
        command = [sys.executable, "-m", "dvc", "repro", "train@ours"]
        with subprocess.Popen(
            command,
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            while not {p.stat().st_mtime_ns for p in states.glob("ours-*/state.pt")} - old:
                assert process.poll() is None, process.stdout.read()
                time.sleep(0.005)
            stop(process)
            printed = process.communicate()[0]
        assert process.returncode != 0
        assert list(states.glob("ours-*/state.pt"))
        assert not list(states.glob("ours-*/model.pt"))
        assert not (self.root / "runs").exists()
        return printed


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Everything is made, for the first time."""
    root = tmp_path_factory.mktemp("project") / "repository"
    for folder in ("pipeline", "stages", "data/lists"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    (root / "params.yaml").write_text(dumps_yaml(PARAMS))
    (root / "paper.yaml").write_text(dumps_yaml(PAPER))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    project = Project(root)
    assert project.repro() == BEFORE_TRAINING | REPORTS | {
        "train@plain", "evaluate@plain", "train@ours", "evaluate@ours", "examine@ours",
    }  # fmt: skip
    return project


def test_nothing_runs_twice_and_all_is_as_the_check_wants_it(project):
    assert project.repro() == set()
    assert project.run("pipeline.check") == "ok: study tiny\n"


def test_a_method_parameter_trains_the_runs_of_that_method(project):
    project.change_params(lambda params: params["methods"]["stpg"].update(lambda_u=0.5))
    assert project.repro() == {"train@ours", "evaluate@ours", "examine@ours"} | REPORTS


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
    assert clone.repro("--allow-missing") == {"tables", "report"}
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

"""A small study in a copy of the repository, and commands that run in it."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml
from dvc.utils.serialize import dumps_yaml

from pipeline.artifacts import ROOT

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
UNFINISHED = (".partial", ".old")
"""What a killed stage may leave: DVC takes its outputs from the cache then, and does not run it."""
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

    def hashes(self, folder: str) -> dict[str, str]:
        """Of all finished files in a folder of the project."""
        return {
            path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (self.root / folder).rglob("*")
            if path.is_file() and not any(part.endswith(UNFINISHED) for part in path.parts)
        }

    def results(self) -> dict[str, str]:
        """Hashes of all that has to be the same bits when it is made again."""
        kept = ("data/prepared", "data/splits", "fingerprints", "runs", "reports")
        return {
            name: digest
            for folder in kept
            for name, digest in self.hashes(folder).items()
            # Those that are left out hold timings.
            if not re.search(r"/record\.json$|/records/|/report\.\w+$", name)
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


def copy_of_repository(root: Path) -> Project:
    """A copy of the repository's code and pipeline, without a study."""
    for folder in ("pipeline", "stages", "data/lists"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return Project(root)


def make_project(root: Path) -> Project:
    """A copy of the repository in which everything is made, for the first time."""
    project = copy_of_repository(root)
    (root / "params.yaml").write_text(dumps_yaml(PARAMS))
    (root / "paper.yaml").write_text(dumps_yaml(PAPER))
    assert project.repro() == BEFORE_TRAINING | REPORTS | {
        "train@plain", "evaluate@plain", "train@ours", "evaluate@ours", "examine@ours",
    }  # fmt: skip
    return project

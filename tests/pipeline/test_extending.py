"""docs/extending.md, put into a copy of the repository."""

import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from dvc.utils.serialize import dumps_yaml
from PIL import Image

from pipeline.artifacts import ROOT
from pipeline.methods.base import overlay
from tests.pipeline.project import PAPER, PARAMS, Project, copy_of_repository

pytestmark = pytest.mark.slow

NAMES = {"street": "mini_voc", "half": "blender_8", "short": "voc", "plain": "blender_8_supervised"}
BLOCK = re.compile(r"^```(?:python|yaml)\n# ([\w./]+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def renamed(content: dict) -> dict:
    """The test's small study under the names of the text."""
    text = dumps_yaml(content)
    for old, new in NAMES.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    project = copy_of_repository(tmp_path_factory.mktemp("extended") / "repository")
    own = project.root / "data/sources/pairs"
    for subset in ("train", "val"):
        (own / subset).mkdir(parents=True)
        for k in range(4):
            mask = np.zeros((32, 32), np.uint8)
            mask[:, : 8 * (k + 1)] = 1
            Image.fromarray(200 * mask).convert("RGB").save(own / f"{subset}/{subset}{k}.png")
            Image.fromarray(mask).save(own / f"{subset}/{subset}{k}.mask.png")
    project.env.pop("STPG_DATA", None)
    params, paper = renamed(PARAMS), renamed(PAPER)
    params["runs"].pop("ours")
    params["examined"] = {"blender_8_supervised": {"dataset": "mini_voc"}}
    params["figures"] = []
    for name, content in BLOCK.findall((ROOT / "docs/extending.md").read_text()):
        if name == "params.yaml":
            new = yaml.safe_load(content)
            lists = {k: params[k] + value for k, value in new.items() if isinstance(value, list)}
            params = overlay(params, new | lists)
        elif name == "paper.yaml":
            paper = overlay(paper, yaml.safe_load(content))
        else:
            path = project.root / name
            assert not path.exists()
            path.write_text(content)
    (project.root / "params.yaml").write_text(dumps_yaml(params))
    (project.root / "paper.yaml").write_text(dumps_yaml(paper))
    return project


@pytest.fixture(scope="module")
def ran(project):
    """The stages of the first run."""
    return project.repro()


def test_what_was_added_runs(project, ran):
    added = ("blender_8_mirrored", "plants_2_supervised")
    assert {f"{stage}@{run}" for stage in ("train", "evaluate") for run in added} <= ran
    assert "prepare@plants" in ran
    reports = project.root / "reports/tiny"
    table = (reports / "tables/mirrors.md").read_text()
    assert re.search(r"\| Mirrored \| \d+\.\d+ \| 70\.1 \|", table)
    assert (reports / "figures/bars.png").stat().st_size > 5000
    assert project.repro() == set()


def test_the_method_trains_its_own_runs_alone(project, ran):
    project.append("pipeline/methods/mirrored.py", "\nUNUSED = 1\n")
    again = project.repro()
    assert "train@blender_8_mirrored" in again
    assert not {"train@blender_8_supervised", "train@plants_2_supervised"} & again


def test_the_method_keeps_the_contract(project):
    copied = ["cp", "-r", str(ROOT / "tests"), str(ROOT / "pyproject.toml"), str(project.root)]
    subprocess.run(copied, check=True)
    command = [sys.executable, "-m", "pytest", "tests/methods/test_contract.py", "-k", "mirrored"]
    done = subprocess.run(
        command, cwd=project.root, env=project.env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 5

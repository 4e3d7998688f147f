"""docs/own-data.md from its first command to its last, on an example."""

import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from pipeline.artifacts import ROOT
from tests.pipeline.project import NETWORK, copy_of_repository

pytestmark = pytest.mark.slow

TUTORIAL = ROOT / "docs/own-data.md"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the repository with all its studies."""
    project = copy_of_repository(tmp_path_factory.mktemp("own") / "repository")
    shutil.copytree(ROOT / "studies", project.root / "studies")
    for name in ("params.yaml", "paper.yaml", "dvc.lock"):
        shutil.copyfile(ROOT / name, project.root / name)
    project.env.pop("STPG_DATA", None)
    return project


def shell(project, command, status=0):
    done = subprocess.run(
        ["bash", "-c", command], cwd=project.root, env=project.env, capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def commands():
    """Of the tutorial, in order, without those that install."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(("pip ", "make ", "source "))]


def shorten(params):
    """A few steps of a small network."""
    params["recipes"]["own"] |= {"steps": 4, "batch": 2, "crop": [32, 32], "network": NETWORK}
    params["datasets"]["own"]["height"] = 48


@pytest.fixture(scope="module")
def printed(project):
    """What each command of the tutorial printed, by its first three words."""
    found = {}
    for command in commands():
        if command.startswith("python -m stages.example"):
            command += " --height 64 --images 8 --masks 4"
        if command.startswith("python -m stages.export"):
            command = re.sub(r"--size \d+ \d+", "--size 48 96", command)
        found[" ".join(command.split()[:3])] = shell(project, command)
        if command == "python -m stages.study use own":
            project.change_params(shorten)
    return found


def test_the_tutorial_from_a_folder_to_predictions(project, printed):
    assert "0 problems" in printed["python -m stages.inspect"]
    assert "images: 3 train, 1 val, 4 unlabeled" in printed["python -m stages.inspect"]
    assert "2 trainings:" in printed["python -m stages.plan"]
    assert "8 images: predictions/index" in printed["python -m stages.predict"]
    index = json.loads((project.root / "data/prepared/own/index.json").read_text())
    assert [len(index[part]) for part in ("train", "val")] == [7, 1]
    assert index["train"][0]["height"] == 48
    names = {p.stem for p in (project.root / "data/sources/own/images").iterdir()}
    for kind in ("overlay", "index", "confidence"):
        pictures = list((project.root / "predictions" / kind).iterdir())
        assert {p.stem for p in pictures} == names
        assert {Image.open(p).size for p in pictures} == {(128, 64)}
    with Image.open(project.root / "predictions/index/street001.png") as picture:
        assert np.asarray(picture).max() < len(index["classes"])
    page = (project.root / "reports/own/report.html").read_text()
    assert "Predictions, your images" in page
    card = (project.root / "exported/own_stpg-seed0.md").read_text()
    assert "trained by `stpg` from 3 labelled and 4 unlabelled images of `own`" in card
    assert (project.root / "exported/own_stpg-seed0.onnx").stat().st_size > 10_000


def test_a_change_in_the_folder_is_seen_when_it_is_read_anew(project, printed):
    project.repro("--force", "--single-item", "download@own")
    assert project.repro() == set()
    mask = project.root / "data/sources/own/masks/street001.png"
    with Image.open(mask) as picture:
        turned = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert np.any(np.asarray(turned) != np.asarray(picture))
    turned.save(mask)
    assert project.repro() == set()
    project.repro("--force", "--single-item", "download@own")
    assert {"prepare@own", "split@own_1", "train@own_stpg", "report"} <= project.repro()


def test_what_dvc_would_refuse_is_told_before(project, printed):
    own = project.root / "data/sources/own"
    shutil.copyfile(own / "masks/street001.png", own / "masks/nowhere.png")
    printed = shell(project, "python -m stages.inspect own", status=1)
    assert re.search(r"problem: .*nowhere\.png: no image nowhere in", printed)
    os.unlink(own / "masks/nowhere.png")

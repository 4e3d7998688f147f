"""Every command of the README is one that works.

Trainings and whole `dvc repro` are run by tests/pipeline and CI; here they are only planned.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.artifacts import ROOT
from pipeline.methods.base import available
from pipeline.params import load_params
from stages.readme import filled, table
from stages.study import known

FENCED = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:make|dvc|python -m) [^`]+)`")
WITH_SUBCOMMANDS = ("exp", "metrics", "params", "plots", "queue")
MADE_ANEW = ["git", "diff", "--quiet", "HEAD", "--", "reports"]
as_committed = pytest.mark.skipif(
    subprocess.run(MADE_ANEW, cwd=ROOT, stderr=subprocess.DEVNULL).returncode == 1,
    reason="reports/ were made anew, perhaps on another kind of CPU; `python -m stages.readme` "
    "writes the README's table from them",
)
COPIED = ("pipeline", "stages", "studies", "params.yaml", "dvc.lock")


def commands() -> list[str]:
    """In the order of the README, without comments."""
    text = (ROOT / "README.md").read_text()
    fenced = [
        line.partition(" #")[0] for block in FENCED.findall(text) for line in block.split("\n")
    ]
    parts = [part.strip() for line in fenced + INLINE.findall(text) for part in line.split("&&")]
    return list(dict.fromkeys(filter(None, parts)))


def kind(command: str) -> str:
    return re.match(r"make|dvc|source|export|python -m [\w.]+|", command)[0]


def test_the_readme_has_no_command_of_a_kind_that_is_not_tested():
    known = {
        "make",
        "dvc",
        "source",
        "export",
        "python -m stages.study",
        "python -m stages.plan",
        "python -m pipeline.check",
    }
    assert {kind(command) for command in commands()} == known


@pytest.mark.parametrize("command", [c for c in commands() if kind(c) == "make"])
def test_make_knows_its_target(command):
    subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("readme")
    for name in COPIED:
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, root / name, ignore=skip)
        else:
            shutil.copyfile(ROOT / name, root / name)
    return root


@pytest.mark.parametrize("command", [c for c in commands() if kind(c) == "python -m stages.study"])
def test_studies_are_shown_and_switched_as_it_says(command, copy):
    python = [sys.executable, *command.split()[1:]]
    printed = subprocess.run(python, cwd=copy, check=True, capture_output=True, text=True).stdout
    if "show" in command:
        assert re.findall(r"^[* ] (\w+)", printed, re.MULTILINE) == [
            "camvid", "foundation", "mini", "mini_field", "mini_full", "own", "paper", "smoke",
        ]  # fmt: skip


def test_the_table_of_studies_counts_their_trainings():
    text = (ROOT / "README.md").read_text()
    written = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", text, re.MULTILINE))
    counted = {
        name: str(sum(len(run.seeds) for run in load_params(path).runs.values()))
        for name, path in known().items()
    }
    assert written == counted


@pytest.mark.parametrize("command", [c for c in commands() if kind(c) == "dvc"])
def test_dvc_has_its_options(command):
    words = command.split()[1:]
    length = 2 if words[0] in WITH_SUBCOMMANDS else 1
    asked = [sys.executable, "-m", "dvc", *words[:length], "--help"]
    shown = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    arguments = words[length:]
    options = [word for word in arguments if word.startswith("-")]
    assert all(re.search(rf"(^|[\s,]){option}\b", shown) for option in options), (options, shown)


@as_committed
def test_the_table_of_results_is_that_of_the_reports():
    text = (ROOT / "README.md").read_text()
    assert filled(text) == text
    assert "57.39 ± 1.10" in table()


@as_committed
def test_the_table_of_methods_has_what_was_measured():
    text = (ROOT / "docs/methods.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if re.match(r"\| `\w+` \|", line)
    ]
    assert {cells[0].strip("`") for cells in rows} == set(available())
    camvid, drawn = (
        json.loads((ROOT / f"reports/{study}/summary.json").read_text())
        for study in ("camvid", "mini_field")
    )
    with (ROOT / "benchmarks/steps.csv").open() as file:
        lines = list(csv.DictReader(file))
    steps = {line["method"]: float(line["ratio"]) for line in lines if line["study"] == "camvid"}
    for name, *_, step, of_camvid, of_drawn in rows:
        method = name.strip("`")
        ratio = steps.get(method)
        assert step.replace("—", "") == ("" if ratio is None else f"{ratio:.2f}"), method
        for value, measured in (
            (of_camvid, camvid.get(f"camvid_8_{method}")),
            (of_drawn, drawn.get(f"blender_8_{method}")),
        ):
            assert value == ("" if measured is None else f"{measured:.2f}"), method

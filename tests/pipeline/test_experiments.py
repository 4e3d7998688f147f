"""Experiments as the README shows them: one parameter, comparisons, and a queue."""

import csv
import io
import re
import subprocess
import time

import pytest

from tests.pipeline.project import REPORTS, make_project

pytestmark = pytest.mark.slow

TRAINED = {"train@ours", "evaluate@ours", "examine@ours"} | REPORTS
SHOWN = ("--only-changed", "--drop", "^(reports|runs)")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Everything is made, and committed: experiments start from a commit."""
    project = make_project(tmp_path_factory.mktemp("experiments") / "repository")
    commit(project)
    return project


def git(project, *arguments):
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    done = subprocess.run(
        command, cwd=project.root, check=True, capture_output=True, text=True, env=project.env
    )
    return done.stdout


def commit(project):
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "All made")


def shown(project):
    """Experiments by name: their columns of `dvc exp show`."""
    printed = project.run("dvc", "exp", "show", "--csv", *SHOWN)
    rows = csv.DictReader(io.StringIO(printed))
    return {row["Experiment"] or row["rev"]: row for row in rows}


def device_of(project, experiment):
    """That trained the experiment's STPG."""
    references = git(project, "for-each-ref", "--format=%(refname)", "refs/exps").split()
    (reference,) = (name for name in references if name.endswith(f"/{experiment}"))
    record = git(project, "show", f"{reference}:reports/tiny/records/ours.json")
    (device,) = set(re.findall(r'"device": "(cpu:\d)', record))
    return device


def second_column(table):
    """Of a table in Markdown."""
    lines = [line.split("|") for line in table.splitlines() if "|" in line]
    return [cells[2].strip() for cells in lines if not cells[2].startswith("--")]


@pytest.fixture(scope="module")
def half(project):
    """What an experiment with another weight printed."""
    return project.run("dvc", "exp", "run", "-n", "half", "-S", "methods.stpg.lambda_u=0.5")


def test_an_experiment_runs_what_its_parameter_reaches(project, half):
    assert set(re.findall("^Running stage '(.+)':$", half, re.MULTILINE)) == TRAINED
    changed = git(project, "diff", "--numstat", "params.yaml").split()
    assert changed == ["1", "1", "params.yaml"]


def test_experiments_are_shown_in_few_columns(project, half):
    table = shown(project)
    assert table["half"]["methods.stpg.lambda_u"] == "0.5"
    assert set(table["half"]) >= {"ours", "methods.stpg.lambda_u"}
    assert len(table["half"]) < 15, list(table["half"])


def test_differences_are_few_lines(project, half):
    parameters, metrics = (
        project.run("dvc", kind, "diff", "HEAD", "half", "--md") for kind in ("params", "metrics")
    )
    assert second_column(parameters) == ["Param", "methods.stpg.lambda_u"]
    assert second_column(metrics) == ["Metric", "ours"]


def test_plots_of_two_revisions_are_one_page(project, half):
    project.run("dvc", "plots", "diff", "HEAD", "--out", "compared")
    page = (project.root / "compared/index.html").read_text()
    assert "mIoU of each run (%)" in page
    assert {"HEAD", "workspace"} <= set(re.findall('"rev": "(.+?)"', page))


def test_queued_experiments_run_from_the_queue(project, half):
    git(project, "checkout", "--", ".")
    project.run("dvc", "checkout")
    for name, value in {"quarter": 0.25, "more": 1.5}.items():
        project.run(
            "dvc", "exp", "run", "--queue", "-n", name, "-S", f"methods.stpg.lambda_u={value}"
        )
    project.env["STPG_DEVICE"] = "cpu:0,cpu:1"
    project.run("dvc", "queue", "start", "--jobs", "2")
    until = time.monotonic() + 240
    while (status := project.run("dvc", "queue", "status")).count("Success") < 2:
        assert "Failed" not in status, status + project.run("dvc", "queue", "logs", "quarter")
        assert time.monotonic() < until, status
        time.sleep(2)
    table = shown(project)
    assert {name: table[name]["methods.stpg.lambda_u"] for name in ("quarter", "more")} == {
        "quarter": "0.25",
        "more": "1.5",
    }
    for name in ("quarter", "more"):
        assert device_of(project, name) in ("cpu:0", "cpu:1")  # which, is for test_runtime.py
    assert project.repro() == set()

"""kill -9 at random points of a study: does it end in the same bytes when it is run again?

`python -m tests.faults --points 50` writes docs/faults.md; a few points are in the slow tests.

Most of a stage's time goes to imports. So that its work is hit, the kill comes from inside: Python
starts a thread in the stage's process (`sitecustomize`) that waits for the stage's `main`, and then
for a random part of the time that it takes undisturbed. The stage then runs again, over whatever
was left, by `dvc repro --force`: plain `dvc repro` would take its outputs from DVC's cache.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.artifacts import ROOT, write_text
from tests.pipeline.project import UNFINISHED, Project, make_project

REPORT = ROOT / "docs/faults.md"
STAGES = ("download@street", "prepare@street", "train@ours", "evaluate@ours", "report")


HOOK = """
import os, signal, sys, threading, time

def in_main():
    for frame in list(sys._current_frames().values()):
        while frame is not None:
            code = frame.f_code
            if code.co_name == "main" and os.sep + "stages" + os.sep in code.co_filename:
                return True
            frame = frame.f_back
    return False

def watch(how, value):
    while not in_main():
        time.sleep(0.0005)
    began = time.monotonic()
    if how == "kill":
        time.sleep(float(value))
        if in_main():
            os.killpg(0, signal.SIGKILL)
        return
    while in_main():
        with open(value + ".new", "w") as file:
            file.write(str(time.monotonic() - began))
        os.replace(value + ".new", value)
        time.sleep(0.01)

if any(word.startswith("stages.") for word in sys.orig_argv):
    how, value = os.environ["FAULT"].split(":", 1)
    threading.Thread(target=watch, args=(how, value), daemon=True).start()
"""
"""`FAULT` is `kill:SECONDS`, from the start of `main`, or `time:FILE`, for the seconds it takes."""


@dataclass(frozen=True)
class Point:
    """One kill and what came of it."""

    stage: str
    at_work: bool
    """Whether the stage's `main` was running, rather than imports or DVC around it."""
    left: bool
    """Whether it left something unfinished: a folder or file, or a training's state."""
    problem: str
    """Empty if the study then ended in the same bytes."""


def contents(project: Project) -> dict[str, str]:
    """Hashes of all that has to be the same, raw data too."""
    return project.results() | project.hashes("data/raw")


def pages(project: Project) -> list[bytes]:
    """The report, which has minutes in it, so that it changes with each training."""
    return [path.read_bytes() for path in sorted((project.root / "reports/tiny").glob("report.*"))]


def unfinished(project: Project) -> list[Path]:
    """What a kill leaves behind."""
    places = [
        path for part in ("data", "runs", "reports") for path in (project.root / part).rglob("*")
    ]
    states = [path for path in (project.root / ".work").rglob("*") if "state" in path.name]
    return [path for path in places if path.name.endswith(UNFINISHED)] + states


def stage_of(dvc: subprocess.Popen) -> psutil.Process | None:
    """The stage's process below DVC's, if it runs."""
    try:
        for child in psutil.Process(dvc.pid).children(recursive=True):
            if any(word.startswith("stages.") for word in child.cmdline()):
                return child
    except psutil.Error:
        pass
    return None


def forced(project: Project, stage: str, fault: str | None = None) -> subprocess.Popen:
    """`dvc repro` of the stage, whether it is up to date or not, in a process group of its own."""
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage]
    env = project.env
    if fault is not None:
        hook = project.root.parent / "hook"
        hook.mkdir(exist_ok=True)
        (hook / "sitecustomize.py").write_text(HOOK)
        env = env | {"PYTHONPATH": str(hook), "FAULT": fault}
    return subprocess.Popen(
        command, cwd=project.root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip


def forget(project: Project, stage: str) -> None:
    """Lets a training begin at its first step."""
    if stage.startswith("train@"):
        for folder in (project.root / ".work").glob(f"{stage.removeprefix('train@')}-*"):
            shutil.rmtree(folder)


def durations(project: Project, stage: str) -> tuple[float, float]:
    """Seconds of DVC, and of the stage's `main` in it, undisturbed."""
    forget(project, stage)
    took = project.root.parent / "took"
    took.unlink(missing_ok=True)
    began = time.monotonic()
    with forced(project, stage, f"time:{took}") as dvc:
        printed = dvc.communicate()[0]
    assert dvc.returncode == 0, f"{stage} fails undisturbed: {printed}"
    return time.monotonic() - began, float(took.read_text())


def kill_at_work(project: Project, stage: str, delay: float) -> bool:
    """Kills DVC and all below it so long after the stage's `main` began; returns whether it ran."""
    with forced(project, stage, f"kill:{delay}") as dvc:
        dvc.communicate()
    return dvc.returncode == -signal.SIGKILL


def kill_anywhere(project: Project, stage: str, delay: float) -> bool:
    """Kills DVC and all below it so long after its own start; returns whether it ran."""
    with forced(project, stage) as dvc:
        try:
            dvc.communicate(timeout=delay)
        except subprocess.TimeoutExpired:
            os.killpg(dvc.pid, signal.SIGKILL)
            dvc.communicate()
            return True
    return False


def run_again(project: Project, stage: str) -> str:
    """The stage over what was left, then all that follows from it; what failed."""
    with forced(project, stage) as dvc:
        printed = dvc.communicate()[0]
    if dvc.returncode != 0 or f"Running stage '{stage}'" not in printed:
        return f"does not run again: {printed[-500:]}"
    try:
        project.repro()
    except AssertionError as error:
        return f"does not end: {str(error)[-500:]}"
    return f"leaves {unfinished(project)[0]}" if unfinished(project) else ""


def kill_points(project: Project, number: int, seed: int) -> list[Point]:
    """Kills the stages in turn, one time in six anywhere in DVC, else in the stage's work."""
    draw, found = random.Random(seed), []
    before = contents(project)
    taken = {stage: durations(project, stage) for stage in STAGES}
    project.repro()
    assert contents(project) == before, "stages that are not disturbed make other bytes"
    for k in range(number):
        stage = STAGES[k % len(STAGES)]
        whole, work = taken[stage]
        page = pages(project)
        at_work = k % 6 != 5
        kill, delay = (kill_at_work, work) if at_work else (kill_anywhere, whole)
        delay *= draw.random()
        forget(project, stage)
        while not kill(project, stage, delay):  # it was faster than before
            forget(project, stage)
            delay /= 2
        left = bool(unfinished(project))
        problem = run_again(project, stage)
        now = contents(project)
        differing = sorted(name for name in before | now if before.get(name) != now.get(name))
        if not stage.startswith("train@") and pages(project) != page:
            differing.append("report")
        if differing and not problem:
            problem = f"differing: {', '.join(differing[:5])}"
        found.append(Point(stage, at_work, left, problem))
        print(
            f"{k + 1}/{number} {stage} after {delay:.3f} s: {problem or 'same bytes'}", flush=True
        )
        if problem:  # else all later points would fail as well
            break
    return found


def written(points: list[Point], seed: int) -> str:
    """The report."""
    by_stage = defaultdict(list)
    for point in points:
        by_stage[point.stage].append(point)
    rows = [
        f"| {stage} | {len(some)} | {sum(p.at_work for p in some)} | {sum(p.left for p in some)} "
        f"| {sum(not p.problem for p in some)} | {sum(bool(p.problem) for p in some)} |"
        for stage, some in by_stage.items()
    ]
    problems = [f"- {p.stage}: {p.problem}" for p in points if p.problem]
    return "\n".join(
        [
            "# Faults",
            "",
            f"As `python -m tests.faults --points {len(points)} --seed {seed}` found it: a small",
            "study is whole; one stage is made to run, and DVC and all its processes are killed",
            "(SIGKILL) at a random moment of the stage's work, one time in six at any moment of",
            "DVC. Then the stage is made to run again over what was left, a training from its",
            "last state, and `dvc repro` ends the study. Survived: nothing unfinished is left, and",
            "raw and prepared data, splits, models, logs, metrics, tables and figures are the same",
            "bytes as before.",
            "",
            "| stage | killed | at work | left something unfinished | survived | lost |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            "",
            *problems,
        ]
    )


def main() -> None:
    """Makes the study in a temporary folder, kills, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder) / "repository")
        points = kill_points(project, given.points, given.seed)
    write_text(REPORT, written(points, given.seed).rstrip() + "\n")
    sys.exit(any(point.problem for point in points))


if __name__ == "__main__":
    main()

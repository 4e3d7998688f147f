"""kill -9 at random points of a study: does it end in the same bytes when it is run again?

`python -m tests.faults --points 50` writes docs/faults.md; five points are in the slow tests.
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
from tests.pipeline.project import Project, make_project

REPORT = ROOT / "docs/faults.md"
STAGES = ("download@street", "prepare@street", "train@ours", "evaluate@ours", "report")


@dataclass(frozen=True)
class Point:
    """One kill and what came of it."""

    stage: str
    inside: bool
    """Whether the stage's own process was running, not DVC around it alone."""
    problem: str
    """Empty if the study then ended in the same bytes."""


def contents(project: Project) -> dict[str, str]:
    """Hashes of all that has to be the same, raw data too."""
    return project.results() | project.hashes("data/raw")


def pages(project: Project) -> list[bytes]:
    """The report, which has minutes in it, so that it changes with each training."""
    return [path.read_bytes() for path in sorted((project.root / "reports/tiny").glob("report.*"))]


def stage_of(dvc: subprocess.Popen) -> psutil.Process | None:
    """The stage's process below DVC's, if it runs."""
    try:
        for child in psutil.Process(dvc.pid).children(recursive=True):
            if any(word.startswith("stages.") for word in child.cmdline()):
                return child
    except psutil.Error:
        pass
    return None


def start(project: Project, stage: str) -> subprocess.Popen:
    """`dvc repro` of the stage, whether it is up to date or not; a training from its first step."""
    if stage.startswith("train@"):
        for folder in (project.root / ".work").glob(f"{stage.removeprefix('train@')}-*"):
            shutil.rmtree(folder)
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command, cwd=project.root, env=project.env, stdout=quiet, stderr=quiet,
        start_new_session=True,
    )  # fmt: skip


def durations(project: Project, stage: str) -> tuple[float, float]:
    """Seconds of DVC, and of the stage in it, undisturbed."""
    began, first, last = time.monotonic(), None, 0.0
    with start(project, stage) as dvc:
        while dvc.poll() is None:
            if stage_of(dvc) is not None:
                last = time.monotonic()
                first = first or last
            time.sleep(0.01)
        assert dvc.returncode == 0, f"{stage} fails undisturbed"
    return time.monotonic() - began, last - first


def kill_at(project: Project, stage: str, delay: float, *, inside: bool) -> bool:
    """Kills DVC and all below it; returns whether the stage was running.

    Args:
      delay: seconds, from the stage's start if `inside`, else from DVC's.
    """
    with start(project, stage) as dvc:
        while inside and dvc.poll() is None and stage_of(dvc) is None:
            time.sleep(0.005)
        time.sleep(delay)
        running = stage_of(dvc) is not None
        try:
            os.killpg(dvc.pid, signal.SIGKILL)
        except ProcessLookupError:  # it had ended
            running = False
    return running


def kill_points(
    project: Project, number: int, seed: int, *, longest: float | None = None
) -> list[Point]:
    """Kills the stages in turn, one time in six anywhere in DVC, else inside the stage.

    Args:
      longest: seconds to the kill at most; by default those that the stage takes undisturbed.
    """
    draw, found = random.Random(seed), []
    before = contents(project)
    taken = {
        stage: durations(project, stage) if longest is None else (longest, longest)
        for stage in STAGES
    }
    for k in range(number):
        stage = STAGES[k % len(STAGES)]
        inside = k % 6 != 5
        delay = draw.uniform(0, taken[stage][inside])
        page = pages(project)
        running = kill_at(project, stage, delay, inside=inside)
        try:
            project.repro()
            now = contents(project)
            differing = sorted(name for name in before | now if before.get(name) != now.get(name))
            if not stage.startswith("train@") and pages(project) != page:
                differing.append("report")
            problem = f"differing: {', '.join(differing[:5])}" if differing else ""
        except AssertionError as error:
            problem = f"does not end: {str(error)[-500:]}"
        found.append(Point(stage, running, problem))
        print(
            f"{k + 1}/{number} {stage} after {delay:.2f} s: {problem or 'same bytes'}", flush=True
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
        f"| {stage} | {len(some)} | {sum(p.inside for p in some)} "
        f"| {sum(not p.problem for p in some)} | {sum(bool(p.problem) for p in some)} |"
        for stage, some in by_stage.items()
    ]
    problems = [f"- {p.stage}: {p.problem}" for p in points if p.problem]
    return "\n".join(
        [
            "# Faults",
            "",
            f"As `python -m tests.faults --points {len(points)} --seed {seed}` found it: a small",
            "study is whole; one stage is forced to run again, and DVC and all its processes are",
            "killed (SIGKILL) at a random moment; `dvc repro` is given again. Survived: it ended,",
            "and raw and prepared data, splits, models, logs, metrics, tables and figures were the",
            "same bytes as before.",
            "",
            "| stage | killed | while the stage's own process ran | survived | lost |",
            "| --- | ---: | ---: | ---: | ---: |",
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

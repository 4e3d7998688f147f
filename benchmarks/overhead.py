"""What the pipeline costs beside training: process starts, and DVC's own work by number of stages.

`python -m benchmarks.overhead` times, in turns, a bare interpreter and the imports of each stage,
and then `dvc repro --dry --allow-missing` of every study that has a lock, in copies of the files in
git; and the stages of a run of `smoke`, of whose seconds those inside the training and evaluation
loops are taken away. It writes benchmarks/overhead.md. Ratios are of medians measured in one run;
the machine should have nothing else to do.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.timing import in_turns, machine, markdown, ratio, seconds
from pipeline.artifacts import ROOT, write_text
from stages.study import known

RUN, STEPS = "blender_8_stpg", 6
DVC = [sys.executable, "-m", "dvc", "repro"]
TIMED = """
import sys, time
from pipeline.command import run_command
from stages import evaluate as stage
usual, spent = stage.evaluate, []
def timed(*given, **named):
    began = time.perf_counter()
    found = usual(*given, **named)
    spent.append(time.perf_counter() - began)
    return found
stage.evaluate = timed
run_command(lambda: stage.main(sys.argv[1]))
print(sum(spent))
"""
"""Evaluates a run and prints the seconds of the loops over its images."""
GC = (
    "Imports collect no garbage where a stage is started by `-m` (stages/__init__.py); the last "
    "line shows what they would take if they did:"
)
STAGES = ("download", "prepare", "split", "train", "evaluate", "examine", "tables", "report")


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    imports = {"python": starter("-c", "pass")}
    for stage in STAGES:
        # what there is not is an error; stages without keys end at their usage
        imports[f"stages.{stage}"] = starter("-m", f"stages.{stage}", "none", status=1)
    imports["python -c 'import stages.train'"] = starter("-c", "import stages.train")
    started = in_turns(imports, rounds)
    with tempfile.TemporaryDirectory() as folder:
        studies = [name for name, path in known().items() if lock_of(path).exists()]
        copies = {name: copy_with(name, Path(folder) / name) for name in sorted(studies)}
        dry = in_turns({name: checker(copy) for name, copy in copies.items()}, rounds)
        sizes = {name: stages_of(copy / "dvc.lock") for name, copy in copies.items()}
        outside = outside_the_loops(copy_with("smoke", Path(folder) / "run"), rounds)
    text = [
        "# Cost beside training",
        f"`python -m benchmarks.overhead --rounds {rounds}`; {machine()}. Medians of {rounds}, "
        "seconds; in brackets quartiles; in turns.",
        "Each stage given a key that no study has, so that it ends with an error before any work: "
        "what it imports, and reading the parameters (not `tables` and `report`, which take no "
        f"key). {GC}",
        table("process", "by bare Python", started, "python"),
        "`dvc repro --dry --allow-missing` with nothing to do, by number of stages:",
        table("study", "by the smallest", dry, min(sizes, key=sizes.get), sizes),
        f"Stages of run `{RUN}` of `smoke` by `dvc repro --force --single-item`: DVC's start, the "
        "stage's imports, reading, building, writing, and DVC's hashing (the loop of an evaluation "
        "is timed in a process of its own):",
        markdown(("stage", "seconds", "in its loop", "outside"), outside),
    ]
    write_text(ROOT / "benchmarks/overhead.md", "\n\n".join(text) + "\n")
    print(*text, sep="\n\n")


def outside_the_loops(root: Path, rounds: int) -> list[list[str]]:
    """Rows of the table: seconds of a stage under DVC, those in its loop, and the rest."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"STPG_WORK": str(root / ".work"), "PATH": path}
    quiet = {"cwd": root, "env": env, "check": True, "capture_output": True}
    subprocess.run(DVC, **quiet)
    taken: dict[str, list[tuple[float, float]]] = {"train": [], "evaluate": []}
    for _ in range(rounds):
        for stage, pairs in taken.items():
            for folder in (root / ".work").glob(f"{RUN}-*"):
                if stage == "train":
                    shutil.rmtree(folder)
            began = time.perf_counter()
            command = [*DVC, "--force", "--single-item", f"{stage}@{RUN}"]
            subprocess.run(command, **quiet)
            whole = time.perf_counter() - began
            if stage == "evaluate":
                timed = [sys.executable, "-c", TIMED, RUN]
                done = subprocess.run(timed, text=True, **quiet)
                pairs.append((whole, float(done.stdout.split()[-1])))
            else:
                record = next((root / ".work").glob(f"{RUN}-*/record.json"))
                pairs.append((whole, STEPS * json.loads(record.read_text())["seconds_per_step"]))
    return [
        [
            f"{stage}@{RUN}",
            seconds([whole for whole, _ in pairs]),
            seconds([loop for _, loop in pairs]),
            seconds([whole - loop for whole, loop in pairs]),
        ]
        for stage, pairs in taken.items()
    ]


def starter(*arguments: str, status: int = 0) -> Callable[[], None]:
    """Starts Python, and waits for its end: with `status`, and without a traceback."""

    def start() -> None:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        if done.returncode != status or "Traceback" in done.stderr:
            raise RuntimeError(f"{' '.join(arguments)}: {done.returncode}\n{done.stderr}")

    return start


def lock_of(path: Path) -> Path:
    """The lock that belongs to a study's parameters."""
    return ROOT / "dvc.lock" if path.name == "params.yaml" else path.with_suffix(".lock")


def copy_with(study: str, root: Path) -> Path:
    """The files in git, with a study in place."""
    subprocess.run(["git", "clone", "--quiet", ROOT, root], check=True)
    for name in ("studies", "params.yaml", "dvc.lock"):
        target = root / name
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, dirs_exist_ok=True)
        else:
            shutil.copyfile(ROOT / name, target)
    command = [sys.executable, "-m", "stages.study", "use", study]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    return root


def checker(root: Path) -> Callable[[], None]:
    """Asks DVC what there is to do."""
    command = [sys.executable, "-m", "dvc", "repro", "--dry", "--allow-missing"]
    return lambda: subprocess.run(command, cwd=root, check=True, capture_output=True)


def stages_of(lock: Path) -> int:
    """How many stages a lock has."""
    return len(yaml.safe_load(lock.read_text())["stages"])


def table(
    head: str,
    by: str,
    taken: dict[str, list[float]],
    base: str,
    sizes: dict[str, int] | None = None,
) -> str:
    """Markdown: name, number of stages if known, seconds, and median by that of `base`."""
    rows = [
        [
            f"`{name}`",
            *([str(sizes[name])] if sizes else []),
            seconds(values),
            f"{ratio(values, taken[base]):.2f}",
        ]
        for name, values in taken.items()
    ]
    return markdown([head, *(["stages"] if sizes else []), "seconds", by], rows)


if __name__ == "__main__":
    main()

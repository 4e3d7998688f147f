"""Memory and time of a step by precision, layout, compilation, accumulation and checkpointing.

`python -m benchmarks.memory [STUDY RECIPE]` takes steps of STPG on random images, each way in a
process of its own on the CPU, in turns, and writes benchmarks/memory.md. Memory is the peak of a
process beyond its peak before the first step. The machine should have nothing else to do.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.steps import classes_of
from benchmarks.timing import machine, markdown, ratio, seconds
from pipeline.artifacts import ROOT, write_text
from pipeline.command import keep_freed_memory
from pipeline.cost import PROGRESS, cost_of, prepare, random_batch
from pipeline.learner import Job, Learner, method_of
from pipeline.methods.base import resolve
from pipeline.params import load_params
from pipeline.runtime import set_up
from stages.study import known

PLANNED = (("mini", "voc"), ("mini", "cityscapes"), ("camvid", "camvid"))
"""Recipes whose plan is held against what a step takes."""
WAYS = {
    "as it is": {},
    "`train.precision: bf16`": {"train": {"precision": "bf16"}},
    "`train.precision: fp16`": {"train": {"precision": "fp16"}},
    "`train.channels_last: false`": {"train": {"channels_last": False}},
    "`train.compile: true`": {"train": {"compile": True}},
    "`recipes.*.accumulate: 2`": {"recipe": {"accumulate": 2}},
    "`recipes.*.accumulate: 4`": {"recipe": {"accumulate": 4}},
    "`runtime.activation_checkpointing: true`": {"runtime": {"activation_checkpointing": True}},
}
"""What differs from float32 and the defaults."""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", nargs="?", default="camvid")
    parser.add_argument("recipe", nargs="?", default="camvid")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measured(given.study, given.recipe, WAYS[given.way], given.steps)))
        return
    recipe = load_params(known()[given.study]).recipes[given.recipe]
    os.environ["STPG_DEVICE"] = "cpu"  # where stages.plan takes its step
    found: dict[str, list[dict]] = {way: [] for way in WAYS}
    taken_of: dict[tuple[str, str], list[dict]] = {kind: [] for kind in PLANNED}
    for _ in range(given.rounds):
        for way, results in found.items():
            results.append(in_a_process(given.study, given.recipe, way, given.steps))
        for kind, results in taken_of.items():
            results.append(in_a_process(*kind, "as it is", given.steps))
    rows, base = [], found["as it is"]
    for way, results in found.items():
        gib, taken = ([r[name] for r in results] for name in ("gib", "seconds"))
        by = ratio(gib, [r["gib"] for r in base]), ratio(taken, [r["seconds"] for r in base])
        memory = f"{statistics.median(gib):.2f}"
        rows.append([way, memory, f"{by[0]:.2f}", seconds(taken), f"{by[1]:.2f}"])
    text = [
        "# Memory and time of a step",
        f"`python -m benchmarks.memory --rounds {given.rounds}`; {base[0]['machine']}. STPG, study "
        f"`{given.study}`, recipe `{given.recipe}`: `{recipe.network.trunk}`, crops of "
        f"{recipe.crop[0]} x {recipe.crop[1]}, {recipe.batch} labelled and as many unlabelled. "
        "Peak memory beyond the peak before the first step (of a compiled step it is the "
        f"compiler's too), and medians of {given.steps} steps after two; medians of {given.rounds} "
        "processes, quartiles in brackets. On a CPU half precision is no gain of "
        "time unless the processor has it.",
        markdown(("way", "GiB", "by the first", "step (s)", "by the first"), rows),
        "## Plan and step",
        "What `python -m stages.plan` says of a step of STPG, and what one takes: the plan counts "
        "weights too, but tensors alone, and times a smaller step without optimiser. The whole "
        "process, which is what records and reports give on a CPU, has torch and the rest of "
        "Python with it.",
        markdown(PLAN, [planned(*kind, results) for kind, results in taken_of.items()]),
    ]
    write_text(ROOT / "benchmarks/memory.md", "\n\n".join(text) + "\n")
    print(*text, sep="\n\n")


PLAN = (
    "recipe",
    "planned (GiB)",
    "step (GiB)",
    "process (GiB)",
    "planned (s)",
    "step (s)",
    "by step",
)


def planned(study: str, recipe: str, taken: list[dict]) -> list[str]:
    """A line of the table: a recipe's plan, and what its steps took."""
    params = load_params(known()[study])
    key = next(
        key
        for key, run in params.runs.items()
        if (run.method, run.recipe) == ("stpg", recipe) and not run.set
    )
    keep_freed_memory()
    plan = cost_of(key, params, set_up(params.train), None)
    spent = [r["seconds"] for r in taken]
    gib, whole = [r["gib"] for r in taken], [r["before"] + r["gib"] for r in taken]
    return [
        f"{study}, {recipe}",
        f"{plan.gib:.2f}",
        f"{statistics.median(gib):.2f}",
        f"{statistics.median(whole):.2f}",
        f"{plan.seconds:.3f}",
        seconds(spent),
        f"{plan.seconds / statistics.median(spent):.2f}",
    ]


def in_a_process(study: str, recipe: str, way: str, steps: int) -> dict:
    """`measured` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", study, recipe]
    command += ["--steps", str(steps), "--way", way]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(study: str, recipe_name: str, way: dict[str, dict], steps: int) -> dict[str, Any]:
    """Peak memory and seconds of a step, of this process, and what it ran on."""
    params = load_params(known()[study])
    train = replace(params.train, **({"precision": "fp32"} | way.get("train", {})))
    recipe = replace(params.recipes[recipe_name], **way.get("recipe", {}))
    runtime, classes = set_up(train), classes_of(params, recipe_name)
    keep_freed_memory()
    job = Job(
        title="memory",
        method="stpg",
        method_config=resolve("stpg", params.methods["stpg"], key="methods.stpg"),
        recipe=recipe,
        train=train,
        data=SimpleNamespace(classes=range(classes)),
        split=SimpleNamespace(labeled=("a",), unlabeled=("b",)),
        seed=0,
        record={},
        folder=Path(),
        runtime=replace(params.runtime, **way.get("runtime", {})),
    )
    method = method_of(job, runtime)
    learner = Learner(job, method, runtime)
    batch = random_batch(recipe.crop, recipe.batch, classes, method)
    prepare(method, batch)
    before, taken, step = runtime.peak_memory_gib(), [], int(PROGRESS * recipe.steps)
    for _ in range(2 + steps):
        began = time.perf_counter()
        learner.update(batch, step)
        taken.append(time.perf_counter() - began)
    return {
        "before": before,
        "gib": runtime.peak_memory_gib() - before,
        "seconds": statistics.median(taken[2:]),
        "machine": machine(),
    }


if __name__ == "__main__":
    main()

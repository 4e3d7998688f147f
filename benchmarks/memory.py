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

from benchmarks.timing import machine, markdown, ratio, seconds
from pipeline.artifacts import ROOT, write_text
from pipeline.command import keep_freed_memory
from pipeline.cost import PROGRESS, cost_of, prepare, random_batch
from pipeline.learner import Job, Learner, method_of
from pipeline.methods.base import resolve
from pipeline.params import load_params
from pipeline.runtime import set_up
from stages.study import known

CLASSES = 11
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
    params = load_params(known()[given.study])
    recipe = params.recipes[given.recipe]
    key = next(
        key
        for key, run in params.runs.items()
        if (run.method, run.recipe) == ("stpg", given.recipe) and not run.set
    )
    os.environ["STPG_DEVICE"] = "cpu"  # where stages.plan takes its step
    found: dict[str, list[dict]] = {way: [] for way in WAYS}
    for _ in range(given.rounds):
        for way, results in found.items():
            command = [sys.executable, "-m", "benchmarks.memory", given.study, given.recipe]
            command += ["--steps", str(given.steps), "--way", way]
            done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    rows, base = [], found["as it is"]
    for way, results in found.items():
        gib, taken = ([r[name] for r in results] for name in ("gib", "seconds"))
        by = ratio(gib, [r["gib"] for r in base]), ratio(taken, [r["seconds"] for r in base])
        memory = f"{statistics.median(gib):.2f}"
        rows.append([way, memory, f"{by[0]:.2f}", seconds(taken), f"{by[1]:.2f}"])
    keep_freed_memory()
    planned = cost_of(key, params, set_up(params.train), None)
    whole = statistics.median(r["before"] + r["gib"] for r in base)
    text = [
        "# Memory and time of a step",
        f"STPG, study `{given.study}`, recipe `{given.recipe}`: `{recipe.network.trunk}`, crops of "
        f"{recipe.crop[0]} x {recipe.crop[1]}, {recipe.batch} labelled and as many unlabelled; "
        f"{base[0]['machine']}. Peak memory beyond the peak before the first step (of a compiled "
        f"step it is the compiler's too), and medians of {given.steps} steps after two; medians of "
        f"{given.rounds} processes, quartiles in brackets. On a CPU half precision is no gain of "
        "time unless the processor has it.",
        markdown(("way", "GiB", "by the first", "step (s)", "by the first"), rows),
        f"`python -m stages.plan {given.study}` says {planned.gib:.2f} GiB and "
        f"{planned.seconds:.2f} s for the first: it counts weights too, but tensors alone, and "
        "times a smaller step without optimiser, loader and log. The whole process, which is what "
        f"records and reports give on a CPU, takes {whole:.2f} GiB: torch and the rest of Python "
        "with it.",
    ]
    write_text(ROOT / "benchmarks/memory.md", "\n\n".join(text) + "\n")
    print(*text, sep="\n\n")


def measured(study: str, recipe_name: str, way: dict[str, dict], steps: int) -> dict[str, Any]:
    """Peak memory and seconds of a step, of this process, and what it ran on."""
    params = load_params(known()[study])
    train = replace(params.train, **({"precision": "fp32"} | way.get("train", {})))
    recipe = replace(params.recipes[recipe_name], **way.get("recipe", {}))
    runtime = set_up(train)
    keep_freed_memory()
    job = Job(
        title="memory",
        method="stpg",
        method_config=resolve("stpg", params.methods["stpg"], key="methods.stpg"),
        recipe=recipe,
        train=train,
        data=SimpleNamespace(classes=range(CLASSES)),
        split=SimpleNamespace(labeled=("a",), unlabeled=("b",)),
        seed=0,
        record={},
        folder=Path(),
        runtime=replace(params.runtime, **way.get("runtime", {})),
    )
    method = method_of(job, runtime)
    learner = Learner(job, method, runtime)
    batch = random_batch(recipe.crop, recipe.batch, CLASSES, method)
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

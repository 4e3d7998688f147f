"""How the cost of a step grows, and that of the pipeline with the number of runs.

`python -m benchmarks.growth [--only PART,...]` measures and writes benchmarks/growth.csv, .md and
.png. Parts: `classes`, `size`, `bank`, `labels` of a step of STPG (`mini`, VOC-like, but for what
grows), and `runs` of the pipeline, whose stages are replaced by ones that only write their files. A
part that is not asked for keeps its former lines, which have to be of the same machine. Beside each
step stand the bare passes of its networks: what grows with them is arithmetic. The machine should
have nothing else to do.
"""

import argparse
import csv
import io
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import yaml

from benchmarks.speed import WHOLE, bare, stpg_of
from benchmarks.steps import stepper_of
from benchmarks.timing import in_turns, machine, markdown
from pipeline.artifacts import ROOT, write_text
from pipeline.losses.anchors import optimize_anchors
from pipeline.params import load_params
from pipeline.runtime import Runtime, set_up
from pipeline.seeding import stream
from stages.study import known

ROUNDS = 5
COLUMNS = ("part", "what", "x", "seconds")
AXES = {
    "classes": "classes",
    "size": "pixels of a crop",
    "bank": "features a class in the bank",
    "labels": "labelled images in a batch",
    "runs": "runs of a study",
}
"""What grows in each part."""
Line = tuple[str, str, float, float]


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(AXES))
    asked = parser.parse_args().only.split(",")
    runtime = set_up(load_params(known()["mini"]).train)
    path = ROOT / "benchmarks/growth.csv"
    lines = [line for line in former(path) if line[0] not in asked]
    for part in asked:
        for line in PARTS[part](runtime):
            print(*line, flush=True)
            lines.append(line)
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([COLUMNS, *lines])
    write_text(path, table.getvalue())
    draw(lines, ROOT / "benchmarks/growth.png")
    text = [
        "# Growth",
        f"`python -m benchmarks.growth`; {machine()}. Steps, and the bare passes of their networks "
        "(benchmarks/speed.py): medians, all of a part in turns. Anchors and runs: once each. By "
        "linear: the last step up in x, seconds' factor by x's; at most 1 is no worse than linear. "
        "The anchors are compared with each other, so that they grow with the square of the "
        "classes, once a training.",
        markdown(("part", "what", "x", "seconds", "by linear"), summary(lines)),
        "![Growth](growth.png)",
    ]
    write_text(ROOT / "benchmarks/growth.md", "\n\n".join(text) + "\n")


def former(path: Path) -> list[Line]:
    """The lines of an earlier run."""
    if not path.exists():
        return []
    rows = csv.DictReader(path.read_text().splitlines())
    return [(r["part"], r["what"], float(r["x"]), float(r["seconds"])) for r in rows]


def curves(lines: list[Line]) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Points by part and what is measured, x rising."""
    found = defaultdict(list)
    for part, what, x, value in lines:
        found[part, what].append((x, value))
    return {key: sorted(points) for key, points in found.items()}


def summary(lines: list[Line]) -> list[list[str]]:
    """Rows of the table."""
    rows = []
    for (part, what), points in curves(lines).items():
        (x0, y0), (x1, y1) = list(pairwise(points))[-1]
        rows.append(
            [
                AXES[part],
                what,
                " ".join(f"{x:g}" for x, _ in points),
                " ".join(f"{y:.3g}" for _, y in points),
                f"{(y1 / y0) / (x1 / x0):.2f}" if x0 else "",
            ]
        )
    return rows


def draw(lines: list[Line], path: Path) -> None:
    """A panel a part, both axes logarithmic, and what linear growth would be."""
    figure, axes = plt.subplots(2, 3, figsize=(10, 6), layout="constrained")
    for axis, part in zip(axes.flat, AXES, strict=False):
        for (name, what), points in curves(lines).items():
            if name != part:
                continue
            x, y = zip(*((x, y) for x, y in points if x), strict=True)
            axis.plot(x, y, "o-", label=what)
            axis.plot(x, [y[0] * value / x[0] for value in x], ":", color="0.6", zorder=0)
        if not axis.lines:
            axis.set_axis_off()
            continue
        axis.set(xlabel=AXES[part], ylabel="seconds", xscale="log", yscale="log")
        axis.set_xticks(x, [f"{value:,.0f}" for value in x], fontsize=8)
        axis.minorticks_off()
        axis.legend(fontsize=8)
    axes.flat[-1].set_axis_off()
    axes.flat[-1].text(0, 0.8, "dotted: linear growth\nfrom the first point", fontsize=9)
    figure.savefig(path, dpi=130)


def steps_of(
    part: str, values: tuple[float, ...], steps: Callable[[float], dict[str, Callable]]
) -> Iterator[Line]:
    """Lines for each value, all taken in turns."""
    functions = {
        (what, value): function for value in values for what, function in steps(value).items()
    }
    for (what, value), spent in in_turns(functions, ROUNDS, warm=2).items():
        yield part, what, float(value), statistics.median(spent)


def stpg(
    runtime: Runtime,
    *,
    classes: int = 21,
    side: int = 64,
    bank: int = 256,
    labels: int = 8,
) -> dict[str, Callable[[], None]]:
    """A step of STPG of these sizes, and the passes of its networks alone."""
    params = load_params(known()["mini"])
    recipe = replace(params.recipes["voc"], crop=(side, side), batch=labels)
    method, batch = stpg_of(params, recipe, classes, runtime, contrast={"bank_size": bank})
    return {
        "a step": stepper_of(method, batch, runtime, WHOLE),
        "bare passes": bare(method, batch, runtime),
    }


def part_classes(runtime: Runtime) -> Iterator[Line]:
    """Steps, and the anchors that are optimised once."""
    values = (2, 5, 19, 50, 150)
    yield from steps_of("classes", values, lambda v: stpg(runtime, classes=v))
    for number in values:
        began = time.perf_counter()
        optimize_anchors(number, 256, tau=0.5, generator=stream(0, "anchors"))
        yield "classes", "anchors, once a training", float(number), time.perf_counter() - began


def part_size(runtime: Runtime) -> Iterator[Line]:
    """Crops of growing sides."""
    for name, what, side, value in steps_of(
        "size", (64, 96, 128, 192, 256), lambda v: stpg(runtime, side=v, labels=4)
    ):
        yield name, what, side**2, value


def part_bank(runtime: Runtime) -> Iterator[Line]:
    """Features that the bank keeps."""
    yield from steps_of("bank", (64, 256, 1024, 4096), lambda v: stpg(runtime, bank=v))


def part_labels(runtime: Runtime) -> Iterator[Line]:
    """Images of a batch, as many unlabelled ones beside them."""
    yield from steps_of("labels", (2, 4, 8, 16, 32), lambda v: stpg(runtime, labels=v))


def part_runs(_: Runtime) -> Iterator[Line]:
    """`dvc repro` of studies whose stages do nothing, and again with nothing to do."""
    for number in (10, 30, 100, 300):
        with tempfile.TemporaryDirectory() as folder:
            root = empty_project(Path(folder) / "project", number)
            for what in ("first dvc repro", "dvc repro with nothing to do"):
                began = time.perf_counter()
                command = [sys.executable, "-m", "dvc", "repro", "--quiet"]
                subprocess.run(command, cwd=root, check=True)
                yield "runs", what, float(number), time.perf_counter() - began


def empty_project(root: Path, number: int) -> Path:
    """The pipeline's dvc.yaml with so many runs, and commands that only write their outputs."""
    root.mkdir()
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for stage in pipeline["stages"].values():
        inner = stage.get("do", stage)
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in inner["outs"]]
        inner["cmd"] = " && ".join(make(out) for out in outs)
    (root / "dvc.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    params = yaml.safe_load((known()["mini"]).read_text())
    run = params["runs"]["blender_8_stpg"]
    params["runs"] = {f"run_{k}": run for k in range(number)}
    params["examined"] = {"run_0": {"dataset": run["dataset"]}}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copyfile(ROOT / "paper.yaml", root / "paper.yaml")
    for name in ("pipeline", "stages", "data/lists", "benchmarks"):
        (root / name).mkdir(parents=True)
        (root / name / "kept").write_text("")
    (root / "benchmarks/steps.csv").write_text("")
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        subprocess.run(command, cwd=root, check=True)
    return root


def make(out: str) -> str:
    """A shell command that makes an output: files for folders that others look into."""
    if out == "fingerprints":
        names = sorted(path.name for path in (ROOT / "fingerprints").glob("*.json"))
        return "mkdir -p fingerprints && cd fingerprints && touch " + " ".join(names) + " && cd .."
    if "." in Path(out).name:
        return f"mkdir -p $(dirname {out}) && echo {out} > {out}"
    return f"mkdir -p {out} && echo {out} > {out}/index.json"


PARTS: dict[str, Callable[[Runtime], Iterator[Line]]] = {
    "classes": part_classes,
    "size": part_size,
    "bank": part_bank,
    "labels": part_labels,
    "runs": part_runs,
}

if __name__ == "__main__":
    main()

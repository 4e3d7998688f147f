"""How the cost of a step grows, and that of the pipeline with the number of runs.

`python -m benchmarks.growth [--only PART,...]` measures and writes benchmarks/growth.csv, .md and
.png. Parts: `classes`, `size`, `bank`, `labels` of a step of STPG (`mini`, VOC-like, but for what
grows), `split` of its batch, and `runs` of the pipeline, whose stages are replaced by ones that
only write their files. A part that is not asked for keeps its former lines, which have to be of the
same machine. Beside each step stand the bare passes of its networks: what grows with them is
arithmetic. The machine should have nothing else to do.
"""

import argparse
import csv
import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, cycle, pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import yaml
from matplotlib.ticker import LogLocator

from benchmarks.speed import WHOLE, bare, drawn, stpg_of
from benchmarks.steps import stepper_of
from benchmarks.timing import in_turns, machine, markdown, quartiles
from pipeline.artifacts import ROOT, write_text
from pipeline.batch import Views
from pipeline.config import Draw, RecipeConfig
from pipeline.data.base import Prepared
from pipeline.data.splits import Split
from pipeline.loader import StepDataset, shuffled
from pipeline.losses.anchors import optimize_anchors
from pipeline.params import load_params
from pipeline.runtime import Runtime, set_up
from pipeline.seeding import stream
from stages.study import known

ROUNDS = 9
COLUMNS = ("part", "what", "x", "seconds", "low", "high")
AXES = {
    "classes": "classes",
    "size": "pixels of a crop",
    "bank": "features a class in the bank",
    "labels": "labelled images in a batch",
    "split": "labelled images of a split",
    "runs": "runs of a study",
}
"""What grows in each part."""
MOST_BY_REPRO = 100
"""Runs of the largest study that `dvc repro` makes from nothing: 300 take it more than an hour."""
BY_HAND = """
import subprocess
from dvc.repo import Repo
for stage in Repo().index.stages:
    subprocess.run(stage.cmd, shell=True, check=True)
"""
"""Each stage's command, without DVC."""
Line = tuple[str, str, float, float, float, float]
"""Part, what is measured, x, and seconds: median and quartiles, three times the same if once."""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(AXES))
    asked = [part for part in parser.parse_args().only.split(",") if part]
    runtime = set_up(load_params(known()["mini"]).train)
    path = ROOT / "benchmarks/growth.csv"
    lines = [line for line in former(path) if line[0] not in asked]
    for part in asked:
        for line in PARTS[part](runtime):
            print(*line, flush=True)
            lines.append(line)
    lines.sort(key=lambda line: list(AXES).index(line[0]))
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows([COLUMNS, *lines])
    write_text(path, table.getvalue())
    draw(lines, ROOT / "benchmarks/growth.png")
    text = [
        "# Growth",
        f"`python -m benchmarks.growth`; {machine()}. Steps, and the bare passes of their networks "
        f"(benchmarks/speed.py): medians of {ROUNDS}, all of a part in turns, quartiles in "
        "brackets. Of a split: what loading a batch takes, and the first one with the drawing of "
        "its order. Anchors and runs: once each. By linear: the last step up in x, seconds' factor "
        "by x's; at most 1 is no worse than linear. Last slope: seconds by x of the last step up, "
        "by that of the one before, which what does not grow cannot hide; none where the last "
        "step up is less than a tenth of the seconds.",
        "The anchors are compared with each other, so that they grow with the square of the "
        "classes, once a training. `dvc repro` reads and writes all of dvc.lock after each stage, "
        "so that many stages take it the square of their number; `dvc commit` does so once. "
        f"`dvc repro` from nothing ends at {MOST_BY_REPRO} runs, since more would take hours.",
        markdown(("part", "what", "x", "seconds", "by linear", "last slope"), summary(lines)),
        "![Growth](growth.png)",
    ]
    write_text(ROOT / "benchmarks/growth.md", "\n\n".join(text) + "\n")


def former(path: Path) -> list[Line]:
    """The lines of an earlier run."""
    if not path.exists():
        return []
    rows = csv.DictReader(path.read_text().splitlines())
    return [(row["part"], row["what"], *(float(row[name]) for name in COLUMNS[2:])) for row in rows]


def curves(lines: list[Line]) -> dict[tuple[str, str], list[tuple[float, ...]]]:
    """Points by part and what is measured, x rising."""
    found = defaultdict(list)
    for part, what, *point in lines:
        found[part, what].append(tuple(point))
    return {key: sorted(points) for key, points in found.items()}


def summary(lines: list[Line]) -> list[list[str]]:
    """Rows of the table."""
    rows = []
    for (part, what), points in curves(lines).items():
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(points)]
        (x0, y0, *_), (x1, y1, *_) = points[-2:]
        rows.append(
            [
                AXES[part],
                what,
                ", ".join(f"{x:g}" for x, *_ in points),
                ", ".join(spread(*seconds) for _, *seconds in points),
                f"{(y1 / y0) / (x1 / x0):.2f}",
                f"{slopes[-1] / slopes[-2]:.2f}" if y1 - y0 > 0.1 * y1 else "",
            ]
        )
    return rows


def spread(value: float, low: float, high: float) -> str:
    """The median, and quartiles if there are some."""
    return f"{value:.3g}" + (f" ({low:.3g} to {high:.3g})" if low < high else "")


def draw(lines: list[Line], path: Path) -> None:
    """A panel a part, both axes logarithmic, and what linear growth would be."""
    figure, axes = plt.subplots(2, 3, figsize=(10, 6), layout="constrained")
    for axis, part in zip(axes.flat, AXES, strict=False):
        ticks: set[float] = set()
        for (name, what), points in curves(lines).items():
            if name != part:
                continue
            x, y, low, high = zip(*points, strict=True)
            line = axis.plot(x, y, "o-", label=what)[0]
            axis.fill_between(x, low, high, color=line.get_color(), alpha=0.3, linewidth=0)
            axis.plot(x, [y[0] * value / x[0] for value in x], ":", color="0.6", zorder=0)
            ticks |= set(x)
        if not axis.lines:
            axis.set_axis_off()
            continue
        axis.set(xlabel=AXES[part], ylabel="seconds", xscale="log", yscale="log")
        axis.set_xticks(sorted(ticks), [f"{x:,.0f}" for x in sorted(ticks)], fontsize=8)
        axis.minorticks_off()
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.tick_params(axis="y", labelsize=8)
        low, high = axis.get_ylim()
        axis.set_ylim(low, high * (high / low) ** 0.5)  # room for the legend
        axis.legend(fontsize=8, loc="upper left")
    figure.supxlabel("dotted: linear growth from the first point; bands: quartiles", fontsize=9)
    figure.savefig(path, dpi=130)


def steps_of(
    part: str, values: tuple[float, ...], steps: Callable[[float], dict[str, Callable]]
) -> Iterator[Line]:
    """Lines for each value, all taken in turns."""
    functions = {
        (what, value): function for value in values for what, function in steps(value).items()
    }
    for (what, value), spent in in_turns(functions, ROUNDS, warm=2).items():
        low, median, high = quartiles(spent)
        yield part, what, float(value), median, low, high


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
        yield once("classes", "anchors, once a training", number, time.perf_counter() - began)


def part_size(runtime: Runtime) -> Iterator[Line]:
    """Crops of growing sides."""
    for name, what, side, *seconds in steps_of(
        "size", (64, 96, 128, 192, 256), lambda v: stpg(runtime, side=v, labels=4)
    ):
        yield name, what, side**2, *seconds


def part_bank(runtime: Runtime) -> Iterator[Line]:
    """Features that the bank keeps."""
    yield from steps_of("bank", (64, 256, 1024, 4096), lambda v: stpg(runtime, bank=v))


def part_labels(runtime: Runtime) -> Iterator[Line]:
    """Images of a batch, as many unlabelled ones beside them."""
    yield from steps_of("labels", (2, 4, 8, 16, 32), lambda v: stpg(runtime, labels=v))


def part_split(_: Runtime) -> Iterator[Line]:
    """A batch, decoded and augmented without workers, of splits of the same two images."""
    recipe = replace(load_params(known()["mini"]).recipes["voc"], steps=1_000_000)
    values = (100, 1000, 10_000, 100_000)
    with drawn("voc", Draw(size=64, fine=2, coarse=0, val=1)) as data:
        # One after the other: what draws an order anew forgets the others' orders.
        for what in ("a batch", "first batch, order drawn"):
            yield from steps_of(
                "split", values, lambda v, what=what: {what: loading(data, v, recipe)[what]}
            )


def loading(data: Prepared, number: int, recipe: RecipeConfig) -> dict[str, Callable[[], None]]:
    """Loads a batch of so many labelled and as many unlabelled images, and the very first."""
    images = cycle(data.train)
    items = tuple(replace(next(images), id=str(k)) for k in range(2 * number))
    ids = tuple(item.id for item in items)
    split = Split("grown", "drawn", str(number), number, 0, ids[:number], ids[number:])
    many, steps = replace(data, train=items), count()

    def dataset() -> StepDataset:
        made = StepDataset(many, split, Views(unlabeled=True), recipe, 0)
        made.read = made.read_pair  # each image is decoded anew, however few there are
        return made

    def first() -> None:
        dataset()[0]
        shuffled.cache_clear()  # so that the next one draws, and each frees its own

    kept = dataset()
    return {"a batch": lambda: kept[next(steps)], "first batch, order drawn": first}


def part_runs(_: Runtime) -> Iterator[Line]:
    """What DVC takes for studies whose stages do nothing."""
    for number in (10, 30, 100, 300):
        with tempfile.TemporaryDirectory() as folder:
            root = empty_project(Path(folder) / "by hand", number)
            subprocess.run([sys.executable, "-c", BY_HAND], cwd=root, check=True)
            ways = {
                "dvc commit after stages by hand": (root, ["commit", "--force"]),
                "dvc repro with nothing to do": (root, ["repro"]),
                "dvc repro of one stage": (root, ["repro", "--force", "-s", "evaluate@run_0"]),
            }
            if number <= MOST_BY_REPRO:
                other = empty_project(Path(folder) / "by dvc", number)
                ways["dvc repro from nothing"] = (other, ["repro"])
            for what, (place, command) in ways.items():
                began = time.perf_counter()
                dvc = [sys.executable, "-m", "dvc", *command, "--quiet"]
                subprocess.run(dvc, cwd=place, check=True)
                yield once("runs", what, number, time.perf_counter() - began)


def once(part: str, what: str, x: float, seconds: float) -> Line:
    """A line of what was measured once."""
    return part, what, float(x), seconds, seconds, seconds


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
    "split": part_split,
    "runs": part_runs,
}

if __name__ == "__main__":
    main()

"""What many small files cost: `python -m benchmarks.files [NUMBER]` writes benchmarks/files.md.

In a copy of the files in git, a folder of so many images of 32 x 32 pixels, a hundredth of them
with masks, goes through `dvc repro` stage by stage up to a short training, then again with nothing
to do; the loader reads from it. The machine should have nothing else to do; it needs 3 GB of disk
for 100,000.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from benchmarks.overhead import copy_with
from benchmarks.timing import machine, markdown
from pipeline.artifacts import ROOT, write_text

PROBE = """
import resource, sys, time
from itertools import islice
from pipeline.artifacts import Paths
from pipeline.batch import Views
from pipeline.command import keep_freed_memory
from pipeline.params import load_params
from pipeline.data.base import Prepared
from pipeline.data.splits import read_split
from pipeline.loader import StepDataset, batches
params, paths = load_params(), Paths("many")
keep_freed_memory()
began = time.perf_counter()
data = Prepared.open(paths.prepared("many"))
split = read_split(paths.split("few"), data)
dataset = StepDataset(data, split, Views(unlabeled=True), params.recipes["short"], 0)
loop = batches(dataset, start=0, workers=0)
next(loop)
first = time.perf_counter() - began
began = time.perf_counter()
number = sum(len(batch.image_l) + len(batch.image_u) for batch in islice(loop, 50))
print(first, number / (time.perf_counter() - began),
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", nargs="?", type=int, default=100_000)
    number = parser.parse_args().number
    with tempfile.TemporaryDirectory() as folder:
        sources, root = Path(folder) / "sources", copy_with("smoke", Path(folder) / "project")
        draw(sources / "folder", number)
        (root / "params.yaml").write_text(yaml.safe_dump(params_of(root)))
        (root / "dvc.lock").unlink(missing_ok=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"STPG_DATA": str(sources), "PATH": path}
        environment["STPG_WORK"] = str(root / ".work")

        def seconds_of(*arguments: str) -> float:
            began = time.perf_counter()
            command = [sys.executable, "-m", "dvc", "repro", "--quiet", *arguments]
            subprocess.run(command, cwd=root, env=environment, check=True)
            return time.perf_counter() - began

        rows = stages(seconds_of)
        done = subprocess.run(
            [sys.executable, "-c", PROBE], cwd=root, check=True, capture_output=True, text=True
        )
        first, rate, gib = map(float, done.stdout.split())
        size = sum(p.stat().st_size for p in (root / "data/prepared/many").rglob("*.*"))
    rows += [["first batch, index and split read", f"{first:.1f}"]]
    text = [
        f"# {number:,} small files",
        f"`python -m benchmarks.files {number}`; {machine()}. Images of 32 x 32 pixels, "
        f"{size / 2**20:.0f} MiB prepared; seconds of one run each.",
        markdown(("what", "seconds"), rows),
        f"Without workers the loader gives {rate:.0f} images a second, in a process of {gib:.2f} "
        "GiB, torch included.",
    ]
    write_text(ROOT / "benchmarks/files.md", "\n\n".join(text) + "\n")
    print(*text, sep="\n\n")


def stages(seconds_of: Callable[..., float]) -> list[list[str]]:
    """Rows: each stage alone, and all with nothing to do."""
    rows = []
    for target in ("fingerprint", "download@many", "prepare@many", "split@few", "train@plain"):
        rows.append([f"`dvc repro -s {target}`", f"{seconds_of('-s', target):.1f}"])
    again = f"{seconds_of('-s', 'train@plain'):.1f}"
    rows.append(["`dvc repro -s train@plain` again, nothing to do", again])
    rows.append(["`dvc repro train@plain`, nothing to do", f"{seconds_of('train@plain'):.1f}"])
    return rows


def draw(folder: Path, number: int) -> None:
    """Images in noise, masks for a hundredth of them, of which every tenth validates."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), np.uint8)
    for k in range(number):
        Image.fromarray(noise[k % 256]).save(folder / f"images/{k:07d}.jpg")
    masked = range(0, number, 100)
    for k in masked:
        Image.fromarray(noise[k % 256, :, :, 0] % 3).save(folder / f"masks/{k:07d}.png")
    (folder / "classes.yaml").write_text("[one, two, three]\n")
    (folder / "val.txt").write_text("\n".join(f"{k:07d}" for k in masked[::10]) + "\n")


def params_of(root: Path) -> dict:
    """The smoke study's parameters, but for data, split and one run."""
    params = yaml.safe_load((root / "params.yaml").read_text())
    recipe = next(iter(params["recipes"].values()))
    run = {"dataset": "many", "split": "few", "recipe": "short", "method": "supervised"}
    return params | {
        "study": "many",
        "datasets": {"many": {"source": "folder"}},
        "splits": {"few": {"dataset": "many", "protocol": "standard", "partition": 2}},
        "recipes": {"short": recipe | {"crop": [32, 32], "batch": 8, "steps": 200}},
        "evaluation": {"many": {"mode": "whole"}},
        "runs": {"plain": run | {"seeds": [0]}},
        "examined": {"plain": {"dataset": "many"}},
        "tables": [],
        "figures": [],
    }


if __name__ == "__main__":
    main()

"""A trained network as ONNX, with a card: `python -m stages.export RUN [--seed K] [--out DIR]`."""

import argparse
import json
from pathlib import Path

from pipeline.artifacts import Paths, write_text
from pipeline.command import run_command
from pipeline.evaluate import load_model
from pipeline.export import card, export_onnx
from pipeline.params import entry, load_params
from pipeline.typed import InputError


def main() -> None:
    """Writes DIR/RUN-seedK.onnx and its card beside it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run of the study in place")
    parser.add_argument("--seed", type=int, help="by default the run's first")
    parser.add_argument("--out", type=Path, default=Path("exported"))
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    given = parser.parse_args()
    if given.size is not None and min(given.size) < 1:
        raise InputError(f"--size {given.size[0]} {given.size[1]}; expected at least 1 pixel each")
    params = load_params()
    run, paths = entry(params, "runs", given.run), Paths(params.study)
    seed = run.seeds[0] if given.seed is None else given.seed
    if seed not in run.seeds:
        raise InputError(f"--seed {seed}; expected one of {list(run.seeds)}, those of {given.run}")
    folder = paths.run(given.run) / f"seed{seed}"
    network, model = load_model(folder / "model.pt")
    metrics = paths.metrics(given.run)
    if not metrics.is_file():
        raise InputError(f"{metrics} is missing: run `dvc repro evaluate@{given.run}`")
    scored = {s["seed"]: s for s in json.loads(metrics.read_text())["seeds"]}
    if seed not in scored:
        raise InputError(f"{metrics}: no seed {seed} yet: run `dvc repro evaluate@{given.run}`")
    size = tuple(given.size or params.recipes[run.recipe].crop)
    path = given.out / f"{given.run}-seed{seed}.onnx"
    difference = export_onnx(network, path, size)
    write_text(path.with_suffix(".md"), card(model, scored[seed], size, difference))
    print(f"{path}, {path.with_suffix('.md')}: differs from PyTorch by {difference:.1g} at most")


if __name__ == "__main__":
    run_command(main, OSError)

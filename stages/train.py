"""Stage `train`: one run of the registry, once for each of its seeds."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline.artifacts import ROOT, Paths, commit_folder, fresh_folder, sha256_of
from pipeline.checkpoint import sole_owner
from pipeline.config import Params, load_params
from pipeline.data.base import Prepared
from pipeline.data.splits import read_split
from pipeline.methods.base import resolve
from pipeline.runtime import set_up, versions
from pipeline.trainer import Interrupted, Job, train


def main(key: str) -> None:
    """Trains what is not yet trained, then writes runs/<study>/<key>."""
    params = load_params()
    paths, run = Paths(params.study), params.runs[key]
    runtime = set_up(params.train)
    for number, seed in enumerate(run.seeds, 1):
        job = job_of(key, seed, params, paths, f"{key} seed {seed} ({number}/{len(run.seeds)})")
        with sole_owner(job.folder):
            if not (job.folder / "model.pt").exists():
                train(job, runtime)
    out = fresh_folder(paths.run(key))
    for seed in run.seeds:
        folder = job_of(key, seed, params, paths, "").folder
        (out / f"seed{seed}").mkdir()
        for name in ("model.pt", "log.jsonl", "record.json"):
            shutil.copyfile(folder / name, out / f"seed{seed}" / name)
    commit_folder(out, paths.run(key))


def job_of(key: str, seed: int, params: Params, paths: Paths, title: str) -> Job:
    """What determines the training of one seed; its scratch folder is named by a hash of it."""
    run = params.runs[key]
    recipe = params.recipes[run.recipe]
    name = f"runs.{key}.set" if run.set else f"methods.{run.method}"
    config = resolve(run.method, params.methods[run.method], run.set, key=name)
    data = Prepared.open(paths.prepared(run.dataset))
    split = read_split(paths.split(run.split), data)
    code = json.loads(paths.fingerprint(f"train-{run.method}").read_text())
    resolved = {
        "run": key,
        "seed": seed,
        "method": run.method,
        "parameters": asdict(config),
        "recipe": asdict(recipe),
        "train": asdict(params.train),
        "dataset": {"name": data.name, "digest": data.digest},
        "split": sha256_of([split.labeled, split.unlabeled]),
        "code": sha256_of(code),
    }
    folder = paths.scratch() / f"{key}-seed{seed}-{sha256_of(resolved)[:12]}"
    record = resolved | {"commit": commit(), "versions": versions()}
    return Job(title, run.method, config, recipe, params.train, data, split, seed, record, folder)


def commit() -> str:
    """The commit that is checked out, `-dirty` if the working tree differs; `none` outside git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "none"


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Interrupted as stop:
        sys.exit(f"{Path(__file__).stem}: {stop}")

"""From a study's parameters to its trainings, and what determines each."""

import json
import subprocess
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.artifacts import ROOT, Paths, sha256_of
from pipeline.config import Params
from pipeline.data.base import Prepared
from pipeline.data.splits import Split, read_split
from pipeline.learner import Job
from pipeline.methods.base import resolve
from pipeline.models.backbone import weights_version
from pipeline.runtime import versions
from pipeline.typed import ConfigError

open_prepared = cache(Prepared.open)
"""`Prepared.open`, once a process."""


@cache
def open_split(path: Path, prepared: Path) -> Split:
    """`read_split`, once a process."""
    return read_split(path, open_prepared(prepared))


def job_of(key: str, seed: int, params: Params, paths: Paths, *, title: str = "") -> Job:
    """The training of one seed of run `key`; its scratch folder is named by a hash of it."""
    run = params.runs[key]
    recipe = params.recipes[run.recipe]
    config = method_config(key, params)
    data = open_prepared(paths.prepared(run.dataset))
    split = open_split(paths.split(run.split), paths.prepared(run.dataset))
    code = json.loads(fingerprint_of(f"train-{run.method}", paths).read_text())
    resolved = {
        "run": key,
        "seed": seed,
        "method": run.method,
        "parameters": asdict(config),
        "recipe": asdict(recipe),
        "train": asdict(params.train),
        "dataset": {"name": data.name, "digest": data.digest},
        "split": {
            "name": run.split,
            "family": split.family,
            "labeled": len(split.labeled),
            "unlabeled": len(split.unlabeled),
            "digest": sha256_of([split.labeled, split.unlabeled]),
        },
        "code": sha256_of(code),
        "weights": weights_version(recipe.network),
        "versions": versions(),
    }
    folder = paths.scratch() / f"{key}-seed{seed}-{sha256_of(resolved)[:12]}"
    dataset = resolved["dataset"] | {"height": data.height}  # in the digest already
    record = resolved | {"dataset": dataset, "commit": commit()}
    return Job(
        title,
        run.method,
        config,
        recipe,
        params.train,
        data,
        split,
        seed,
        record,
        folder,
        params.runtime,
    )


def fingerprint_of(name: str, paths: Paths) -> Path:
    """The file with the hash of a stage's code, which has to be there."""
    path = paths.fingerprint(name)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run `dvc repro fingerprint`")
    return path


def method_config(key: str, params: Params) -> Any:
    """The typed parameters of a run's method: its section, then what the run sets."""
    run = params.runs[key]
    section = params.methods[run.method]
    where = f"runs.{key}.set" if run.set else f"methods.{run.method}"
    return resolve(run.method, section, run.set, key=where)


def check_methods(params: Params, file: str = "params.yaml") -> None:
    """Raises ConfigError unless every section of `methods`, and every run's `set`, is right."""
    try:
        for name, section in params.methods.items():
            resolve(name, section, key=f"methods.{name}")
        for key in params.runs:
            method_config(key, params)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


@cache
def commit() -> str:
    """The commit that is checked out, `-dirty` if the code differs from it; `none` outside git."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "pipeline", "stages", "requirements.txt")
    return (git("rev-parse", "--short=12", "HEAD") or "none") + ("-dirty" if changed else "")

"""Stage `train`: one run of the registry, once for each of its seeds."""

import shutil
import sys
from pathlib import Path

from pipeline.artifacts import Paths, replacing, writing_to
from pipeline.checkpoint import sole_owner
from pipeline.config import load_params
from pipeline.jobs import forecast, job_of
from pipeline.runtime import set_up
from pipeline.trainer import Interrupted, train


def main(key: str) -> None:
    """Trains what is not yet trained, then writes runs/<study>/<key>."""
    params = load_params()
    paths, run = Paths(params.study), params.runs[key]
    runtime = set_up(params.train)
    folders = {}
    for number, seed in enumerate(run.seeds, 1):
        title = f"{key} seed {seed} ({number}/{len(run.seeds)})"
        job = job_of(key, seed, params, paths, title=title)
        with sole_owner(job.folder):
            if not (job.folder / "model.pt").exists():
                print(forecast(params, paths), flush=True)
                train(job, runtime)
        folders[seed] = job.folder
    with replacing(paths.run(key)) as out, writing_to(paths.run(key)):
        for seed, folder in folders.items():
            (out / f"seed{seed}").mkdir()
            for name in ("model.pt", "log.jsonl", "record.json"):
                shutil.copyfile(folder / name, out / f"seed{seed}" / name)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Interrupted as stop:
        sys.exit(f"{Path(__file__).stem}: {stop}")

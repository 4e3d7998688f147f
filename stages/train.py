"""Stage `train`: one run of the registry, once for each of its seeds."""

import shutil

from pipeline.artifacts import Paths, replacing, writing_to
from pipeline.checkpoint import sole_owner
from pipeline.command import run_stage
from pipeline.config import entry, load_params
from pipeline.jobs import check_methods, forecast, job_of
from pipeline.runtime import set_up
from pipeline.trainer import Interrupted, train


def main(key: str) -> None:
    """Trains what is not yet trained, then writes runs/<study>/<key>."""
    params = load_params()
    paths, seeds = Paths(params.study), entry(params, "runs", key).seeds
    check_methods(params)
    runtime = set_up(params.train)
    folders = {}
    for number, seed in enumerate(seeds, 1):
        title = f"{key} seed {seed} ({number}/{len(seeds)})"
        job = job_of(key, seed, params, paths, title=title)
        with sole_owner(job.folder):
            if not (job.folder / "model.pt").exists():
                print(forecast(params, paths), flush=True)
                train(job, runtime)
        folders[seed] = job.folder
    with replacing(paths.run(key)) as out, writing_to(paths.run(key)):
        for seed, folder in folders.items():
            (out / f"seed{seed}").mkdir()
            for name in ("model.pt", "log.jsonl", "record.json", "snapshot.npz"):
                if name != "snapshot.npz" or (folder / name).exists():
                    shutil.copyfile(folder / name, out / f"seed{seed}" / name)


if __name__ == "__main__":
    run_stage(main, Interrupted, FloatingPointError)

"""Stage `train`: one run of the registry, once for each of its seeds."""

import shutil
import sys
from contextlib import nullcontext

from pipeline import processes
from pipeline.artifacts import Paths, replacing, writing_to
from pipeline.checkpoint import sole_owner
from pipeline.command import run_stage
from pipeline.forecast import forecast
from pipeline.jobs import check_methods, job_of
from pipeline.params import entry, load_params
from pipeline.runtime import set_up
from pipeline.trainer import Interrupted, most_that_share, train


def main(key: str) -> None:
    """Trains what is not yet trained, then writes runs/<study>/<key>."""
    params = load_params()
    run, asked = entry(params, "runs", key), params.runtime.processes
    if not processes.started_by_torchrun():
        number = most_that_share(asked, params.recipes[run.recipe])
        if number < asked:
            print(f"{key}: in {number} of {asked} processes: its labelled images divide by no more")
        if number > 1:
            start_all(key, number)
            return
    paths, seeds = Paths(params.study), run.seeds
    check_methods(params)
    runtime = set_up(params.train)
    folders, first = {}, processes.rank() == 0
    for number, seed in enumerate(seeds, 1):
        title = f"{key} seed {seed} ({number}/{len(seeds)})"
        job = job_of(key, seed, params, paths, title=title)
        with sole_owner(job.folder) if first else nullcontext():
            processes.wait_for_all()
            if not (job.folder / "model.pt").exists():
                if first:
                    print(forecast(params, paths), flush=True)
                train(job, runtime)
            processes.wait_for_all()
        folders[seed] = job.folder
    if not first:
        return
    with replacing(paths.run(key)) as out, writing_to(paths.run(key)):
        for seed, folder in folders.items():
            (out / f"seed{seed}").mkdir()
            for name in ("model.pt", "log.jsonl", "record.json", "snapshot.npz"):
                if name != "snapshot.npz" or (folder / name).exists():
                    shutil.copyfile(folder / name, out / f"seed{seed}" / name)


def start_all(key: str, number: int) -> None:
    """Starts so many of this process, as torchrun does, and waits for them."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(["--standalone", f"--nproc-per-node={number}", "--module", "stages.train", key])
    except SignalException:
        sys.exit("stages.train: stopped; run again to go on")
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        sys.exit(
            f"stages.train: process {rank} of {number} ended with {failure.exitcode}; run again to "
            "go on from the last saved state"
        )


if __name__ == "__main__":
    run_stage(main, Interrupted, FloatingPointError)

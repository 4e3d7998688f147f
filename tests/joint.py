"""A tiny training as one of several processes, which tests/test_processes.py has torchrun start."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from pipeline import learner, processes, trainer
from pipeline.config import TrainConfig
from pipeline.data.base import Prepared
from pipeline.runtime import set_up
from tests.test_trainer import make_job


def train(
    data: Path, folder: Path, method: str, steps: int, stop_at: int = -1, kill_at: int = -1
) -> None:
    """Trains, and leaves the method's state and the steps taken, of each process in its own files.

    Args:
      method: its name, then what else is asked for: `+parts` (a batch in two parts), `+again`
        (activation checkpointing).
      stop_at: the step in which the last process gets a SIGTERM.
      kill_at: the step in which the last process is killed.
    """
    runtime = set_up(TrainConfig(threads=1))
    name, *options = method.split("+")
    job = make_job(folder, Prepared.open(data), method=name, steps=steps, every=2)
    recipe = replace(job.recipe, batch=4, accumulate=2 if "parts" in options else 1)
    again = replace(job.runtime, activation_checkpointing="again" in options)
    job = replace(job, train=replace(job.train, log_every=1), recipe=recipe, runtime=again)
    last = processes.rank() == processes.world() - 1
    built, build, update, taken = [], learner.build, trainer.Learner.update, []

    def keep(*arguments):
        # In float32 the tiny network, whose norms see few values, blows up differences of rounding.
        built.append(build(*arguments).double())
        return built[0]

    def watched(self, batch, step):
        images = {
            name: getattr(batch, name).double() for name in ("image_l", "image_u", "strong_u")
        }
        batch = replace(batch, **images)
        for at, number in ((stop_at, signal.SIGTERM), (kill_at, signal.SIGKILL)):
            if step == at and last:
                os.kill(os.getpid(), number)
        taken.append(step)
        return update(self, batch, step)

    learner.build, trainer.Learner.update = keep, watched
    try:
        trainer.train(job, runtime)
    finally:
        learner.build, trainer.Learner.update = build, update
        torch.save(built[0].state_dict(), folder / f"rank{processes.rank()}.pt")
        (folder / f"steps{processes.rank()}.json").write_text(json.dumps(taken))


if __name__ == "__main__":
    data, folder, methods, *numbers = sys.argv[1:]
    for method in methods.split(","):
        train(Path(data), Path(folder) / method, method, *map(int, numbers))

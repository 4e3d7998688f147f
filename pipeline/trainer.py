"""The training loop: one for every method."""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline import processes
from pipeline.artifacts import write_arrays, write_json, write_text, writing_to
from pipeline.checkpoint import save_model
from pipeline.config import RecipeConfig
from pipeline.learner import Job, Learner, method_of, states_of
from pipeline.loader import StepDataset, WholeImages, batches, naming_dead_workers
from pipeline.methods.base import MethodBase
from pipeline.progress import progress
from pipeline.runtime import Runtime
from pipeline.seeding import seed_global
from pipeline.typed import ConfigError


class Interrupted(BaseException):
    """A signal asked the training to stop; its state is saved."""


LESS = (
    "In the run's recipe lower `batch` or `crop`, or raise `accumulate`; or set "
    "runtime.activation_checkpointing true"
)
"""What needs less memory."""


def train(job: Job, runtime: Runtime) -> None:
    """Trains to the recipe's last step, from the saved state if there is one.

    Writes `job.folder / "model.pt"` at the end; of several processes, which all see that folder,
    the first does. On the CPU an interrupted and resumed training ends in the same bits as an
    uninterrupted one.

    Raises:
      ConfigError: a batch that the processes do not divide.
      FloatingPointError: a loss term is not finite; names the term and the step.
      InputError: no memory is left, a process that loads data has died, or no state can be read.
      Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    check_divides(processes.world(), job.recipe)
    with runtime.enough_memory(job.title, LESS):
        method = method_of(job, runtime)
        learner = Learner(job, method, runtime)
        start, seconds = learner.resume()
    first = processes.rank() == 0
    log = Log(job.folder / "log.jsonl", start) if first else None
    share = (processes.rank(), processes.world())
    dataset = StepDataset(job.data, job.split, method.views, job.recipe, job.seed, share=share)
    unlabeled = WholeImages(dataset, runtime.device)
    steps = job.recipe.steps
    began = time.monotonic() - seconds
    with stop_signals() as received, naming_dead_workers():
        pin = runtime.device.type == "cuda"
        loop = batches(dataset, start=start, workers=job.runtime.workers, pin=pin)
        bar = progress(loop, job.title, unit="step", initial=start, total=steps, disable=not first)
        for step, batch in enumerate(bar, start):
            done = step + 1
            method.measuring = done % job.train.log_every == 0 or done == steps
            seed_global(job.seed, "step", step)
            with runtime.enough_memory(f"{job.title}: step {step}", LESS):
                method.before_step(step / steps, unlabeled)
                entry = learner.update(batch, step)
            if method.measuring:
                learner.check()
            if method.measuring and first:
                log.write(entry, method.diagnostics)
                bar.set_postfix(loss=f"{entry['loss'].item():.3f}", refresh=False)
            if done == steps and method.snapshot and first:
                arrays = {name: value.cpu().numpy() for name, value in method.snapshot.items()}
                write_arrays(job.folder / "snapshot.npz", arrays)
            # once: another may come in between
            stopped = processes.any_process(bool(received))
            if done % job.runtime.checkpoint_every == 0 or stopped:
                learner.check()
                if first:
                    learner.save(done, time.monotonic() - began)
            if stopped:
                processes.wait_for_all()  # torchrun ends the others once one has ended
                raise Interrupted(f"stopped at step {done} of {steps}; run again to go on")
    if first:
        finish(job, method, runtime, time.monotonic() - began)
    processes.wait_for_all()


def most_that_share(number: int, recipe: RecipeConfig) -> int:
    """How many processes, `number` at most, share out the labelled images that pass at once."""
    passed = recipe.batch // recipe.accumulate
    return max(count for count in range(1, number + 1) if passed % count == 0)


def check_divides(number: int, recipe: RecipeConfig) -> None:
    """Raises ConfigError unless so many processes share out what passes at once."""
    if (most := most_that_share(number, recipe)) < number:
        raise ConfigError(
            f"torchrun: {number} processes; expected a divisor of "
            f"{recipe.batch // recipe.accumulate}, the labelled images that pass at once (batch "
            f"{recipe.batch}, accumulate {recipe.accumulate}): start {most}, or change the recipe"
        )


class Log:
    """One JSON line for each logged step; lines beyond the resumed step are dropped."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        kept = path.read_text().splitlines(keepends=True) if start and path.exists() else []
        write_text(path, "".join(x for x in kept if x.endswith("\n") and within(x, start)))

    def write(self, entry: dict[str, Any], diagnostics: dict[str, Tensor]) -> None:
        """Appends the entry and the method's diagnostics; a number that is nan becomes null."""
        line = {name: plain(value) for name, value in (entry | diagnostics).items()}
        with writing_to(self.path), self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def plain(value: Tensor | float) -> float | list | None:
    """A tensor as JSON has it: a number, null for nan, or a list."""
    value = value.tolist() if isinstance(value, Tensor) else value
    return value if isinstance(value, list) or math.isfinite(value) else None


def within(line: str, start: int) -> bool:
    """Whether a log line belongs to the first `start` steps."""
    return json.loads(line)["step"] <= start


def finish(job: Job, method: MethodBase, runtime: Runtime, seconds: float) -> None:
    """Writes the record and then the model, whose presence says that the training is done."""
    measured = {
        "device": runtime.describe(),
        "minutes": round(seconds / 60, 3),
        "seconds_per_step": round(seconds / job.recipe.steps, 5),
        "peak_memory_gib": round(runtime.peak_memory_gib(), 3),
        "processes": processes.world(),
    }
    write_json(job.folder / "record.json", job.record | measured)
    network = {k: v.cpu().contiguous() for k, v in method.predictor().state_dict().items()}
    names, colors = job.data.classes.names, job.data.classes.colors
    classes = [{"name": n, "color": list(c)} for n, c in zip(names, colors, strict=True)]
    save_model(job.folder / "model.pt", network, classes, job.record)
    for path in states_of(job.folder):
        path.unlink(missing_ok=True)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that a SIGINT or SIGTERM is appended to instead of ending the process."""
    received: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    old = [signal.signal(kind, lambda number, _: received.append(number)) for kind in kinds]
    try:
        yield received
    finally:
        for kind, handler in zip(kinds, old, strict=True):
            signal.signal(kind, handler)

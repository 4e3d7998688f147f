"""The training loop: one for every method."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import processes
from pipeline.artifacts import write_arrays, write_json, write_text, writing_to
from pipeline.batch import Batch
from pipeline.checkpoint import load, save, save_model
from pipeline.config import ConfigError, RecipeConfig, RuntimeConfig, TrainConfig
from pipeline.data.base import Prepared
from pipeline.data.splits import Split
from pipeline.loader import StepDataset, WholeImages, batches, unlabeled_ids
from pipeline.methods.base import MethodBase, build, setting_of
from pipeline.progress import progress
from pipeline.runtime import Runtime
from pipeline.seeding import seed_global


@dataclass(frozen=True)
class Job:
    """Everything that determines one training, and where it keeps its files."""

    title: str
    method: str
    method_config: Any
    recipe: RecipeConfig
    train: TrainConfig
    data: Prepared
    split: Split
    seed: int
    record: dict[str, Any]
    """The resolved configuration as plain data, stored in the model file."""
    folder: Path
    """`state.pt` while it runs, then `model.pt`; `log.jsonl` throughout; at the end `snapshot.npz`,
    if the method has one."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


class Interrupted(BaseException):
    """A signal asked the training to stop; its state is saved."""


def polynomial_decay(step: int, steps: int, power: float) -> float:
    """The factor (1 - step / steps) ** power of the learning rate."""
    return (1 - step / steps) ** power


def train(job: Job, runtime: Runtime) -> None:
    """Trains to the recipe's last step, from the saved state if there is one.

    Writes `job.folder / "model.pt"` at the end; of several processes, which all see that folder,
    the first does. On the CPU an interrupted and resumed training ends in the same bits as an
    uninterrupted one.

    Raises:
      ConfigError: a batch that the processes do not divide.
      FloatingPointError: a loss term is not finite; names the term and the step.
      Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    check_divides(processes.world(), job.recipe)
    seed_global(job.seed, "build")
    num_unlabeled = len(unlabeled_ids(job.split))
    setting = setting_of(job.recipe, len(job.data.classes), job.seed, num_unlabeled)
    method = build(job.method, job.method_config, setting)
    method.to(runtime.device, memory_format=runtime.memory_format).train()
    method = processes.with_joint_norms(method, runtime.device)
    optimizer = optimizer_of(job, method)
    start, seconds = resume(job, method, optimizer)
    losses, first = processes.losses_of(method), processes.rank() == 0
    log = Log(job.folder / "log.jsonl", start) if first else None
    share = (processes.rank(), processes.world())
    dataset = StepDataset(job.data, job.split, method.views, job.recipe, job.seed, share=share)
    unlabeled = WholeImages(dataset, runtime.device)
    steps = job.recipe.steps
    began = time.monotonic() - seconds
    with stop_signals() as received:
        loop = batches(dataset, start=start, workers=job.runtime.workers)
        bar = progress(loop, job.title, unit="step", initial=start, total=steps, disable=not first)
        for step, batch in enumerate(bar, start):
            done = step + 1
            method.measuring = done % job.train.log_every == 0 or done == steps
            seed_global(job.seed, "step", step)
            method.before_step(step / steps, unlabeled)
            entry = update(method, optimizer, batch, step, job, runtime, losses)
            if method.measuring and first:
                log.write(entry, method.diagnostics)
                bar.set_postfix(loss=f"{entry['loss'].item():.3f}", refresh=False)
            if done == steps and method.snapshot and first:
                arrays = {name: value.cpu().numpy() for name, value in method.snapshot.items()}
                write_arrays(job.folder / "snapshot.npz", arrays)
            # once: another may come in between
            stopped = processes.any_process(bool(received), runtime.device)
            if (done % job.runtime.checkpoint_every == 0 or stopped) and first:
                save_state(job, method, optimizer, done, time.monotonic() - began)
            if stopped:
                processes.wait_for_all()  # torchrun ends the others once one has ended
                raise Interrupted(f"stopped at step {done} of {steps}; run again to go on")
    if first:
        finish(job, method, runtime, time.monotonic() - began)
    processes.wait_for_all()


def check_divides(number: int, recipe: RecipeConfig) -> None:
    """Raises ConfigError unless so many processes can share out a batch."""
    if recipe.batch % number:
        raise ConfigError(
            f"runtime.processes: {number}; expected a divisor of the recipe's batch "
            f"({recipe.batch})"
        )


def optimizer_of(job: Job, method: MethodBase) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, whose first beta is the momentum."""
    groups, lr = method.param_groups(job.train.weight_decay), job.recipe.lr
    momentum = job.train.momentum
    if job.recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999), foreach=True)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, foreach=True)


def update(
    method: MethodBase,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    step: int,
    job: Job,
    runtime: Runtime,
    losses: Callable[..., dict[str, Tensor]],
) -> dict[str, Any]:
    """One optimiser step; returns its log entry, tensors still on the device.

    Args:
      batch: this process's share.
      losses: the method's, as `pipeline.processes` calls them.
    """
    steps = job.recipe.steps
    rate = job.recipe.lr * polynomial_decay(step, steps, job.train.power)
    if step < job.recipe.warm_up:
        rate *= (step + 1) / job.recipe.warm_up
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    with runtime.autocast():
        batch = batch.to(runtime.device, runtime.memory_format)
        batch = batch.of_all_processes(runtime.memory_format)
        terms = losses(batch, step / steps)
    loss = torch.stack([term.float() for term in terms.values()]).sum()
    if not math.isfinite(loss.item()):
        bad = {name: float(t.detach()) for name, t in terms.items() if not torch.isfinite(t)}
        raise FloatingPointError(
            f"{job.title}: step {step}: loss terms not finite: {bad or 'their sum'}; "
            f"learning rate {rate:.3g}"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    method.after_update((step + 1) / steps)
    return {"step": step + 1, "lr": rate, "loss": loss.detach()} | {
        f"loss_{name}": term.detach() for name, term in terms.items()
    }


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


def save_state(
    job: Job, method: MethodBase, optimizer: torch.optim.Optimizer, done: int, seconds: float
) -> None:
    """All that the remaining steps depend on; random streams follow from the step alone."""
    state = {"method": method.state_dict(), "optimizer": optimizer.state_dict()}
    save(job.folder / "state.pt", state | {"step": done, "seconds": seconds})


def resume(job: Job, method: MethodBase, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Loads the saved state; returns the next step and the seconds spent so far."""
    path = job.folder / "state.pt"
    if not path.exists():
        return 0, 0.0
    state = load(path)
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]


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
    (job.folder / "state.pt").unlink(missing_ok=True)


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

"""The training loop: one for every method."""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import processes
from pipeline.artifacts import write_arrays, write_json, write_text, writing_to
from pipeline.batch import Batch
from pipeline.checkpoint import load, save, save_model
from pipeline.config import ConfigError, RecipeConfig, RuntimeConfig, TrainConfig
from pipeline.data.base import Prepared
from pipeline.data.splits import Split
from pipeline.loader import StepDataset, WholeImages, batches, unlabeled_ids
from pipeline.methods.base import MethodBase, build, setting_of
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.progress import progress
from pipeline.recompute import recompute
from pipeline.runtime import Runtime
from pipeline.seeding import seed_global
from pipeline.teaching import with_own_rate


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
    with stop_signals() as received:
        loop = batches(dataset, start=start, workers=job.runtime.workers)
        bar = progress(loop, job.title, unit="step", initial=start, total=steps, disable=not first)
        for step, batch in enumerate(bar, start):
            done = step + 1
            method.measuring = done % job.train.log_every == 0 or done == steps
            seed_global(job.seed, "step", step)
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
            stopped = processes.any_process(bool(received), runtime.device)
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


def check_divides(number: int, recipe: RecipeConfig) -> None:
    """Raises ConfigError unless so many processes can share out what passes at once."""
    if (passed := recipe.batch // recipe.accumulate) % number:
        raise ConfigError(
            f"runtime.processes: {number}; expected a divisor of {passed}, the labelled images "
            f"that pass at once (batch {recipe.batch}, accumulate {recipe.accumulate}): change one"
        )


def networks_of(method: MethodBase) -> list[DeepLabV3Plus]:
    """Its segmentation networks, but for decoders alone."""
    return [m for m in method.modules() if isinstance(m, DeepLabV3Plus) and hasattr(m, "trunk")]


def check_crop(recipe: RecipeConfig, networks: list[DeepLabV3Plus]) -> None:
    """Raises ConfigError unless crops are whole patches, so that features lie where pixels do."""
    for network in networks:
        if any(side % network.multiple for side in recipe.crop):
            raise ConfigError(
                f"recipes: crop {list(recipe.crop)} on {recipe.network.trunk}; expected multiples "
                f"of {network.multiple}, its patch"
            )


def method_of(job: Job, runtime: Runtime) -> MethodBase:
    """The method as it begins, on its device, its networks as `train` and `runtime` say.

    Raises:
      ConfigError: the crop does not fit the trunk, or several processes would compile.
    """
    if job.train.compile and processes.world() > 1:
        raise ConfigError(
            f"train.compile: true in {processes.world()} processes; expected false: they do not "
            "work together"
        )
    seed_global(job.seed, "build")
    num_unlabeled = len(unlabeled_ids(job.split))
    setting = setting_of(job.recipe, len(job.data.classes), job.seed, num_unlabeled)
    method = build(job.method, job.method_config, setting)
    method.to(runtime.device, memory_format=runtime.memory_format).train()
    method = processes.with_joint_norms(method, runtime.device)
    check_crop(job.recipe, networks_of(method))
    for network in networks_of(method):
        if job.runtime.activation_checkpointing:
            for block in network.blocks():
                recompute(block)
        if job.train.compile:
            network.whole = torch.compile(network.whole)
    return method


def optimizer_of(job: Job, method: MethodBase) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, whose first beta is the momentum."""
    groups, lr = method.param_groups(job.train.weight_decay), job.recipe.lr
    if job.recipe.trunk_lr != 1:
        networks = (network for network in networks_of(method) if network.pretrained)
        trunks = nn.ModuleList(network.trunk for network in networks)
        groups = with_own_rate(groups, trunks, job.recipe.trunk_lr)
    momentum = job.train.momentum
    if job.recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999), foreach=True)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, foreach=True)


class Learner:
    """What learns: a method with its optimiser, and the state that an interruption leaves."""

    def __init__(self, job: Job, method: MethodBase, runtime: Runtime) -> None:
        self.job, self.method, self.runtime = job, method, runtime
        self.optimizer = optimizer_of(job, method)
        self.scaler = runtime.scaler()
        self.losses = processes.losses_of(method)
        self.unchecked: list[dict[str, Any]] = []
        """Entries whose losses nobody has looked at yet: to look is to wait for a GPU."""

    def update(self, batch: Batch, step: int) -> dict[str, Any]:
        """One optimiser step; returns its log entry, tensors still on the device.

        Args:
          batch: this process's share.

        Raises:
          FloatingPointError: the step failed, and a loss was not finite.
        """
        recipe, layout = self.job.recipe, self.runtime.memory_format
        rate = self.rate_at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        batch = batch.to(self.runtime.device, layout).of_all_processes(layout)
        entry: dict[str, Any] = {"step": step + 1, "lr": rate}
        self.unchecked.append(entry)
        try:
            for part in batch.parts(recipe.accumulate, layout):
                for name, value in self.follow_back(part, step).items():
                    entry[name] = entry.get(name, 0) + value / recipe.accumulate
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.method.after_update((step + 1) / recipe.steps)
        except Exception:
            self.check()  # what is not finite may be the reason
            raise
        return entry

    def follow_back(self, part: Batch, step: int) -> dict[str, Tensor]:
        """Adds the gradient of a part of a batch; returns the loss and its terms."""
        steps = self.job.recipe.steps
        with self.runtime.autocast():
            terms = self.losses(part, step / steps)
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        self.scaler.scale(loss / self.job.recipe.accumulate).backward()
        self.method.after_backward((step + 1) / steps)
        return {"loss": loss.detach()} | {f"loss_{name}": x.detach() for name, x in terms.items()}

    def rate_at(self, step: int) -> float:
        """The learning rate."""
        recipe = self.job.recipe
        rate = recipe.lr * polynomial_decay(step, recipe.steps, self.job.train.power)
        return rate * min(1.0, (step + 1) / recipe.warm_up) if recipe.warm_up else rate

    def check(self) -> None:
        """Raises FloatingPointError if a loss since the last call is not finite."""
        for entry in self.unchecked:
            if "loss" in entry and not math.isfinite(entry["loss"]):
                terms = {k: float(v) for k, v in entry.items() if k.startswith("loss_")}
                bad = {k.removeprefix("loss_"): v for k, v in terms.items() if not math.isfinite(v)}
                raise FloatingPointError(
                    f"{self.job.title}: step {entry['step'] - 1}: loss terms not finite: "
                    f"{bad or 'their sum'}; learning rate {entry['lr']:.3g}"
                )
        self.unchecked.clear()

    def save(self, done: int, seconds: float) -> None:
        """All that the remaining steps depend on; random streams follow from the step alone."""
        state = {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}
        state |= {"scaler": self.scaler.state_dict(), "step": done, "seconds": seconds}
        save(self.job.folder / "state.pt", state)

    def resume(self) -> tuple[int, float]:
        """Loads the saved state; returns the next step and the seconds spent so far."""
        path = self.job.folder / "state.pt"
        if not path.exists():
            return 0, 0.0
        state = load(path)
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        return state["step"], state["seconds"]


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

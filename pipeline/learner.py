"""One training: what determines it, the method and optimiser that it makes, and its states."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import processes
from pipeline.batch import Batch
from pipeline.checkpoint import load, save
from pipeline.config import RecipeConfig, RuntimeConfig, TrainConfig
from pipeline.data.base import Prepared
from pipeline.data.splits import Split
from pipeline.loader import unlabeled_ids
from pipeline.methods.base import MethodBase, build, setting_of
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.recompute import recompute
from pipeline.runtime import Runtime, is_out_of_memory
from pipeline.seeding import seed_global
from pipeline.teaching import with_own_rate
from pipeline.typed import ConfigError, InputError


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
    """`state.pt` and `state.previous.pt` while it runs, then `model.pt`; `log.jsonl` throughout; at
    the end `snapshot.npz`, if the method has one."""
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)


def polynomial_decay(step: int, steps: int, power: float) -> float:
    """The factor (1 - step / steps) ** power of the learning rate."""
    return (1 - step / steps) ** power


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
        self.damaged = False
        """Whether the newest state cannot be read, and the one before was."""
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
        entry: dict[str, Any] = {"step": step + 1, "lr": rate}
        self.unchecked.append(entry)
        try:
            batch = batch.to(self.runtime.device, layout).of_all_processes(layout)
            for k, part in enumerate(batch.parts(recipe.accumulate, layout), 1):
                with processes.summing_up(self.losses, last=k == recipe.accumulate):
                    found = self.follow_back(part, step)
                for name, value in found.items():
                    entry[name] = entry.get(name, 0) + value / recipe.accumulate
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.method.after_update((step + 1) / recipe.steps)
        except Exception as error:
            if not is_out_of_memory(error):
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
        newest, previous = states_of(self.job.folder)
        save(newest, state, previous=None if self.damaged else previous)
        self.damaged = False

    def resume(self) -> tuple[int, float]:
        """Loads the newest whole state; returns the next step and the seconds spent so far.

        Raises InputError if there are states, and none of them can be read.
        """
        state, reasons = None, []
        for path in filter(Path.exists, states_of(self.job.folder)):
            try:
                state = load(path)
                break
            except InputError as error:
                reasons.append(str(error))
        if state is None:
            if reasons:
                raise InputError("; ".join(reasons))
            return 0, 0.0
        if reasons:
            self.damaged = True
            if processes.rank() == 0:
                print(f"{reasons[0]}. Not needed: going on from {path.name}, step {state['step']}")
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        return state["step"], state["seconds"]


def states_of(folder: Path) -> tuple[Path, Path]:
    """The files of a training's newest state and of the one before."""
    return folder / "state.pt", folder / "state.previous.pt"

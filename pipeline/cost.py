"""What a training step costs, found before a study starts.

A step is taken in float32, without pretrained weights, on random images that are smaller and fewer
than the recipe's: floating-point operations, and what is kept for the backward pass, grow with
their pixels. Of the latter, half precision halves what is kept inside networks, but for what their
layer norms keep; a plain ViT's own sums stay in float32 too, so that it keeps more than is said.
All terms of a method are at work in it, but banks and queues are empty: what a contrast keeps of
them is not counted, nor what happens between steps, as when ST++ labels whole images anew. A plain
ViT, whose attention grows faster than its images, is tried at the recipe's crop. A batch in parts
(`accumulate`) holds one part at a time; what activation checkpointing and half precision on this
machine change is not counted.

On this machine a step is timed. For another device it is tried smaller still, and its time is the
operations by 30 % of the peak that its maker states, of half of it in float32; that is an
assumption until a training has run there.
"""

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.artifacts import Paths, sha256_of
from pipeline.batch import Batch
from pipeline.config import Params, RecipeConfig
from pipeline.data.sources import source_of
from pipeline.data.sources.folder import where
from pipeline.jobs import method_config
from pipeline.methods.base import MethodBase, build, setting_of
from pipeline.models.backbone import is_plain_vit
from pipeline.runtime import Runtime
from pipeline.seeding import seed_global

PROGRESS = 0.8
"""Share of training at which every term of every method is at work."""
UNLABELED = 32
"""Whole images that methods may look at between steps."""


@dataclass(frozen=True)
class Trial:
    """The step that is taken instead of the recipe's."""

    images: int
    shrink: int
    """The crop's sides are this part of the recipe's."""
    smallest: int
    """But no smaller than this, in pixels."""


TIMED, COUNTED = Trial(4, 4, 128), Trial(2, 8, 64)
USED = 0.3
"""Share of a device's peak that training reaches: an assumption."""
FLOAT32 = 0.5
"""Of the peak: TensorFloat-32, which float32 passes use on such devices (data sheets)."""
GIB = 2**30


@dataclass(frozen=True)
class Device:
    """What its maker states."""

    peak: float
    """Dense bfloat16 operations a second."""
    memory: float
    """GiB."""


DEVICES = {
    "a40": Device(149.7e12, 48),
    "a100": Device(312e12, 80),
    "h100": Device(989e12, 80),
    "rtx3090": Device(71e12, 24),
    "rtx4090": Device(165e12, 24),
}
"""Data sheets of NVIDIA; consumer cards with accumulation in float32."""


@dataclass(frozen=True)
class Cost:
    """Of one training step, but for `trained`."""

    trained: int
    """Parameters."""
    flops: float
    gib: float
    """Weights, gradients, optimiser and what waits for the backward pass; allocators take more.

    On a CPU a record gives the whole process, with torch and the rest of Python.
    """
    seconds: float


def kinds(params: Params) -> dict[str, list[str]]:
    """Runs that train alike, but for images and seeds, under one key."""
    found: dict[str, list[str]] = defaultdict(list)
    for key, run in params.runs.items():
        parameters = asdict(method_config(key, params))
        recipe = asdict(params.recipes[run.recipe])
        found[sha256_of([run.method, parameters, recipe, run.dataset])].append(key)
    return found


def cost_of(key: str, params: Params, runtime: Runtime, device: Device | None) -> Cost:
    """What a step of run `key` costs; on this machine if `device` is None."""
    run = params.runs[key]
    recipe, number = params.recipes[run.recipe], num_classes(params, run.dataset)
    small = tried(recipe, TIMED if device is None else COUNTED)
    seed_global(0, "build")
    method = build(run.method, method_config(key, params), setting_of(small, number, 0, UNLABELED))
    method.to(runtime.device, memory_format=runtime.memory_format).train()
    batch = random_batch(small.crop, small.batch, number, method)
    batch = batch.to(runtime.device, runtime.memory_format)
    prepare(method, batch)
    half = device is not None and params.train.precision != "fp32"
    scale = recipe.batch * math.prod(recipe.crop) / (small.batch * math.prod(small.crop))
    at_once = scale / recipe.accumulate
    flops, kept = counted(method, batch, half)
    seconds = (
        scale * timed(method, batch)
        if device is None
        else scale * flops / (USED * device.peak * (1 if half else FLOAT32))
    )
    state = 4 * held(method, 3 if recipe.optimizer == "adamw" else 2)
    state += 2 * half * trained(method)  # autocast's copies
    return Cost(trained(method), scale * flops, (state + at_once * kept) / GIB, seconds)


def num_classes(params: Params, dataset: str) -> int:
    """Of a data set, which need not be here unless it is a folder of one's own."""
    config = params.datasets[dataset]
    raw = where(config, Paths(params.study).raw(dataset))
    return len(source_of(config).class_table(config, raw))


def tried(recipe: RecipeConfig, trial: Trial) -> RecipeConfig:
    """The recipe with a small crop and batch, in one part, and without pretrained weights."""
    network = replace(recipe.network, weights="none")
    few = replace(recipe, batch=min(trial.images, recipe.batch), accumulate=1, network=network)
    if is_plain_vit(network.trunk):
        return few
    crop = tuple(
        min(side, max(trial.smallest, side // trial.shrink // 8 * 8)) for side in recipe.crop
    )
    return replace(few, crop=crop)


def random_batch(crop: tuple[int, int], num: int, num_classes: int, method: MethodBase) -> Batch:
    """Noise, with labels in blocks; as many unlabelled images as the method asks for."""
    num_u = num * (method.views.unlabeled + method.views.partners)
    label = torch.randint(num_classes, (num + num_u, *(-(-side // 8) for side in crop)))
    label = label.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    label = label[:, : crop[0], : crop[1]]
    return Batch(
        image_l=torch.rand(num, 3, *crop),
        label_l=label[:num],
        image_u=torch.rand(num_u, 3, *crop),
        strong_u=torch.rand(method.views.strong, num_u, 3, *crop),
        valid_u=torch.ones(num_u, *crop, dtype=torch.bool),
        truth_u=label[num:],
        index_u=torch.arange(num_u) % UNLABELED,
        seed=0,
    )


def prepare(method: MethodBase, batch: Batch) -> None:
    """Takes the method through its phases to where all parts are at work."""
    whole = [batch.image_l[:1].clone() for _ in range(UNLABELED)]
    method.before_step(0.0, whole)
    method.before_step(PROGRESS, whole)
    method.measuring = False


def counted(method: MethodBase, batch: Batch, half: bool) -> tuple[float, int]:
    """Operations of a step forward and back, and bytes that the backward pass waits for.

    It runs in float32: a CPU without half precision takes minutes for such a step.
    """
    own = {x.untyped_storage().data_ptr() for x in method.state_dict().values()}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            narrow = half and inside and not isinstance(inside[-1], nn.LayerNorm)
            narrow = narrow and value.is_floating_point()
            kept[storage.data_ptr()] = storage.nbytes() // (2 if narrow else 1)
        return value

    with (
        inside_networks(method) as inside,
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),  # whose products are counted
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
    ):
        loss = total(method, batch)
        waiting = sum(kept.values())
        loss.backward()
    method.zero_grad(set_to_none=True)
    return counter.get_total_flops(), waiting


@contextmanager
def inside_networks(method: nn.Module) -> Iterator[list[nn.Module]]:
    """A list that holds something while a module of the method computes."""
    stack: list[nn.Module] = []
    handles = []

    def leave(*_: object) -> None:
        stack.pop()

    for module in method.modules():
        if module is not method:
            handles.append(module.register_forward_pre_hook(lambda m, _: stack.append(m)))
            handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()


def total(method: MethodBase, batch: Batch) -> Tensor:
    """What a step minimises."""
    return torch.stack([x.float() for x in method.losses(batch, PROGRESS).values()]).sum()


def timed(method: MethodBase, batch: Batch, times: int = 3) -> float:
    """Median seconds of a step, after one that does not count."""
    seconds = []
    for _ in range(times + 1):
        began = time.perf_counter()
        total(method, batch).backward()
        method.after_backward(PROGRESS)
        method.after_update(PROGRESS)
        method.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def trained(method: MethodBase) -> int:
    """Parameters that learn."""
    return sum(p.numel() for p in method.parameters() if p.requires_grad)


def held(method: MethodBase, copies: int) -> int:
    """Numbers of all weights and buffers, and `copies` for each that learns: gradient, moments."""
    return sum(x.numel() for x in method.state_dict().values()) + copies * trained(method)

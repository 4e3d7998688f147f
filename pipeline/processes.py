"""Several processes that train one network together, each with its share of the images.

Every process has the whole batch and computes every loss of it; networks are what is shared out:
`spread` passes a network this process's share of the images and gathers all outputs. So a method's
losses, its confusion matrix, prototypes and banks are those of the whole batch, the same in all
processes, and no method knows of processes. What it costs: each computes the losses of the whole
batch, which take a small part of a step, and holds its logits.

Gradients: all processes have the same loss, so a share's gradient is known without asking the
others. It is multiplied by the number of processes, because DistributedDataParallel averages over
them, which is right for what each computes in full.

Started by torchrun; a process alone is a world of one, for which nothing here does anything.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from timm.layers.norm_act import SyncBatchNormAct
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.precision import wide

Result = TypeVar("Result", bound=tuple)
PR_SET_PDEATHSIG = 1
_sharing = False
"""What `sharing` says."""


def started_by_torchrun() -> bool:
    """Whether this process is one of several, or of one that torchrun started."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def join(device: torch.device) -> None:
    """Joins the others that torchrun started, once a process."""
    if started_by_torchrun() and not dist.is_initialized():
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # not to outlive torchrun
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is; the first writes files."""
    return dist.get_rank() if dist.is_initialized() else 0


def wait_for_all() -> None:
    """Returns when every process has called it."""
    if world() > 1:
        dist.barrier()


def any_process(value: bool) -> bool:
    """Whether it is true in any process; they ask each other on the CPU: no GPU is waited for."""
    if world() == 1:
        return value
    flag = torch.tensor(int(value))
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag)


def spread(network: Callable[[Tensor], Result], image_NCHW: Tensor) -> Result:
    """What `network` says of all images, of which this process passes it a share.

    Images whose number the processes do not divide pass whole in each process, and so do those of
    a network within one that is spread already.

    Args:
      network: from images to a NamedTuple of tensors that have a row an image.
      image_NCHW: gets no gradient.
    """
    if world() == 1 or _sharing or len(image_NCHW) % world():
        return network(image_NCHW)
    assert not image_NCHW.requires_grad, "a gradient for images would be of a share"
    with shared(True):
        output = network(image_NCHW.chunk(world())[rank()])
    return type(output)(*(Gathered.apply(value) for value in output))


def sharing() -> bool:
    """Whether the images that pass a network now are this process's share."""
    return _sharing


@contextlib.contextmanager
def shared(value: bool) -> Iterator[None]:
    """Inside, `sharing` is `value`; afterwards as it was before."""
    global _sharing
    before, _sharing = _sharing, value
    try:
        yield
    finally:
        _sharing = before


def gathered(value: Tensor, dim: int = 0) -> Tensor:
    """The shares of all processes, in their order, along a dimension; without gradient."""
    if world() == 1:
        return value
    value = value.contiguous()
    shares = [torch.empty_like(value) for _ in range(world())]
    dist.all_gather(shares, value)
    return torch.cat(shares, dim)


class Gathered(torch.autograd.Function):
    """The shares of all processes along the first dimension."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """Of all processes."""
        return gathered(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Of this process's share: see the module's text."""
        return gradient.chunk(world())[rank()] * world()


class Summed(torch.autograd.Function):
    """The sum over processes; so is its gradient, each having its part of what depends on it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        """Of all processes."""
        value = value.clone()
        dist.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Of all processes."""
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class JointBatchNorm(nn.BatchNorm2d):
    """Where images are shared out, what SyncBatchNorm is, which torch has not for CPUs."""

    def forward(self, value: Tensor) -> Tensor:
        """Normalised by mean and variance over the images of all processes, if they share them."""
        if not (self.training and _sharing):
            return nn.BatchNorm2d.forward(self, value)
        own = wide(value)
        number = own.numel() // own.shape[1] * world()
        mean = Summed.apply(own.sum(dim=(0, 2, 3))) / number
        centred = own - mean[:, None, None]
        variance = Summed.apply(centred.square().sum(dim=(0, 2, 3))) / number
        with torch.no_grad():
            self.num_batches_tracked += 1
            # As torch's own norms, behind autograd's back: a former pass may have saved them.
            self.running_mean.data.lerp_(mean, self.momentum)
            self.running_var.data.lerp_(variance * number / (number - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(value.dtype)


class JointBatchNormAct(JointBatchNorm):
    """The same of timm's, which an activation follows."""

    def forward(self, value: Tensor) -> Tensor:
        """Normalised and activated."""
        return self.act(self.drop(super().forward(value)))


class SyncWhereShared(nn.SyncBatchNorm):
    """torch's SyncBatchNorm where images are shared out, else a norm of what it is given."""

    def forward(self, value: Tensor) -> Tensor:
        """Whole batches would else count once a process."""
        if not self.training or _sharing:
            return super().forward(value)
        self.num_batches_tracked += 1
        return F.batch_norm(
            value, self.running_mean, self.running_var, self.weight, self.bias,
            training=True, momentum=self.momentum, eps=self.eps,
        )  # fmt: skip


class SyncActWhereShared(SyncBatchNormAct, SyncWhereShared):
    """The same of timm's, which an activation follows."""


NORMS = {
    "cuda": {nn.BatchNorm2d: SyncWhereShared, BatchNormAct2d: SyncActWhereShared},
    "cpu": {nn.BatchNorm2d: JointBatchNorm, BatchNormAct2d: JointBatchNormAct},
}


def with_joint_norms(method: nn.Module, device: torch.device) -> nn.Module:
    """Its batch norms take the images of all processes; parameters stay the same objects.

    Norms without parameters or statistics of their own are none of a network that is spread.
    """
    if world() == 1:
        return method
    for module in method.modules():
        if (kind := NORMS[device.type].get(type(module))) and counts(module):
            module.__class__ = kind
            module.process_group = None  # SyncBatchNorm's: all processes
    return method


def counts(norm: nn.BatchNorm2d) -> bool:
    """Whether it has parameters and statistics."""
    return norm.affine and norm.track_running_stats


class Losses(nn.Module):
    """A method's losses as a forward pass, which DistributedDataParallel looks for."""

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, *inputs: Any) -> dict[str, Tensor]:
        """`MethodBase.losses`."""
        return self.method.losses(*inputs)


def losses_of(method: nn.Module) -> Callable[..., dict[str, Tensor]]:
    """`method.losses`, after whose backward pass all processes have the whole batch's gradient."""
    if world() == 1:
        return method.losses
    # Terms join in the course of training, so that some parameters wait for theirs. Buffers are the
    # same in all processes, and banks are large.
    return DistributedDataParallel(
        Losses(method), find_unused_parameters=True, broadcast_buffers=False
    )


def summing_up(losses: Callable[..., dict[str, Tensor]], *, last: bool) -> AbstractContextManager:
    """Inside, `losses_of` and its backward pass: processes add up gradients of the last part only.

    Those of the parts before wait in each process.
    """
    waits = isinstance(losses, DistributedDataParallel) and not last
    return losses.no_sync() if waits else contextlib.nullcontext()

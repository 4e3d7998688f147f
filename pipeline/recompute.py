"""Activation checkpointing that ends in the same bits: blocks keep their inputs and run twice."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pipeline import processes


def recompute(block: nn.Module) -> None:
    """From now on the block computes its activations again when a backward pass needs them."""
    block.forward = partial(_forward, block, block.forward)


def _forward(block: nn.Module, usual: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return usual(*inputs, **named)
    shared = processes.sharing()

    def contexts() -> tuple[contextlib.AbstractContextManager, contextlib.AbstractContextManager]:
        return contextlib.nullcontext(), _again(block, shared)

    return checkpoint(usual, *inputs, use_reentrant=False, context_fn=contexts, **named)


@contextlib.contextmanager
def _again(block: nn.Module, shared: bool) -> Iterator[None]:
    """Batch norms count the batch once: their statistics stay as they are."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        with processes.shared(shared):
            yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)

"""Where a training step waits for a GPU: operations whose result's size or value the host needs.

Seen without one, by the operations that losses and what follows an update dispatch. Seen with one
alone, by torch's own check: copies between devices.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline import waiting
from pipeline.artifacts import ROOT
from pipeline.data.base import IGNORE_INDEX
from tests.methods import test_contract
from tests.methods.test_contract import make, make_batch, run_steps

READ = {"_local_scalar_dense", "is_nonzero", "equal"}
SIZED = {
    "nonzero", "masked_select", "bincount", "histc", "_unique2", "unique_dim", "unique_consecutive",
    "repeat_interleave",
}  # fmt: skip
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
"""Wait where an index is a mask."""
PROGRESS = 0.4
"""Every part of STPG's step is at work, the assignment of anchors too."""
KNOWN = {
    "supervised": set(),
    "mean_teacher": set(),
    "fixmatch": set(),
    "stpg": {
        ("pipeline/waiting.py", "counts", "bincount"),
        ("pipeline/waiting.py", "<genexpr>", "index"),
    },
}
"""On a CPU, where nobody waits: files, functions, operations."""
COPYING = {("pipeline/losses/anchors.py", "assign_anchors")}
"""Files and functions: what is computed on the CPU."""


class Watch(TorchDispatchMode):
    """Keeps each operation that waits, with the file and function of the pipeline it comes from."""

    def __init__(self) -> None:
        super().__init__()
        self.places = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        masked = name in INDEXED and any(x is not None and x.dtype == torch.bool for x in args[1])
        if name in READ | SIZED or masked:
            self.places.add((*place(), name))
        return func(*args, **(kwargs or {}))


def place():
    """The innermost file of the pipeline, and its function."""
    frame = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT / "pipeline"):
            return str(path.relative_to(ROOT)), frame.f_code.co_name
        frame = frame.f_back
    return "outside", ""


def watched(method):
    """Where the losses of a step, and what follows it, wait; after some that made it ready."""
    run_steps(method, 4)
    method.measuring = False  # what is only logged may wait
    batch = make_batch(step=4)
    with Watch() as watch:
        loss = sum(method.losses(batch, PROGRESS).values())
    loss.backward()
    with watch:
        method.after_backward(PROGRESS)
        method.after_update(PROGRESS)
    return watch.places


@pytest.mark.parametrize("name", KNOWN)
def test_on_a_cpu_losses_choose_where_they_are_known_to_and_nowhere_else(name):
    assert watched(make(name)) == KNOWN[name]


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """What would wait for a GPU is done as there."""
    monkeypatch.setattr(waiting, "waits", lambda device: True)


@pytest.mark.parametrize("name", KNOWN)
def test_as_on_a_gpu_no_loss_waits(name, as_on_a_gpu):
    assert watched(make(name)) == set()


def padded(step, rows=12):
    """A batch with rows of pixels that do not count."""
    batch = make_batch(step=step)
    label_l, valid_u = batch.label_l.clone(), batch.valid_u.clone()
    label_l[:, :rows] = IGNORE_INDEX
    valid_u[:, :12] = False
    return replace(batch, label_l=label_l, valid_u=valid_u)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"phi": 0.2, "bank_size": 3, "top_k": 5},
        {"max_pixels_per_class": 3, "min_pixels": 5},
        {"reduction": "pixel"},
        {"reduction": "every_class", "pixels": ["labeled", "unlabeled"]},
    ],
)
def test_as_on_a_gpu_the_losses_are_the_same(change, monkeypatch):
    """But for rounding; the same pixels are drawn, and the same features enter the bank."""
    monkeypatch.setattr(test_contract, "make_batch", padded)
    found = []
    for waits in (False, True):
        monkeypatch.setattr(waiting, "waits", lambda device, waits=waits: waits)
        method = make("stpg", contrast=change).double()
        losses, _ = run_steps(method, 7, dtype=torch.float64)
        found.append((losses, method.state_dict()))
    (losses, state), (others, other) = found
    assert others == pytest.approx(losses, rel=1e-9)
    assert state["contrast.bank.pushed_C"].sum() > 20
    for key, value in state.items():
        torch.testing.assert_close(other[key], value, rtol=1e-6, atol=1e-9, msg=key)


def test_as_on_a_gpu_a_batch_without_labels_has_gradients(as_on_a_gpu):
    method = make("stpg")
    run_steps(method, 4)
    before = method.contrast.bank.bank_CQD.clone()
    method.zero_grad()
    sum(method.losses(padded(4, rows=32), PROGRESS).values()).backward()
    method.after_backward(PROGRESS)
    assert all(p.grad is None or p.grad.isfinite().all() for p in method.parameters())
    assert torch.equal(method.contrast.bank.bank_CQD, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", KNOWN)
def test_on_a_gpu_torch_sees_no_other_places(name, monkeypatch):
    method = make(name).cuda()
    method.measuring = False
    batch = make_batch().to(torch.device("cuda"), torch.channels_last)
    sum(method.losses(batch, PROGRESS).values()).backward()  # what is kept is there from now on
    method.after_backward(PROGRESS)
    places = set()

    def show(message, *_):
        if "synchronizing CUDA" in str(message):
            places.add(place())

    monkeypatch.setattr(warnings, "showwarning", show)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            loss = sum(method.losses(batch, PROGRESS).values())
            loss.backward()
            method.after_backward(PROGRESS)
            method.after_update(PROGRESS)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert loss.isfinite()
    assert places <= COPYING


def test_each_kind_of_waiting_is_seen():
    value = torch.arange(4)
    with Watch() as watch:
        value[value > 1]
    assert watch.places
    for wait in (lambda: value.sum().item(), lambda: bool(value.any()), lambda: value.bincount()):
        with Watch() as watch:
            wait()
        assert watch.places
    with Watch() as watch:
        value[value.argsort()] + value.sum()
    assert not watch.places

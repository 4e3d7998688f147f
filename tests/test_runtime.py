import re
import tempfile
from contextlib import contextmanager
from multiprocessing import Pipe, get_context
from pathlib import Path

import pytest
import torch

from pipeline import runtime
from pipeline.config import TrainConfig
from pipeline.runtime import detect, set_up, versions
from pipeline.typed import ConfigError


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    """Asks for the CPU, and puts back what `set_up` sets of torch."""
    monkeypatch.setenv("STPG_DEVICE", "cpu")
    deterministic = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory
    yield
    runtime.claimed.cache_clear()
    runtime.CLAIMS.clear()
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = fill


@pytest.mark.parametrize("threads", [1, 2])
def test_the_cpu_is_deterministic_with_the_threads_asked_for(threads):
    found = set_up(TrainConfig(threads=threads))
    assert found.device == torch.device("cpu")
    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [
        ("auto", torch.float32),
        ("fp32", torch.float32),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
def test_a_forward_pass_has_the_precision_asked_for(precision, dtype):
    found = set_up(TrainConfig(precision=precision))
    with found.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_images_are_laid_out_for_convolutions():
    image = torch.zeros(1, 3, 4, 4)
    layout = set_up(TrainConfig()).memory_format
    assert image.contiguous(memory_format=layout).stride() == (48, 1, 12, 3)
    layout = set_up(TrainConfig(channels_last=False)).memory_format
    assert image.contiguous(memory_format=layout).stride() == (48, 16, 4, 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu", "$STPG_DEVICE: found 'tpu'; expected cpu, cuda, cuda:<n> or mps"),
        ("meta", "$STPG_DEVICE: found 'meta'; expected cpu"),
        ("gpu:0", "$STPG_DEVICE: found 'gpu:0'; expected cpu"),
        ("cuda:99", "$STPG_DEVICE: no 'cuda:99' here ("),
        ("cpu:x", "$STPG_DEVICE: no 'cpu:x' here ("),
    ],
)
def test_a_device_that_cannot_be_used_is_refused(monkeypatch, name, message):
    monkeypatch.setenv("STPG_DEVICE", name)
    with pytest.raises(ConfigError, match="^" + re.escape(message)):
        set_up(TrainConfig())


@pytest.mark.parametrize(
    ("cuda", "mps", "want"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_is_found(monkeypatch, cuda, mps, want):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert detect() == want


def test_without_a_wish_the_found_device_is_taken(monkeypatch):
    monkeypatch.setenv("STPG_DEVICE", "")
    monkeypatch.setattr(runtime, "detect", lambda: "cpu")
    assert set_up(TrainConfig()).device.type == "cpu"


@contextmanager
def process_with_a_device(monkeypatch, folder):
    """Another process with its device; ends with the context."""
    ours, theirs = Pipe()

    def claim():
        theirs.send(str(set_up(TrainConfig(threads=1)).device))
        theirs.recv()

    monkeypatch.setenv("STPG_DEVICE", "cpu:0,cpu:1")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    process = get_context("fork").Process(target=claim, daemon=True)
    process.start()
    try:
        assert ours.poll(timeout=60)
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def test_processes_side_by_side_take_the_device_that_fewest_have(monkeypatch, tmp_path):
    def another():
        return process_with_a_device(monkeypatch, tmp_path)

    with another() as first:
        with another() as second, another() as third:
            assert [first, second, third] == ["cpu:0", "cpu:1", "cpu:0"]
        with another() as fourth:  # the second one's is free again
            assert fourth == "cpu:1"


def test_of_several_processes_each_takes_the_device_at_its_place(monkeypatch):
    monkeypatch.setattr(runtime.processes, "started_by_torchrun", lambda: True)
    monkeypatch.setattr(runtime.processes, "join", lambda device: None)
    monkeypatch.setenv("STPG_DEVICE", "cpu:0,cpu:1")
    found = []
    for place in ("1", "0"):
        monkeypatch.setenv("LOCAL_RANK", place)
        found.append(str(set_up(TrainConfig(threads=1)).device))
    assert found == ["cpu:1", "cpu:0"]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"cpu:0, cpu:1 for process 3 of this machine; expected"):
        set_up(TrainConfig(threads=1))


def test_a_process_keeps_its_device(monkeypatch, tmp_path):
    monkeypatch.setenv("STPG_DEVICE", "cpu:0,cpu:1")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert [str(set_up(TrainConfig(threads=1)).device) for _ in range(2)] == ["cpu:0", "cpu:0"]


def test_the_description_names_processor_and_threads():
    text = set_up(TrainConfig(threads=2)).describe()
    assert re.fullmatch(r"cpu: .+, 2 threads", text)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_peak_memory_is_this_process_in_gib():
    text = Path("/proc/self/status").read_text()
    want = int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) / 2**20
    assert set_up(TrainConfig()).peak_memory_gib() == pytest.approx(want, rel=0.2)


def test_the_versions_are_plain_text():
    assert versions().keys() == {"python", "torch", "timm"}
    assert all(type(text) is str for text in versions().values())

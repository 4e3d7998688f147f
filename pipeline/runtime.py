"""Device, precision and determinism: the only module that names an accelerator."""

import contextlib
import os
import platform
import resource
import sys
from dataclasses import dataclass
from importlib import metadata

import torch

from pipeline import processes
from pipeline.config import ConfigError, TrainConfig


@dataclass(frozen=True)
class Runtime:
    """Where a run computes, and in which precision."""

    device: torch.device
    autocast_dtype: torch.dtype | None
    """None: plain float32."""
    channels_last: bool

    @property
    def memory_format(self) -> torch.memory_format:
        """Of images and weights: channels-last is faster for convolutions where it is on."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> contextlib.AbstractContextManager:
        """The mixed-precision context of a forward pass."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.autocast_dtype)

    def peak_memory_gib(self) -> float:
        """Peak memory of this process in GiB: the device's on CUDA, the host's elsewhere."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**30
        unit = 1 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30

    def describe(self) -> str:
        """The device's name, for records and reports."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{self.device.type}: {cpu_name()}, {torch.get_num_threads()} threads"


def set_up(config: TrainConfig) -> Runtime:
    """Picks the device (`$STPG_DEVICE`, or CUDA, MPS, CPU as found) and fixes its settings.

    On the CPU results are bit-equal from run to run with the same number of threads. CUDA sums
    some gradients in no fixed order, so its results differ in the last digits.
    """
    torch.set_num_threads(config.threads)
    name = os.environ.get("STPG_DEVICE") or detect()
    one_of_several = processes.started_by_torchrun()
    device = usable_device(
        f"cuda:{os.environ['LOCAL_RANK']}" if one_of_several and name == "cuda" else name
    )
    cuda = device.type == "cuda"
    if cuda and one_of_several:
        torch.cuda.set_device(device)
    processes.join(device)
    if cuda:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    elif device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    bf16 = config.precision == "bf16" or (
        config.precision == "auto" and cuda and torch.cuda.is_bf16_supported()
    )
    return Runtime(device, torch.bfloat16 if bf16 else None, channels_last=device.type != "mps")


def usable_device(name: str) -> torch.device:
    """The device called `name`; raises ConfigError if this machine has none such."""
    expected = "expected cpu, cuda, cuda:<n> or mps"
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"$STPG_DEVICE: found {name!r}; {expected}")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"$STPG_DEVICE: no {name!r} here ({reason}); {expected}") from None


def detect() -> str:
    """The fastest kind of device that there is here."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def cpu_name() -> str:
    """The processor's model name."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "timm": metadata.version("timm"),
    }

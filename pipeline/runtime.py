"""Device, precision and determinism: the only module that names an accelerator."""

import contextlib
import fcntl
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import IO

import torch

from pipeline import processes
from pipeline.config import TrainConfig
from pipeline.typed import ConfigError, InputError

MOST_CLAIMS = 64
"""On one device: more processes share none."""
CLAIMS: list[IO] = []
"""Files whose locks say which devices this process has."""


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

    def scaler(self) -> torch.amp.GradScaler:
        """What keeps gradients of float16 above zero; does nothing where they are wider."""
        half = self.autocast_dtype == torch.float16
        return torch.amp.GradScaler(self.device.type, enabled=half)

    @contextlib.contextmanager
    def enough_memory(self, what: str, fix: str) -> Iterator[None]:
        """Raises InputError, which says what to change, where what is done inside finds no more."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"{what}: no memory left on {self.device} ({reason}). {fix}"
            ) from error

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
        return f"{self.device}: {cpu_name()}, {torch.get_num_threads()} threads"


def set_up(config: TrainConfig) -> Runtime:
    """Picks the device and fixes its settings.

    It is the least taken of those that `$STPG_DEVICE` names (`cuda:0,cuda:1`; `cuda` is every GPU),
    or of what is found: CUDA, MPS, CPU. Of several processes each takes the one at its place.

    On the CPU results are bit-equal from run to run with the same number of threads. CUDA sums
    some gradients in no fixed order, so its results differ in the last digits.

    Raises:
      ConfigError: a device that this machine has not, or fewer than there are processes.
    """
    torch.set_num_threads(config.threads)
    names = (os.environ.get("STPG_DEVICE") or detect()).split(",")
    one_of_several = processes.started_by_torchrun()
    if names == ["cuda"]:
        names = [f"cuda:{k}" for k in range(torch.cuda.device_count())] or names
    if one_of_several and names != ["cpu"]:
        names = [own_of(names, int(os.environ["LOCAL_RANK"]))]
    device = claimed(tuple(map(usable_device, names)))
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    processes.join(device)
    if cuda:
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    elif device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.precision)
    if config.precision == "auto" and cuda and torch.cuda.is_bf16_supported():
        dtype = torch.bfloat16
    return Runtime(device, dtype, config.channels_last and device.type != "mps")


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the machine, has no memory left."""
    told = isinstance(error, torch.OutOfMemoryError | MemoryError)
    # RuntimeErrors of the CPU, and of libraries on a GPU
    return told or "allocate memory" in str(error) or "ALLOC_FAILED" in str(error)


def own_of(names: list[str], place: int) -> str:
    """The device of the process at a place among those of one machine."""
    if place >= len(names):
        raise ConfigError(
            f"$STPG_DEVICE: {', '.join(names)} for process {place + 1} of this machine; expected "
            "a device for each: lower runtime.processes, or name more"
        )
    return names[place]


@cache
def claimed(devices: tuple[torch.device, ...]) -> torch.device:
    """The one that fewest processes of this user have claimed; this one has, until it ends.

    So runs that start side by side, as jobs of `dvc queue` do, take a GPU each.
    """
    if len(devices) == 1 and devices[0].type != "cuda":
        return devices[0]
    folder = Path(tempfile.gettempdir()) / f"stpg-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for claim in range(MOST_CLAIMS):
        for device in devices:
            file = (folder / f"{identity(device)}-{claim}").open("w")
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                CLAIMS.append(file)
                return device
            file.close()
    raise ConfigError(
        f"$STPG_DEVICE: {MOST_CLAIMS} processes on each of {', '.join(map(str, devices))}; "
        "expected fewer: end some of them"
    )


def identity(device: torch.device) -> str:
    """What every process of this machine calls it, whichever devices it can see."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_properties(device).uuid)
    return str(device).replace(":", "-")


def usable_device(name: str) -> torch.device:
    """The device called `name`; raises ConfigError if this machine has none such."""
    expected = "expected cpu, cuda, cuda:<n> or mps, or several with commas"
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"$STPG_DEVICE: found {name!r}; {expected}")
    try:
        device = torch.device(name)
        if device.type != "cuda" or (device.index or 0) >= torch.cuda.device_count():
            torch.empty(0, device=device)  # not where that makes a context, which takes memory
        return device
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

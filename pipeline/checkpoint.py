"""Resume states and model files: written whole or not at all, loaded without running code."""

import fcntl
import os
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.artifacts import writing_to
from pipeline.typed import InputError

PATIENCE = 8.0
"""Seconds to wait for a lock; workers look for their parent every 5."""


def save(path: Path, content: dict[str, Any], *, previous: Path | None = None) -> None:
    """Writes `content` (tensors, numbers, text, lists, dicts) to `path` atomically.

    Args:
      previous: takes what is at `path` before, which is there throughout.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if previous is not None and path.exists():
            keep(path, previous)
        torch.save(content, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # or a power cut could leave an empty file of the right name
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        if "DataLoader worker" in str(error):  # a worker died meanwhile
            raise
        raise OSError(
            f"{path} could not be written ({error}); "
            "free some disk space, or make its folder writable"
        ) from error
    finally:
        with suppress(OSError):  # nothing was written, or not even the folder made
            partial.unlink()


def keep(path: Path, previous: Path) -> None:
    """Makes `previous` what is at `path`, which stays there if the disk can have one file twice."""
    link = path.with_name(path.name + ".link")
    try:
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, previous)
        link.unlink(missing_ok=True)  # where both were one file already, replace does nothing
    except OSError:
        os.replace(path, previous)


def load(path: Path) -> dict[str, Any]:
    """What `save` wrote, on the CPU; raises ValueError naming a file that is damaged.

    Not a byte of it may differ: torch itself reads over a wrong checksum.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing")
    try:
        with zipfile.ZipFile(path) as zipped:
            if (damaged := zipped.testzip()) is not None:
                raise zipfile.BadZipFile(damaged)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a truncated file
        raise InputError(
            f"{path} ({path.stat().st_size} bytes) is not a readable file of this pipeline: "
            f"{type(error).__name__}. Delete it and run again"
        ) from error


def save_model(
    path: Path, network: dict[str, Tensor], classes: list[dict], config: dict[str, Any]
) -> None:
    """Writes a trained network with its class table and the run's resolved configuration."""
    save(path, {"network": network, "classes": classes, "config": config})


@contextmanager
def sole_owner(folder: Path) -> Iterator[None]:
    """Holds `folder` for this process; raises InputError if another one holds it.

    Killing `dvc repro` can leave its training process alive; a second one must not join it. Of a
    killed training the loader's workers hold the lock until they notice, so it is waited for.
    """
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    with file as lock:
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise InputError(
                        f"another process is training in {folder}: wait for it, or stop it"
                    ) from None
            time.sleep(0.1)
        yield

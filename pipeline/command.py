"""Running from the command line: bad input ends in what is wrong with it, not in a traceback."""

import ctypes
import gc
import inspect
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from pipeline.typed import InputError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of malloc.h."""
LARGEST_MMAP_THRESHOLD = 32 << 20
NEVER = -1


def run_stage(main: Callable[..., None], *messages: type[BaseException]) -> None:
    """Calls `main` with the command line's arguments, as `run_command` does.

    Without any, DVC's name of the stage, such as train@KEY, has it: what a name in params.yaml is
    made of never reaches a shell.
    """
    wanted = list(inspect.signature(main).parameters)
    key = os.environ.get("DVC_STAGE", "").rpartition(":")[2].partition("@")[2]
    arguments = sys.argv[1:] or ([key] if wanted and key else [])
    if len(arguments) != len(wanted):
        sys.exit(" ".join([f"usage: python -m {stage_name()}", *map(str.upper, wanted)]))
    run_command(partial(main, *arguments), *messages)


def run_command(main: Callable[[], None], *messages: type[BaseException]) -> None:
    """Calls `main`; what speaks for itself is all that is printed, with exit status 1.

    That is an InputError, an OSError that was given a text, or one of `messages`. Anything else
    keeps its traceback.
    """
    if not gc.isenabled():  # while stages/__init__.py had it off, what stays was imported
        gc.freeze()
        gc.enable()
    keep_freed_memory()
    try:
        main()
    except (InputError, OSError, *messages) as error:
        system = getattr(error, "filename", None) is not None  # its own words, and no fix
        if system and not isinstance(error, messages):
            raise
        sys.exit(f"{stage_name()}: {error}")


def keep_freed_memory() -> None:
    """Has glibc keep freed blocks of up to 32 MiB for what is asked for next; elsewhere nothing.

    A step frees its tensors and asks for as many again. Given back in between, they cost thousands
    of page faults, about a tenth of a small step (docs/decisions/0007).
    """
    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        library.mallopt(M_TRIM_THRESHOLD, NEVER)


def stage_name() -> str:
    """As in `python -m`."""
    return f"stages.{Path(sys.argv[0]).stem}"

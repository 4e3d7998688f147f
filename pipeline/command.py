"""Running a stage from the command line: bad input ends in one line, not in a traceback."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.typed import InputError


def run_stage(main: Callable[..., None], *messages: type[BaseException]) -> None:
    """Calls `main` with the command line's arguments.

    An InputError, an OSError that was given a text, or one of `messages` speaks for itself: its
    text is all that is printed, and the exit status is 1. Anything else keeps its traceback.
    """
    stage = f"stages.{Path(sys.argv[0]).stem}"
    wanted = list(inspect.signature(main).parameters)
    if len(sys.argv) - 1 != len(wanted):
        sys.exit(" ".join([f"usage: python -m {stage}", *map(str.upper, wanted)]))
    try:
        main(*sys.argv[1:])
    except (InputError, OSError, *messages) as error:
        if getattr(error, "filename", None) is not None:  # the system's own words, and no fix
            raise
        sys.exit(f"{stage}: {error}")

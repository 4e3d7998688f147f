"""Progress bars with the time that is left."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress(items: Iterable, title: str, *, unit: str, **options: Any) -> tqdm:
    """A bar over `items`; in a log file, where no line is redrawn, a line every 30 s at most."""
    interval = 0.3 if sys.stderr.isatty() else 30
    return tqdm(
        items,
        title,
        unit=f" {unit}",
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=True,
        **options,
    )

"""What benchmarks share: calls in turns, and tables of medians."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch

from pipeline.command import keep_freed_memory
from pipeline.runtime import cpu_name

Functions = Mapping[Hashable, Callable[[], object]]


def in_turns(functions: Functions, rounds: int, *, warm: int = 1) -> dict[Any, list[float]]:
    """Seconds of each call of each function, one after the other, after `warm` uncounted rounds.

    Memory is kept as in the stages.
    """
    keep_freed_memory()
    seconds: dict[Any, list[float]] = {name: [] for name in functions}
    for number in range(warm + rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if number >= warm:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Of the medians."""
    return statistics.median(first) / statistics.median(second)


def ratios(first: Sequence[float], second: Sequence[float]) -> str:
    """The ratio of the medians, and the quartiles of the ratios of the rounds."""
    low, _, high = quartiles([a / b for a, b in zip(first, second, strict=True)])
    return f"{ratio(first, second):.2f} ({low:.2f} to {high:.2f})"


def paired(first: Sequence[float], second: Sequence[float]) -> str:
    """The median of the ratios of the rounds, and in brackets their quartiles."""
    low, median, high = quartiles([a / b for a, b in zip(first, second, strict=True)])
    return f"{median:.3f} ({low:.3f} to {high:.3f})"


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower, median, upper; of two or three values the least and the greatest."""
    found = statistics.quantiles(values, n=4)
    return [min(max(value, min(values)), max(values)) for value in found]


def seconds(values: Sequence[float]) -> str:
    """The median, and in brackets the quartiles."""
    low, median, high = quartiles(values)
    digits = 3 if median < 1 else 2
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns but the first stand to the right."""
    lines = [list(head), ["---"] + ["---:"] * (len(head) - 1), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """Processor, threads and versions."""
    return (
        f"{cpu_name()}, {os.cpu_count()} processors, torch with {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )

"""Named random streams; the only module that seeds.

A stream depends on the run's seed and on its names alone, so neither the order of the draws of
other streams, nor the number of workers, nor an interruption changes it.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for the stream called `names`: SHA-256 of the run's seed and them."""
    text = "\0".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def stream(seed: int, *names: str | int) -> torch.Generator:
    """A fresh CPU generator for the stream called `names`."""
    return torch.Generator().manual_seed(derive_seed(seed, *names))


def seed_global(seed: int, *names: str | int) -> None:
    """Seeds torch's global generators, which dropout and initialisers draw from."""
    torch.manual_seed(derive_seed(seed, *names))


@contextlib.contextmanager
def drawn_from(seed: int, *names: str | int) -> Iterator[None]:
    """Inside, torch's global CPU generator is the stream `names`; afterwards as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, *names))
        yield

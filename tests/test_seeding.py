import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.seeding import derive_seed, drawn_from, seed_global, stream

NAMES = st.lists(st.text("abc/0", min_size=0, max_size=3) | st.integers(0, 99), max_size=3)


def test_a_seed_is_the_same_on_every_machine():
    # printf "0\0network\0gen" | sha256sum, the first 63 bits
    assert derive_seed(0, "network", "gen") == 0x6F1C49C9A7A4CE51 >> 1


@given(st.integers(0, 2**63), NAMES)
def test_a_seed_fits_a_generator(seed, names):
    assert 0 <= derive_seed(seed, *names) < 2**63


def test_streams_of_different_names_or_seeds_differ():
    names = [(), ("a",), ("b",), ("a", "bc"), ("ab", "c"), ("abc",), ("a", 1), ("a", 12), ("a1",)]
    seeds = [derive_seed(s, *n) for s, n in itertools.product((0, 1), names)]
    assert len(set(seeds)) == len(seeds)


def test_a_stream_does_not_depend_on_what_was_drawn_before():
    alone = torch.rand(4, generator=stream(7, "a"))
    other = stream(7, "b")
    torch.rand(9, generator=other)
    seed_global(7, "c")
    torch.rand(9)
    assert torch.equal(torch.rand(4, generator=stream(7, "a")), alone)
    assert not torch.equal(torch.rand(4, generator=stream(7, "b")), alone)


def test_the_global_generator_is_seeded_by_name():
    seed_global(7, "a")
    assert torch.equal(torch.rand(4), torch.rand(4, generator=stream(7, "a")))


@pytest.mark.parametrize("fails", [False, True])
def test_drawing_from_a_stream_leaves_the_global_generator_as_it_was(fails):
    seed_global(1, "outside")
    want = torch.rand(2, 4)
    seed_global(1, "outside")
    assert torch.equal(torch.rand(4), want[0])
    try:
        with drawn_from(7, "a"):
            assert torch.equal(torch.rand(4), torch.rand(4, generator=stream(7, "a")))
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.rand(4), want[1])

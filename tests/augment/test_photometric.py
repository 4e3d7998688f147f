import colorsys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.augment import photometric
from pipeline.augment.photometric import INTENSITY, jitter, random_intensity
from pipeline.seeding import stream

SEEDS = st.integers(0, 2**31 - 1)
NUM = 300


def image_of(seed=0, size=(3, 32, 40)):
    return torch.rand(size, generator=stream(seed, "image"))


@given(SEEDS, st.sampled_from([0.0, 1.0]))
@settings(deadline=None, max_examples=40)
def test_the_range_and_shape_stay(seed, push):
    image = (image_of(seed) + push).clamp(0, 1)
    got = jitter(image, stream(seed, "jitter"))
    assert got.shape == image.shape
    assert got.dtype == torch.float32
    assert got.min() >= 0
    assert got.max() <= 1


def test_rounding_makes_no_white_whiter():
    white = torch.ones(3, 32, 40)
    assert max(jitter(white, stream(0, k)).max() for k in range(60)) == 1


def test_brightness_and_hue_fill_their_ranges():
    """Of one colour, contrast and saturation keep the hue, and of a grey all but brightness acts.

    A grey of 0.5 becomes 0.5 * factor, and nothing is cut off.
    """
    hue = colorsys.rgb_to_hsv(0.5, 0.4, 0.3)[0]
    factors, shifts = [], []
    for k in range(NUM):
        grey, color = (
            jitter(torch.tensor(rgb)[:, None, None].expand(3, 16, 16), stream(2, k))[:, 8, 8]
            for rgb in ([0.5, 0.5, 0.5], [0.5, 0.4, 0.3])
        )
        factors.append(grey[0].item() / 0.5)
        got, saturation, _ = colorsys.rgb_to_hsv(*color.tolist())
        if saturation > 0.01:
            shifts.append((got - hue + 0.5) % 1 - 0.5)
    for values, middle, reach in ((factors, 1, 0.5), (shifts, 0, 0.25)):
        low, high = min(values) - middle, max(values) - middle
        assert -1.001 * reach <= low < -0.95 * reach
        assert 0.95 * reach < high <= 1.001 * reach


def test_the_generator_decides():
    image = image_of()
    before = image.clone()
    seen = [jitter(image, stream(0, k)) for k in range(8)]
    for k, got in enumerate(seen):
        assert torch.equal(got, jitter(image, stream(0, k)))
    assert len({got.double().sum().item() for got in seen}) > 5
    assert torch.equal(image, before)


def test_each_call_draws_as_much_as_any_other():
    left = set()
    for k in range(20):
        generator = stream(0, k)
        jitter(image_of(), generator)
        fresh = stream(0, k)
        torch.rand(8, generator=fresh, dtype=torch.float64)
        left.add(torch.equal(generator.get_state(), fresh.get_state()))
    assert left == {True}


def test_a_blob_stays_where_it_is():
    image = torch.full((3, 32, 40), 0.2)
    image[:, 8:14, 22:30] = torch.tensor([0.9, 0.7, 0.5])[:, None, None]
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(40.0), indexing="ij")
    for k in range(40):
        bright = jitter(image, stream(0, k)).sum(dim=0)
        weight = bright - bright.min()
        weight /= weight.sum()
        assert (weight * row).sum().item() == pytest.approx(10.5, abs=0.3)
        assert (weight * column).sum().item() == pytest.approx(25.5, abs=0.3)


def test_the_parts_come_as_often_as_they_should():
    """A half-grey edge with colour shows which parts acted."""
    image = torch.full((3, 32, 32), 0.5)
    image[:, :, 16:] = torch.tensor([0.7, 0.4, 0.3])[:, None, None]
    left, right = image[:, 0, 0], image[:, 0, -1]
    grey = blurred = untouched = 0
    for k in range(NUM):
        got = jitter(image, stream(1, k))
        is_grey = bool((got.amax(dim=0) - got.amin(dim=0)).max() < 1e-5)
        steps = got.diff(dim=2).abs().amax(dim=(0, 1)) > 1e-4  # where columns change
        grey += is_grey
        blurred += bool(steps.sum() > 1)
        same = [torch.allclose(got[:, 0, i], c, atol=1e-4) for i, c in ((0, left), (-1, right))]
        untouched += all(same)
    # colours stay where neither the jitter (0.8) nor the grey (0.2) acts
    for count, share in ((grey, 0.2), (blurred, 0.5), (untouched, 0.2 * 0.8)):
        slack = 4 * (share * (1 - share) / NUM) ** 0.5
        assert count / NUM == pytest.approx(share, abs=slack)


def test_random_intensity_stays_in_range_and_keeps_its_argument():
    image = image_of()
    before = image.clone()
    for seed in range(200):
        changed = random_intensity(image, stream(0, seed))
        assert changed.shape == image.shape
        assert changed.dtype == torch.float32
        assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.equal(image, before)
    assert torch.equal(changed, random_intensity(image, stream(0, 199)))


@pytest.mark.parametrize("strength", [0.3, 0.6])
def test_every_change_of_intensity_but_the_first_changes_something(strength):
    image = 0.2 + image_of() / 2
    same = [torch.equal(change(image, strength), image) for change in INTENSITY]
    assert same == [True] + [False] * (len(INTENSITY) - 1)


def test_one_to_three_changes_are_drawn_alike(monkeypatch):
    calls = []
    spies = tuple(lambda x, strength, i=i: (calls.append(i), x)[1] for i in range(4))
    monkeypatch.setattr(photometric, "INTENSITY", spies)
    counts = []
    for seed in range(600):
        calls.clear()
        random_intensity(image_of(), stream(0, seed))
        counts.append(len(calls))
        assert set(calls) <= set(range(4))
    assert all(counts.count(n) == pytest.approx(200, abs=50) for n in (1, 2, 3))

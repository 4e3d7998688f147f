import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augment.geometric import FILL, Placement, draw_placement, place

SEEDS = st.integers(0, 2**31 - 1)
SIDES = st.integers(1, 80)


def rng(seed):
    return torch.Generator().manual_seed(seed)


def coordinates(height, width):
    """An image whose first two channels are row and column, and a mask that is the row."""
    row, column = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([row, column, np.zeros_like(row)], axis=2), row


@given(SEEDS, SIDES, SIDES, SIDES, SIDES)
def test_a_crop_lies_inside_the_image_as_far_as_it_fits(seed, height, width, crop_h, crop_w):
    scales = (0.5, 1.0, 1.5)
    placement = draw_placement(
        height, width, crop=(crop_h, crop_w), scales=scales, flip=0.5, generator=rng(seed)
    )
    sizes = [(max(1, round(height * s)), max(1, round(width * s))) for s in scales]
    assert (placement.height, placement.width) in sizes
    assert 0 <= placement.top <= max(placement.height - crop_h, 0)
    assert 0 <= placement.left <= max(placement.width - crop_w, 0)


def test_every_scale_place_and_flip_is_drawn():
    generator = rng(0)
    drawn = {
        draw_placement(4, 6, crop=(3, 5), scales=(1.0, 1.5), flip=0.5, generator=generator)
        for _ in range(1000)
    }
    small = {Placement(4, 6, t, lf, f) for t in (0, 1) for lf in (0, 1) for f in (False, True)}
    assert {p for p in drawn if p.height == 4} == small
    assert {(p.top, p.left) for p in drawn if p.height == 6} == {
        (top, left) for top in range(4) for left in range(5)
    }


@pytest.mark.parametrize(("flip", "want"), [(0.0, False), (1.0, True)])
def test_a_flip_can_be_certain_or_impossible(flip, want):
    generator = rng(0)
    for _ in range(20):
        placement = draw_placement(9, 9, crop=(5, 5), scales=(1.0,), flip=flip, generator=generator)
        assert placement.flip is want


@given(SEEDS, st.integers(8, 60), st.integers(8, 60))
def test_image_mask_and_validity_move_together(seed, height, width):
    image, mask = coordinates(height, width)
    crop = (20, 24)
    placement = draw_placement(
        height, width, crop=crop, scales=(1.0,), flip=0.5, generator=rng(seed)
    )
    placed, placed_mask, valid = place(image, mask, placement, crop)
    assert placed.shape == (*crop, 3)
    assert placed_mask.shape == valid.shape == crop
    assert (placed[valid][:, 0] == placed_mask[valid]).all()
    assert (placed_mask[~valid] == 255).all()
    assert (placed[~valid] == FILL).all()
    assert valid.sum() == min(height, crop[0]) * min(width, crop[1])
    across = placed[0, valid[0], 1].astype(int)
    assert (np.diff(across) == (-1 if placement.flip else 1)).all()
    assert across.min() == placement.left


def test_scale_one_and_the_image_s_own_size_change_nothing():
    image, mask = coordinates(12, 16)
    placement = draw_placement(12, 16, crop=(12, 16), scales=(1.0,), flip=0, generator=rng(0))
    got = place(image, mask, placement, (12, 16))
    for found, want in zip(got, (image, mask, np.ones((12, 16), bool)), strict=True):
        np.testing.assert_array_equal(found, want)


def test_a_flip_by_hand():
    image, mask = coordinates(2, 3)
    placed, placed_mask, valid = place(image, mask, Placement(2, 3, 0, 0, True), (3, 4))
    assert placed[0, :, 1].tolist() == [FILL[1], 2, 1, 0]
    assert placed_mask.tolist() == [[255, 0, 0, 0], [255, 1, 1, 1], [255] * 4]
    assert valid.tolist() == [[False, True, True, True]] * 2 + [[False] * 4]


@pytest.mark.parametrize("size", [(9, 11), (31, 40), (64, 64)])
def test_a_resized_mask_has_no_new_values_and_the_image_has(size):
    random = np.random.default_rng(0)
    mask = random.choice(np.array([0, 7, 200, 255], np.uint8), size=(20, 24))
    image = np.repeat(mask[..., None], 3, axis=2)
    placed, placed_mask, _ = place(image, mask, Placement(*size, 0, 0, False), size)
    assert set(np.unique(placed_mask)) <= {0, 7, 200, 255}
    assert not set(np.unique(placed)) <= {0, 7, 200, 255}


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_a_resized_image_and_its_mask_stay_aligned(scale):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 1
    image = np.repeat(mask[..., None] * 255, 3, axis=2)
    crop = (round(40 * scale), round(60 * scale))
    placed, placed_mask, _ = place(image, mask, Placement(*crop, 0, 0, False), crop)
    np.testing.assert_array_equal(placed[..., 0] > 127, placed_mask == 1)


def test_the_given_arrays_stay_as_they_are():
    image, mask = coordinates(12, 16)
    before = image.copy(), mask.copy()
    image.flags.writeable = mask.flags.writeable = False
    placed, placed_mask, _ = place(image, mask, Placement(12, 16, 0, 0, True), (12, 16))
    placed[:], placed_mask[:] = 0, 0
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])

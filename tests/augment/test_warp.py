import math

import numpy as np
import pytest
import torch

from pipeline.augment.warp import WarpConfig, draw_points, sampling_grid, warp, warp_mask
from pipeline.typed import ConfigError, from_mapping

CORNERS = [[0.0, 0.0], [0.0, 59.0], [29.0, 0.0], [29.0, 59.0]]


def points(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def pixels(grid, size):
    """Rows and columns that a grid means."""
    last = torch.tensor(size, dtype=torch.float64) - 1
    return (grid.flip(2) + 1) / 2 * last


def drawn(seed=0, size=(30, 60), **parameters):
    draw = torch.Generator().manual_seed(seed)
    return draw_points(torch.Size(size), WarpConfig(**parameters), draw)


def test_without_spread_and_reach_the_points_are_corners_and_middles_of_blocks():
    source, moved = drawn(spread=0.0, reach=0.0)
    middles = [[y, x] for y in (5.0, 15.0, 25.0) for x in (10.0, 30.0, 50.0)]
    assert source.tolist() == CORNERS + middles
    assert torch.equal(source, moved)


def test_points_are_spread_and_moved_in_proportion_to_their_blocks_and_corners_stay():
    size = (300, 600)
    rest = drawn(size=size, spread=0.0, reach=0.0)[0][4:]
    pairs = [drawn(seed, size) for seed in range(200)]
    source, moved = (torch.stack(each) for each in zip(*pairs, strict=True))
    assert torch.equal(source[:, :4], moved[:, :4])
    assert (source[:, :4] == points([0, 0], [0, 599], [299, 0], [299, 599])).all()
    deviation = (source[:, 4:] - rest).flatten(0, 1).square().mean(dim=0).sqrt()
    assert deviation.tolist() == pytest.approx([10, 20], rel=0.08)
    way = (moved - source)[:, 4:].flatten(0, 1).square().mean(dim=0).sqrt()
    assert way.tolist() == pytest.approx([20, 40], rel=0.08)


def test_points_stay_in_the_image():
    for each in drawn(spread=3.0, reach=3.0):
        assert each.amin() == 0
        assert each.amax(dim=0).tolist() == [29, 59]


def test_points_that_do_not_move_leave_all_as_it_is():
    source, _ = drawn()
    grid = sampling_grid(source, source, torch.Size((30, 60)))
    rows, columns = torch.meshgrid(torch.arange(30.0), torch.arange(60.0), indexing="ij")
    expected = torch.stack([rows, columns], dim=2).double()
    torch.testing.assert_close(pixels(grid, (30, 60)), expected, atol=1e-9, rtol=0)
    image = torch.rand(2, 3, 30, 60)
    torch.testing.assert_close(warp(image, grid), image, atol=1e-4, rtol=0)


def test_what_was_at_a_point_is_where_it_moved():
    source = points(*CORNERS, [10, 20], [20, 41])
    moved = points(*CORNERS, [12, 15], [17, 44])
    grid = sampling_grid(source, moved, torch.Size((30, 60)))
    before = pixels(grid, (30, 60))
    for at, came_from in zip(moved.long().tolist(), source.tolist(), strict=True):
        assert before[tuple(at)].tolist() == pytest.approx(came_from, abs=1e-6)
    image = torch.zeros(1, 1, 30, 60)
    image[0, 0, 10, 20] = 1
    warped = warp(image, grid)[0, 0]
    assert warped[12, 15] == pytest.approx(1, abs=1e-3)


def test_the_spline_equals_a_slow_loop():
    source, moved = (each.numpy() for each in drawn(3))
    size, number = (30, 60), len(source)
    system, wanted = np.zeros((number + 3, number + 3)), np.zeros((number + 3, 2))
    for i in range(number):
        for j in range(number):
            system[i, j] = math.dist(moved[i], moved[j])
        system[i, number:] = system[number:, i] = *moved[i], 1.0
        wanted[i] = source[i] - moved[i]
    weight = np.linalg.solve(system, wanted)
    grid = sampling_grid(*drawn(3), torch.Size(size))
    before = pixels(grid, size)
    for y, x in [(0, 0), (4, 50), (29, 59), (13, 7), (22, 30)]:
        for axis, at in enumerate((y, x)):
            value = at + y * weight[number, axis] + x * weight[number + 1, axis]
            value += weight[number + 2, axis]
            value += sum(math.dist((y, x), moved[k]) * weight[k, axis] for k in range(number))
            assert float(before[y, x, axis]) == pytest.approx(value, abs=1e-8)


def test_a_shift_worked_by_hand():
    # all points go one row down and two columns left: each pixel was one above and two to the right
    source = points([2, 3], [2, 5], [4, 3], [5, 5])
    grid = sampling_grid(source, source + points([1, -2]), torch.Size((4, 5)))
    value = torch.arange(20.0).reshape(1, 1, 4, 5)
    expected = torch.zeros(4, 5)
    expected[1:, :3] = value[0, 0, :3, 2:]
    torch.testing.assert_close(warp(value, grid)[0, 0], expected, atol=1e-4, rtol=0)
    mask = torch.ones(1, 4, 5, dtype=torch.bool)
    mask[0, 0, 4] = False
    valid = torch.zeros(4, 5, dtype=torch.bool)
    valid[1:, :3] = True
    valid[1, 2] = False
    assert torch.equal(warp_mask(mask, grid)[0], valid)


def test_a_pixel_that_is_mixed_with_padding_is_not_valid():
    source = points([2, 3], [2, 5], [4, 3], [5, 5])
    grid = sampling_grid(source, source + points([0, 0.5]), torch.Size((2, 4)))
    mask = torch.tensor([[[True, True, False, True], [True, True, True, True]]])
    expected = [[[False, True, False, False], [False, True, True, True]]]
    assert warp_mask(mask, grid).tolist() == expected


def test_points_that_meet_do_no_harm():
    source = points(*CORNERS, [4, 6], [15, 30])
    moved = points(*CORNERS, [0, 0], [15, 30])
    grid = sampling_grid(source, moved, torch.Size((30, 60)))
    assert pixels(grid, (30, 60))[0, 0].tolist() == pytest.approx([2, 3])
    assert pixels(grid, (30, 60))[15, 30].tolist() == pytest.approx([15, 30])
    assert grid.abs().max() < 1.2


def test_the_grid_is_exact_in_mixed_precision_too():
    size = torch.Size((30, 60))
    image = torch.rand(1, 2, 30, 60)
    plain = sampling_grid(*drawn(), size)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = sampling_grid(*drawn(), size)
        value = warp(image.bfloat16(), mixed)
    assert torch.equal(plain, mixed)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, warp(image.bfloat16().float(), plain))


def test_no_gradient_passes():
    image = torch.rand(1, 2, 30, 60, requires_grad=True)
    assert not warp(image, sampling_grid(*drawn(), torch.Size((30, 60)))).requires_grad


@pytest.mark.parametrize(("name", "value"), [("blocks", 0), ("spread", -0.1), ("reach", -1.0)])
def test_parameters_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"x\.{name}: {value}; expected at least"):
        from_mapping(WarpConfig, {name: value}, "x")

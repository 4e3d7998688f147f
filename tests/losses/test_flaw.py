import pytest
import torch

from pipeline.losses.flaw import flaw_target, less_flawed, readable, smooth, stretch


def test_a_map_is_stretched_image_by_image():
    maps = torch.tensor([[[1.0, 3.0], [2.0, 1.0]], [[5.0, 5.0], [5.0, 5.0]]])
    torch.testing.assert_close(stretch(maps)[0], torch.tensor([[0.0, 1.0], [0.5, 0.0]]))
    assert not stretch(maps)[1].any()


def test_a_flaw_is_found_where_the_prediction_is_wrong():
    label = torch.zeros(1, 32, 32, dtype=torch.int64)
    label[:, :, 16:] = 1
    prob = torch.zeros(1, 3, 32, 32)
    prob[:, 0] = 1  # right on the left, wrong on the right
    counted = torch.ones(1, 32, 32, dtype=torch.bool)
    found = flaw_target(prob, label, counted, mu=0.5, nu=1)[0]
    assert found[:, :8].max() < 0.1
    assert found[:, 24:].min() > 0.9
    counted[:, :, 16:] = False
    label[:, :, 16:] = 255
    assert not flaw_target(prob, label, counted, mu=0.5, nu=1).any()


def test_a_prediction_that_is_right_has_no_flaw():
    label = torch.randint(3, (2, 32, 32))
    prob = torch.nn.functional.one_hot(label, 3).movedim(-1, 1).float()
    counted = torch.ones_like(label, dtype=torch.bool)
    assert not flaw_target(prob, label, counted, mu=0.5, nu=1).any()


def test_blurring_keeps_the_mean_of_a_flat_map_and_spreads_a_point():
    flat = torch.full((1, 32, 32), 0.7)
    torch.testing.assert_close(smooth(flat, 4), flat)
    point = torch.zeros(1, 32, 32)
    point[0, 16, 16] = 1
    assert (smooth(point, 8) > 0).sum() == 25
    assert smooth(point, 8).sum().item() == pytest.approx(1, abs=1e-4)


def test_a_detectors_map_without_a_flaw_worth_the_name_is_empty():
    assert not readable(torch.full((1, 32, 32), -0.5)).any()
    assert not readable(torch.rand(1, 32, 32) * 0.05).any()
    half = torch.zeros(1, 32, 32)
    half[:, 16:] = 0.4
    found = readable(half)
    assert found[0, 0, 0] == 0
    assert found[0, -1, -1] == pytest.approx(1)


def test_who_is_less_flawed_worked_by_hand():
    own = torch.tensor([[[0.1, 0.5, 0.7, 0.9, 0.3]]])
    other = torch.tensor([[[0.2, 0.4, 0.8, 0.1, 0.3]]])
    better, bad = less_flawed(own, other, threshold=0.6)
    assert better.tolist() == [[[True, False, True, False, True]]]  # both bad: a tie, one's own
    assert bad.tolist() == [[[False, False, True, False, False]]]

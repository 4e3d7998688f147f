from dataclasses import replace

import pytest
import torch

from pipeline.methods import base
from pipeline.methods.cac import Cells
from pipeline.typed import ConfigError
from pipeline.unlabeled import forward_each
from tests.methods.test_contract import make, make_batch, run_steps

SMALL = {"negatives": 40, "dim": 8, "threshold": 0.0}


def seen_of(method, batch):
    seen = method.observe(batch, 0.0)
    student = method.students["student"]
    return seen, {"student": forward_each(student, batch.image_l, *seen.images_NCHW)}


def test_the_windows_are_parts_of_two_strong_views_on_the_grid():
    for seed in range(8):
        batch = replace(make_batch(size=(48, 64)), seed=seed)
        seen = make("cac", **SMALL).observe(batch, 0.0)
        windows = seen.target
        assert (windows.height, windows.width) == (32, 48)
        for image, view, (top, left) in zip(
            seen.images_NCHW, batch.strong_u, windows.corners, strict=True
        ):
            assert top % 8 == left % 8 == 0
            assert torch.equal(image, view[..., top : top + 32, left : left + 48])


def test_the_overlap_pairs_the_same_pixels():
    """Features that are the pixels' own coordinates are equal in both views."""
    method = make("cac", **SMALL)
    for seed in range(8):
        batch = replace(make_batch(size=(48, 64)), seed=seed)
        seen, outputs = seen_of(method, batch)
        windows = seen.target
        places = torch.stack(
            torch.meshgrid(torch.arange(12), torch.arange(16), indexing="ij"), dim=-1
        ).repeat(2, 1, 1, 1)
        cells = list(method.cells(outputs["student"][1:], windows))
        cells = [
            view._replace(feature=places[:, t // 4 : t // 4 + 8, w // 4 : w // 4 + 12])
            for view, (t, w) in zip(cells, windows.corners, strict=True)
        ]
        first, second = method.overlaps(cells, windows)
        assert torch.equal(first.feature, second.feature)
        (t0, w0), (t1, w1) = windows.corners
        number = 2 * (32 - abs(t0 - t1)) // 4 * ((48 - abs(w0 - w1)) // 4)
        assert len(first.feature) == len(first.label) == len(first.confidence) == number


def test_the_surer_view_teaches_the_other():
    method, batch = make("cac", **SMALL), make_batch()
    terms = method.losses(batch, 0.0)
    shares = [method.diagnostics[f"share_learning{i}"].item() for i in range(2)]
    assert sum(shares) == pytest.approx(1, abs=0.01)  # a tie teaches nobody
    assert all(term > 0 for term in terms.values())
    strict = make("cac", **SMALL | {"threshold": 1.0}).losses(batch, 0.0)
    assert strict["unsupervised_view0"] == strict["unsupervised_view1"] == 0


def test_features_of_earlier_steps_are_kept_for_as_long_as_asked():
    method = make("cac", **SMALL, steps_kept=2)
    kept = []
    for step in range(3):
        method.losses(make_batch(step=step), 0.0)
        kept.append(method.observed[0])
        method.after_backward(0.1)
    assert torch.equal(method.kept_SMD, torch.stack(kept[1:]))
    assert (method.kept_label_SM < 5).all()
    none = make("cac", **SMALL, steps_kept=0)
    assert len(run_steps(none, 2)[0]) == 2


def test_without_negatives_of_other_classes_there_is_nothing_to_learn():
    usual = run_steps(make("cac", **SMALL), 3)[0]
    assert run_steps(make("cac", **SMALL | {"lambda_u": 0.0}), 3)[0] != usual
    assert run_steps(make("cac", **SMALL | {"steps_kept": 0}), 3)[0] != usual


def test_at_most_so_many_pixels_learn():
    few = make("cac", **SMALL, queries=4).losses(make_batch(), 0.0)
    many = make("cac", **SMALL).losses(make_batch(), 0.0)
    assert few["unsupervised_view0"] != many["unsupervised_view0"]


def test_windows_overlap():
    with pytest.raises(ConfigError, match=r"x\.window: 0\.3; expected 0\.5 to 1\.0"):
        base.resolve("cac", {"window": 0.3}, key="x")


@pytest.mark.parametrize("stride", [4, 14, 16])
def test_cells_of_both_windows_are_of_the_same_pixels(stride):
    method = make("cac", window=0.75)
    method.stride = stride
    side = 14 * 16 * 2
    for step in range(8):
        batch = make_batch(size=(side, side), step=step)
        windows = method.observe(batch, 0.0).target
        assert windows.height % stride == windows.width % stride == 0
        cells = []
        for top, left in windows.corners:
            assert top % stride == left % stride == 0
            rows = torch.arange(top, top + windows.height, stride)
            columns = torch.arange(left, left + windows.width, stride)
            place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)[None]
            cells.append(Cells(place, place[..., 0], place[..., 1]))
        first, second = method.overlaps(cells, windows)
        assert len(first.feature) > 0
        assert torch.equal(first.feature, second.feature)

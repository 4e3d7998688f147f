from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from pipeline import examine
from pipeline.augment.geometric import FILL
from pipeline.config import EvaluationConfig
from pipeline.data.splits import Split
from pipeline.models.deeplab import Output
from pipeline.runtime import Runtime
from pipeline.typed import InputError

CPU = Runtime(torch.device("cpu"), None, channels_last=False)


class Colours(nn.Module):
    """Decoder features are the mean colours of 4 x 4 pixels; class k is likeliest where told."""

    def __init__(self, logits=None):
        super().__init__()
        self.logits = logits

    def forward(self, image):
        logits = self.logits(image) if self.logits else None
        return Output(logits, None, nn.functional.avg_pool2d(image, 4))


def masks(data):
    return [data.read_mask(item) for item in data.val]


def test_points_are_as_many_of_each_class_and_bear_their_class(tiny_prepared):
    data = tiny_prepared(num_val=3, num_classes=4)
    points = examine.choose_points(data, seed=0, num=5)
    places = list(zip(points.image_P, points.row_P, points.column_P, strict=True))
    assert len(set(places)) == len(places)
    assert [masks(data)[i][y, x] for i, y, x in places] == points.class_P.tolist()
    on_grid = np.concatenate([mask[::4, ::4].ravel() for mask in masks(data)])
    there = np.bincount(on_grid[on_grid != 255], minlength=4)
    assert np.bincount(points.class_P, minlength=4).tolist() == np.minimum(there, 5).tolist()


def test_points_depend_on_the_seed_and_lie_in_all_images(tiny_prepared):
    data = tiny_prepared(num_val=3, num_classes=2)
    first, again, other = (examine.choose_points(data, seed, num=20) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first.row_P, other.row_P)
    assert set(first.image_P) == {0, 1, 2}


def test_lowest_by_hand():
    places = np.array([[1, 0, 1, 1, 0], [7, 8, 9, 10, 11]])
    key = np.array([0.9, 0.2, 0.1, 0.5, 0.3])
    kept, keys = examine.lowest(places, key, 2)
    assert kept.tolist() == [[0, 0, 1, 1], [8, 11, 9, 10]]
    assert keys.tolist() == [0.2, 0.3, 0.1, 0.5]


def test_features_are_those_of_the_cell_that_has_the_point(tiny_prepared):
    data = tiny_prepared(num_val=2, num_classes=3)
    points = examine.choose_points(data, seed=0, num=6)
    found = examine.features_at(Colours(), data, points, CPU, title="")
    for feature, i, y, x in zip(found, *points[:3], strict=True):
        image = data.read_image(data.val[i]) / 255
        height, width = image.shape[:2]
        padded = np.tile(np.array(FILL) / 255, (height + 4, width + 4, 1))
        padded[:height, :width] = image
        top, left = y // 4 * 4, x // 4 * 4
        want = padded[top : top + 4, left : left + 4].mean(axis=(0, 1))
        np.testing.assert_allclose(feature, want, rtol=1e-5)


def test_classes_apart_have_a_high_silhouette_and_mixed_ones_none():
    draw = np.random.default_rng(0)
    of = np.repeat([0, 1], 40)
    apart = draw.normal(size=(80, 6)).astype(np.float32) + 30 * of[:, None].astype(np.float32)
    mixed = draw.normal(size=(80, 6)).astype(np.float32)
    good, bad = (examine.embed(feature, of, seed=0) for feature in (apart, mixed))
    assert good.place_P2.shape == (80, 2)
    assert min(good.silhouette, good.silhouette_embedded) > 0.6
    assert max(bad.silhouette, bad.silhouette_embedded) < 0.1
    again = examine.embed(apart, of, seed=0)
    assert np.array_equal(good.place_P2, again.place_P2)


def test_a_single_class_has_no_silhouette():
    feature = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    found = examine.embed(feature, np.zeros(12, int), seed=0)
    assert found.silhouette is None
    assert found.perplexity == pytest.approx(11 / 3)  # of 30, which needs more points


@pytest.mark.parametrize(("num", "chosen"), [(1, "c"), (2, "bc"), (3, "acd"), (9, "abcde")])
def test_of_each_part_by_name_the_image_with_most_classes_is_chosen(num, chosen):
    shown = {"c": [0, 1, 2], "b": [0, 1, 255], "d": [0, 2], "a": [0, 255], "e": [0, 1]}
    items = [SimpleNamespace(id=name) for name in shown]
    data = SimpleNamespace(val=items, read_mask=lambda item: np.array([shown[item.id]]))
    assert "".join(item.id for item in examine.choose_images(data, num=num)) == chosen


def test_pictures_stand_beside_truth_and_prediction(tiny_prepared):
    data = tiny_prepared(num_val=2, num_classes=3)

    def red_is_two(image):
        return torch.stack([0 * image[:, 0], 0 * image[:, 0], image[:, 0] - 0.5], dim=1)

    network = Colours(red_is_two)
    found = dict(examine.pictures(network, data, EvaluationConfig("whole"), CPU))
    chosen = examine.choose_images(data)
    assert found["ids_K"].tolist() == [item.id for item in chosen]
    for k, item in enumerate(chosen):
        image = data.read_image(item)
        assert np.array_equal(found[f"image_{k}"], image)
        assert np.array_equal(found[f"truth_{k}"], data.read_mask(item))
        want = np.where(image[..., 0] > 127.5, 2, 0)
        assert np.array_equal(found[f"prediction_{k}"], want)


def test_pictures_without_memory_say_what_to_change(tiny_prepared):
    network = Colours(lambda image: torch.empty(1 << 60))
    found = examine.pictures(network, tiny_prepared(), EvaluationConfig("whole"), CPU)
    with pytest.raises(InputError, match=r"examine: v\d: no memory left on cpu \(.*mode: sliding"):
        dict(found)


def test_high_pictures_are_shrunk_and_masks_keep_their_labels():
    mask = np.zeros((1024, 2048), np.uint8)
    mask[:, 1024:] = 255
    small = examine.shrunk(mask, Image.Resampling.NEAREST)
    assert small.shape == (256, 512)
    assert set(np.unique(small)) == {0, 255}
    assert examine.shrunk(mask[:200], Image.Resampling.NEAREST).shape == (200, 2048)


def test_labelled_pixels_are_those_of_the_labelled_images(tiny_prepared):
    data = tiny_prepared(num_classes=3)
    ids = [item.id for item in data.train]
    split = Split("tiny", "drawn", "standard", 2, 0, tuple(ids[:2]), tuple(ids[2:]))
    labels = np.concatenate([data.read_mask(item).ravel() for item in data.train[:2]])
    want = [(labels == c).sum() for c in range(3)]
    assert examine.labeled_pixels(data, split).tolist() == want


@pytest.mark.parametrize("num", [1, 1000])
def test_fewer_points_than_asked_for_are_all_there_are(tiny_prepared, num):
    data = tiny_prepared(num_val=1, num_classes=2)
    points = examine.choose_points(data, seed=0, num=num)
    labels = masks(data)[0][::4, ::4]
    assert len(points.class_P) == sum(min(num, int((labels == c).sum())) for c in range(2))

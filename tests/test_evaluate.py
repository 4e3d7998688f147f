from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.augment.geometric import FILL
from pipeline.checkpoint import save, save_model
from pipeline.config import EvaluationConfig
from pipeline.evaluate import (
    evaluate,
    load_model,
    pad,
    predict,
    predict_sliding,
    window_starts,
)
from pipeline.models.deeplab import DeepLabV3Plus, Output
from pipeline.runtime import Runtime
from pipeline.seeding import drawn_from, stream
from pipeline.typed import InputError

CPU = Runtime(torch.device("cpu"), None, channels_last=True)
WHOLE = EvaluationConfig("whole")


class Fake(nn.Module):
    """A network of one function: image [N, 3, H, W] to logits; it keeps the sizes it saw."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits
        self.seen = []

    def forward(self, image):
        self.seen.append(tuple(image.shape))
        return Output(self.logits(image), None, None)


def nearest(colors):
    """Logits by how near a pixel's colour is to a class's."""
    colors_C3 = torch.tensor(colors) / 255

    def logits(image_N3HW):
        far = image_N3HW[:, None] - colors_C3[None, :, :, None, None]
        return -far.square().sum(dim=2)

    return logits


def image_of(height, width):
    return torch.rand(1, 3, height, width, generator=stream(0, "image"))


def test_the_windows_of_a_cityscapes_image():
    # 1024 x 2048 pixels, window 800, step ceil(800 * 2 / 3) = 534: eight windows
    assert window_starts(1024, 800, 2 / 3) == [0, 224]
    assert window_starts(2048, 800, 2 / 3) == [0, 534, 1068, 1248]


@given(st.integers(1, 400), st.integers(1, 100), st.floats(0.05, 1))
def test_windows_cover_every_pixel_and_end_at_the_border(length, window, stride):
    length = max(length, window)
    starts = window_starts(length, window, stride)
    assert starts[0] == 0
    assert starts[-1] + window == length
    assert starts == sorted(set(starts))
    assert all(b - a <= window for a, b in pairwise(starts))


def test_overlapping_windows_are_averaged_as_probabilities():
    # window 4, step 2 over 6 columns; class 0 has probability .1 .2 .3 .4 from left to right
    share = torch.tensor([0.1, 0.2, 0.3, 0.4])
    logits = torch.stack([share, 1 - share]).log()
    network = Fake(lambda image: logits[None, :, None].expand(1, 2, 4, 4))
    prob = predict_sliding(network, torch.zeros(1, 3, 4, 6), window=4, stride=0.5)
    row = torch.tensor([0.1, 0.2, (0.3 + 0.1) / 2, (0.4 + 0.2) / 2, 0.3, 0.4])
    torch.testing.assert_close(prob, torch.stack([row, 1 - row])[:, None].expand(2, 4, 6))
    assert network.seen == [(1, 3, 4, 4)] * 2


@pytest.mark.parametrize("size", [(5, 3), (5, 20), (20, 5), (8, 8), (11, 17)])
def test_of_a_pixelwise_network_windows_change_nothing(size):
    network = Fake(nearest([[250, 10, 10], [10, 250, 10], [10, 10, 250]]))
    image = image_of(*size)
    whole = predict(network, image, WHOLE)
    network.seen.clear()
    slid = predict_sliding(network, image, window=8, stride=0.7)
    assert slid.shape == (3, *size)
    torch.testing.assert_close(slid, whole)
    assert set(network.seen) == {(1, 3, 8, 8)}
    torch.testing.assert_close(slid.sum(dim=0), torch.ones(size))


def test_a_whole_image_is_padded_to_whole_strides_and_cut_to_its_size():
    network = Fake(nearest([[250, 10, 10], [10, 250, 10], FILL]))
    image = image_of(33, 70)
    prob = predict(network, image, WHOLE)
    assert network.seen == [(1, 3, 64, 96)]
    torch.testing.assert_close(prob, network(image).logits[0].softmax(dim=0))
    padded = pad(image, 64, 96)
    assert torch.equal(padded[..., :33, :70], image)
    assert (network.logits(padded).argmax(dim=1)[0, 33:] == 2).all()


def test_one_window_of_the_image_s_size_is_the_whole_image(tiny_network):
    with drawn_from(0, "network"):
        network = DeepLabV3Plus(tiny_network, num_classes=3).eval()
    image = image_of(64, 64)
    with torch.inference_mode():
        slid = predict(network, image, EvaluationConfig("sliding", window=64))
        torch.testing.assert_close(slid, predict(network, image, WHOLE), rtol=0, atol=0)


@pytest.mark.parametrize("config", [WHOLE, EvaluationConfig("sliding", 32, 0.5)])
def test_a_network_that_is_always_right_fills_the_diagonal(tiny_prepared, config):
    data = tiny_prepared(num_val=3, num_classes=4)
    masks = [data.read_mask(item) for item in data.val]
    network = Fake(nearest(data.classes.colors)).train()
    got = evaluate(network, data, config, CPU, title="")
    counts = [np.bincount(mask[mask != 255], minlength=4) for mask in masks]
    assert got.confusion_CC.tolist() == np.diag(sum(counts)).tolist()
    assert got.counts_I3C.tolist() == [[count.tolist()] * 3 for count in counts]
    pixels_B, right_B, sure_B = got.calibration_3B
    assert right_B.tolist() == pixels_B.tolist()
    assert pixels_B.sum() == sum(counts).sum()
    assert (sure_B <= pixels_B).all()
    assert not network.training


def test_rows_are_true_classes_and_columns_predicted_ones(tiny_prepared):
    data = tiny_prepared(num_classes=3)

    def always_two(image):
        return torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1).expand(1, 3, *image.shape[-2:])

    got, counts_I3C, calibration_3B = evaluate(Fake(always_two), data, WHOLE, CPU, title="")
    hit_C, true_C, predicted_C = counts_I3C.sum(axis=0)
    assert hit_C.tolist() == got.diagonal().tolist()
    assert true_C.tolist() == got.sum(axis=1).tolist()
    assert predicted_C.tolist() == [0, 0, got.sum()]
    # e / (e + 2) = 0.576 for class 2, in bin 11 of 20
    assert calibration_3B[:, 11].tolist() == pytest.approx(
        [got.sum(), got[2, 2], 0.576117 * got.sum()], rel=1e-4
    )
    labels = np.concatenate([data.read_mask(item).ravel() for item in data.val])
    assert got[:, :2].sum() == 0
    assert got[:, 2].tolist() == [(labels == c).sum() for c in range(3)]


def test_no_memory_left_says_what_to_change(tiny_prepared):
    network = Fake(lambda image: torch.empty(1 << 60))
    message = (
        r"run: v0: no memory left on cpu \(.*\)\. Set .* or in evaluation\.tiny `mode: sliding`"
    )
    with pytest.raises(InputError, match=message):
        evaluate(network, tiny_prepared(), WHOLE, CPU, title="run")


CLASSES = [{"name": "one", "color": [9, 9, 9]}, {"name": "two", "color": [250, 0, 0]}]


def model_of(network):
    """The content of a model file, but for its weights."""
    config = {"recipe": {"network": asdict(network)}}
    return {"classes": CLASSES, "config": config}


def test_a_model_is_loaded_as_it_was_saved(tiny_network, tmp_path):
    network = DeepLabV3Plus(tiny_network, 2)
    save_model(tmp_path / "model.pt", network.state_dict(), **model_of(tiny_network))
    got, model = load_model(tmp_path / "model.pt")
    assert model["classes"] == CLASSES
    for name, value in network.state_dict().items():
        assert torch.equal(got.state_dict()[name], value), name


@pytest.mark.parametrize(
    "change",
    [
        {"classes": None},
        {"classes": [1, 2]},
        {"classes": CLASSES[:1]},
        {"classes": [*CLASSES, {"name": "three", "color": [1, 1, 1]}]},
        {"config": {}},
        {"config": {"recipe": {"network": {"trunk": "nope", "weights": "none"}}}},
        {"config": {"recipe": {"network": 3}}},
        {"network": {}},
        {"network": {"classifier.weight": torch.ones(3)}},
        {"network": [1]},
    ],
)
def test_a_file_of_another_kind_is_no_model(tiny_network, tmp_path, change):
    weights = {"network": DeepLabV3Plus(tiny_network, 2).state_dict()}
    save(tmp_path / "model.pt", model_of(tiny_network) | weights | change)
    with pytest.raises(InputError, match=r"model\.pt: not a model of this code \("):
        load_model(tmp_path / "model.pt")


def test_a_list_is_no_model(tmp_path):
    save(tmp_path / "model.pt", [1, 2])
    with pytest.raises(InputError, match=r"model\.pt: not a model of this code \("):
        load_model(tmp_path / "model.pt")

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from pipeline import export
from pipeline.artifacts import ROOT
from pipeline.config import EvaluationConfig
from pipeline.evaluate import predict
from pipeline.export import card, export_onnx
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.typed import InputError
from tests.prepared import NETWORK

WHOLE = EvaluationConfig("whole")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return DeepLabV3Plus(NETWORK, 3).eval()


def test_the_file_says_of_any_number_of_images_what_the_network_says(network, tmp_path):
    path = tmp_path / "out/net.onnx"
    difference = export_onnx(network, path, (48, 64))
    assert 0 <= difference < 1e-4
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for number in (1, 3):
        images = torch.rand(number, 3, 48, 64)
        (got,) = session.run(None, {"image": images.numpy()})
        with torch.inference_mode():
            want = torch.cat([predict(network, x[None], WHOLE)[None] for x in images]).numpy()
        np.testing.assert_allclose(got, want, atol=1e-4)
    assert [p.name for p in path.parent.iterdir()] == ["net.onnx"]


def test_images_of_parts_of_a_stride_are_evaluated_as_they_are_elsewhere(network, tmp_path):
    path, image = tmp_path / "net.onnx", torch.rand(1, 3, 37, 50)
    export_onnx(network, path, (37, 50))
    (got,) = onnxruntime.InferenceSession(str(path)).run(None, {"image": image.numpy()})
    with torch.inference_mode():
        want = predict(network, image, WHOLE).numpy()
        bare = network(image).logits.softmax(dim=1).numpy()
    np.testing.assert_allclose(got[0], want, atol=1e-4)
    assert np.abs(bare - want).max() > 1e-3


def test_a_file_that_differs_is_not_left(network, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(
        InputError, match=r"net\.onnx: probabilities differ by .*; expected at most"
    ):
        export_onnx(network, tmp_path / "net.onnx", (48, 64))
    assert list(tmp_path.iterdir()) == []


def test_the_card_says_what_it_is_of_and_how_well_it_does():
    config = {
        "run": "voc_8",
        "seed": 2,
        "method": "stpg",
        "dataset": {"name": "voc"},
        "split": {"labeled": 4, "unlabeled": 9},
        "recipe": {
            "steps": 7,
            "batch": 2,
            "crop": [48, 64],
            "network": {"trunk": "resnet50", "weights": "timm"},
        },
        "versions": {"torch": "2", "python": "3"},
        "commit": "abc",
    }
    classes = [{"name": name, "color": [0, 0, 0]} for name in ("sky", "tree")]
    model = {"config": config, "classes": classes}
    text = card(model, {"miou": 0.4567, "iou": [0.4567, None]}, (48, 64), 3e-6)
    for part in (
        "# voc_8, seed 2",
        "4 labelled and 9 unlabelled",
        "mIoU 45.67 %",
        "| 0 | sky | 45.7 |",
    ):
        assert part in text
    for part in (
        "| 1 | tree | none |",
        "3e-06",
        "MIT",
        "`timm`",
        "commit abc with python 3, torch 2",
    ):
        assert part in text


def test_a_size_without_pixels_is_refused():
    command = [sys.executable, "-m", "stages.export", "any", "--size", "0", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "--size 0 5; expected at least 1 pixel each" in done.stderr
    assert "Traceback" not in done.stderr

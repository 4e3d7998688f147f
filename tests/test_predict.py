import subprocess
import sys
from pathlib import Path, PurePath
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pipeline.artifacts import ROOT
from pipeline.checkpoint import save_model
from pipeline.config import EvaluationConfig
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.predict import Views, found_images, most_likely, predict_all, probabilities
from pipeline.runtime import Runtime
from pipeline.typed import InputError
from tests.prepared import NAMES, NETWORK


class Brightness(torch.nn.Module):
    """Class 1 where a pixel is bright; notes the sizes that it sees."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, image):
        self.sizes.append(tuple(image.shape[-2:]))
        bright = image.mean(dim=1, keepdim=True)
        return SimpleNamespace(logits=10 * torch.cat([0.5 - bright, bright - 0.5], dim=1))


@pytest.fixture
def images(tmp_path):
    for name in ("a.png", "deep/b.JPG", "deep/c d.png", "deep/note.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            path.write_text("no image")
        else:
            Image.new("RGB", (40, 36), (200, 10, 10)).save(path)
    return tmp_path / "in"


def test_folders_files_and_patterns_are_searched(images):
    assert set(found_images([str(images)])) == set(map(PurePath, ("a", "deep/b", "deep/c d")))
    assert set(found_images([f"{images}/deep/*"])) == set(map(PurePath, ("b", "c d")))
    assert set(found_images([f"{images}/**/*.png"])) == set(map(PurePath, ("a", "c d")))
    assert list(found_images([f"{images}/a.png"] * 2)) == [PurePath("a")]


def test_no_image_and_two_of_one_name_are_refused(images):
    with pytest.raises(InputError, match=r"^.*/none: no image there; expected files, folders or"):
        found_images([f"{images}/none"])
    Image.new("RGB", (8, 8)).save(images / "deep/a.png")
    with pytest.raises(InputError, match=r"a\.png: .*a\.png is called a too; predict them apart"):
        found_images([f"{images}/a.png", f"{images}/deep/a.png"])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)])
def test_views_lie_on_each_other(scales, flip):
    image = torch.zeros(1, 3, 64, 64)
    image[..., :32] = 1
    network = Brightness()
    prob = probabilities(network, image, None, Views(scales, flip))
    assert prob.shape == (2, 64, 64)
    torch.testing.assert_close(prob.sum(dim=0), torch.ones(64, 64))
    assert (prob.argmax(dim=0)[:, :30] == 1).all()
    assert (prob.argmax(dim=0)[:, 34:] == 0).all()
    want = [(int(64 * s), int(64 * s)) for s in scales for _ in range(1 + flip)]
    assert network.sizes == want


def test_a_large_image_passes_by_windows_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr("pipeline.predict.MOST_WHOLE", 64 * 64)
    monkeypatch.setattr("pipeline.predict.WINDOW", EvaluationConfig("sliding", 64, 1.0))
    for config, sizes in ((None, [(64, 64)] * 2), (EvaluationConfig("whole"), [(64, 128)])):
        network = Brightness()
        probabilities(network, torch.zeros(1, 3, 64, 128), config, Views())
        assert network.sizes == sizes


@pytest.mark.parametrize("scales", [(), (0.0,), (float("nan"),), (11.0,)])
def test_scales_that_leave_nothing_are_refused(scales):
    with pytest.raises(InputError, match=r"^--scales: .*; expected numbers from 0\.1 to 10"):
        Views(scales).check("--scales")


@pytest.mark.parametrize(("height", "size"), [(None, 64), (32, 32), (64, 64), (100, 64)])
def test_higher_images_are_shrunk_as_for_the_training(tmp_path, height, size):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    network, seen = Brightness(), []
    network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    runtime = Runtime(torch.device("cpu"), None, channels_last=False)
    predict_all(
        network, found_images([str(tmp_path / "a.png")]), tmp_path / "out", [[0, 0, 0], [9, 9, 9]],
        config=None, views=Views(), height=height, runtime=runtime,
    )  # fmt: skip
    assert network.sizes == [(size, 2 * size)]
    with Image.open(tmp_path / "out/confidence/a.png") as picture:
        assert picture.size == (128, 64)
    if size == 32:  # each pixel is the mean of four
        mean = pixels.reshape(32, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(255 * seen[0][0].permute(1, 2, 0).numpy() - mean).max() <= 1


@pytest.mark.parametrize("size", [(9, 14), (23, 30), (9, 15)])
def test_classes_one_by_one_are_those_of_all_at_once(size):
    prob = torch.rand(4, 9, 14, generator=torch.Generator().manual_seed(0)).softmax(dim=0)
    label, confidence = most_likely(prob, size)
    whole = F.interpolate(prob[None], size, mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(confidence, whole.amax(dim=0), rtol=1e-6)
    np.testing.assert_array_equal(label, whole.argmax(dim=0))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    network = DeepLabV3Plus(NETWORK, 2)
    path = tmp_path_factory.mktemp("model") / "model.pt"
    classes = [{"name": "one", "color": [9, 9, 9]}, {"name": "two", "color": [250, 0, 0]}]
    config = {"dataset": {"name": "two", "height": 36}}
    config |= {"recipe": {"network": {**vars(NETWORK), "aspp_rates": list(NETWORK.aspp_rates)}}}
    save_model(path, network.state_dict(), classes, config)
    return path


def predict(*arguments):
    command = [sys.executable, "-m", "stages.predict", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_writes_three_pictures_an_image(model, images, tmp_path):
    done = predict(model, images, "--out", tmp_path / "out", "--flip", "--scales", "0.75,1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("3 images: ")
    for kind in ("index", "overlay", "confidence"):
        names = {
            p.relative_to(tmp_path / "out" / kind)
            for p in Path(tmp_path / "out" / kind).rglob("*.*")
        }
        assert names == {Path("a.png"), Path("deep/b.png"), Path("deep/c d.png")}
        with Image.open(tmp_path / "out" / kind / "a.png") as picture:
            assert picture.size == (40, 36)
    with Image.open(tmp_path / "out/index/a.png") as picture:
        assert picture.mode == "P"
        assert set(np.unique(picture)) <= {0, 1}
        assert picture.getpalette()[:6] == [9, 9, 9, 250, 0, 0]


def test_an_image_that_cannot_be_read_does_not_cost_the_others(images, tmp_path):
    (images / "bad.png").write_text("no image")
    runtime = Runtime(torch.device("cpu"), None, channels_last=False)
    with pytest.raises(InputError, match=r"^.*bad\.png: not an image that can be read"):
        predict_all(
            Brightness(), found_images([str(images)]), tmp_path / "out", [[0, 0, 0], [9, 9, 9]],
            config=None, views=Views(), height=None, runtime=runtime,
        )  # fmt: skip
    written = {path.name for path in (tmp_path / "out/index").rglob("*.png")}
    assert written == {"a.png", "b.png", "c d.png"}


def test_names_of_any_characters_are_predicted(tmp_path):
    for name in NAMES:
        Image.new("RGB", (40, 36)).save(tmp_path / f"{name}.png")
    runtime = Runtime(torch.device("cpu"), None, channels_last=False)
    number = predict_all(
        Brightness(), found_images([str(tmp_path)]), tmp_path / "out", [[0, 0, 0], [9, 9, 9]],
        config=None, views=Views(), height=None, runtime=runtime,
    )  # fmt: skip
    assert number == len(NAMES)
    assert {path.stem for path in (tmp_path / "out/overlay").iterdir()} == set(NAMES)


def test_no_memory_left_says_what_to_lower(images, tmp_path):
    class Huge(torch.nn.Module):
        def forward(self, image):
            return torch.empty(1 << 60)

    runtime = Runtime(torch.device("cpu"), None, channels_last=False)
    message = r"a\.png: no memory left on cpu \(.*allocate memory.*Give a lower --height"
    with pytest.raises(InputError, match=message):
        predict_all(
            Huge(), found_images([str(images / "a.png")]), tmp_path, [[0, 0, 0], [9, 9, 9]],
            config=None, views=Views(), height=None, runtime=runtime,
        )  # fmt: skip


def test_what_the_command_cannot_use_ends_in_one_line(model, images, tmp_path):
    (images / "bad.png").write_text("no image")
    bad = predict(model, images / "bad.png", "--out", tmp_path / "out")
    missing = predict(tmp_path / "model.pt", images, "--out", tmp_path / "out")
    low = predict(model, images, "--out", tmp_path / "out", "--height", "-5")
    for done, words in (
        (bad, "bad.png: not an image"),
        (missing, "model.pt is missing"),
        (low, "--height -5; expected at least 32, or 0 for none"),
    ):
        assert done.returncode == 1
        assert done.stderr.count("\n") == done.stderr.count("\r") + 1 or words in done.stderr
        assert "Traceback" not in done.stderr
        assert words in done.stderr

import errno
import os
import resource
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config import DatasetConfig
from pipeline.data.base import IGNORE_INDEX, ClassTable, Prepared, RawSample
from pipeline.data.prepare import prepare, shrink
from pipeline.pictures import decode, read_mask

CLASSES = ClassTable(("road", "sky", "car"), ((128, 64, 128), (70, 130, 180), (0, 0, 142)))
HEIGHT, WIDTH = 6, 8


def image_file(folder: Path, name: str, height: int = HEIGHT, width: int = WIDTH) -> Path:
    pixels = np.random.default_rng(len(name)).integers(0, 256, (height, width, 3), np.uint8)
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


def mask(height: int = HEIGHT, width: int = WIDTH, label: int = 1) -> np.ndarray:
    values = np.full((height, width), label, np.uint8)
    values[0, 0] = IGNORE_INDEX
    return values


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


@pytest.fixture
def samples(raw):
    """A JPEG without a mask and a PNG with one to train on, a JPEG to validate on."""
    return [
        RawSample("b", "train", image_file(raw, "b.JPG"), None),
        RawSample("a", "train", image_file(raw, "a.png"), mask(), raw / "a_mask.png", fine=False),
        RawSample("v", "val", image_file(raw, "v.jpeg"), mask(label=2), raw / "v_mask.png"),
    ]


def run(samples: list[RawSample], out: Path, height: int | None = None) -> Prepared:
    source = SimpleNamespace(
        class_table=lambda config, raw: CLASSES, samples=lambda raw, config: iter(samples)
    )
    prepare("tiny", source, out.parent / "raw", out, DatasetConfig("folder", height=height))
    return Prepared.open(out)


def test_what_is_written_reads_back(samples, tmp_path):
    data = run(samples, tmp_path / "out")
    assert (data.name, data.classes) == ("tiny", CLASSES)
    assert [item.id for item in data.train] == ["a", "b"]
    assert [item.id for item in data.val] == ["v"]
    a, b = data.train
    assert (a.image, a.mask, a.fine) == ("images/a.png", "masks/a.png", False)
    assert (b.image, b.mask, b.fine) == ("images/b.jpg", None, True)
    assert (b.height, b.width) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(data.read_mask(a), mask())
    assert (data.read_mask(b) == IGNORE_INDEX).all()


def test_an_image_file_is_kept_byte_for_byte(samples, tmp_path):
    data = run(samples, tmp_path / "out", height=HEIGHT)
    for sample, item in zip(samples, [data.train[1], data.train[0], *data.val], strict=True):
        assert (data.root / item.image).read_bytes() == sample.image.read_bytes()
        assert not (data.root / item.image).samefile(sample.image)


def test_the_order_of_the_samples_changes_no_file(samples, tmp_path):
    first, second = (run(s, tmp_path / n) for s, n in ((samples, "x"), (samples[::-1], "y")))
    files = sorted(p.relative_to(first.root) for p in first.root.rglob("*") if p.is_file())
    assert len(files) == 6
    for file in files:
        assert (first.root / file).read_bytes() == (second.root / file).read_bytes()


def test_the_digest_follows_every_pixel(samples, tmp_path):
    first, again = (run(samples, tmp_path / name).digest for name in "xy")
    other = mask()
    other[-1, -1] = 0
    assert first == again
    assert run(replaced(samples, 1, mask=other), tmp_path / "z").digest != first


def test_higher_images_are_shrunk_to_png_with_their_masks(raw, tmp_path):
    samples = [
        RawSample("t", "train", image_file(raw, "t.jpg", 9, 20), mask(9, 20)),
        RawSample("v", "val", image_file(raw, "v.jpg", 4, 20), mask(4, 20)),
    ]
    data = run(samples, tmp_path / "out", height=4)
    (shrunk,), (kept,) = data.train, data.val
    assert (shrunk.image, shrunk.height, shrunk.width) == ("images/t.png", 4, 9)
    assert data.read_image(shrunk).shape == (4, 9, 3)
    assert data.read_mask(shrunk).shape == (4, 9)
    assert (kept.image, kept.height, kept.width) == ("images/v.jpg", 4, 20)


def test_shrinking_averages_the_image_and_picks_from_the_mask():
    pixels = np.repeat(np.array([[[0], [100], [7], [7]], [[100], [200], [7], [7]]], np.uint8), 3, 2)
    labels = np.array([[0, 0, 2, 2], [0, 0, 2, 2]], np.uint8)
    image, labels = shrink(Image.fromarray(pixels), labels, 1)
    np.testing.assert_array_equal(np.asarray(image)[0, :, 0], [100, 7])
    np.testing.assert_array_equal(labels, [[0, 2]])


@given(st.integers(2, 30), st.integers(1, 60), st.data())
def test_a_shrunk_pair_stays_aligned_and_has_no_new_labels(height, width, data):
    # Left half black and class 0, right half white and class 200: a mask's pixel is its image's.
    labels = np.zeros((height, width), np.uint8)
    labels[:, width // 2 :] = 200
    target = data.draw(st.integers(1, height - 1))
    image, shrunk = shrink(Image.fromarray(np.where(labels, np.uint8(255), 0)), labels, target)
    red = np.asarray(image)[..., 0]
    assert shrunk.shape == red.shape == (target, max(1, round(width * target / height)))
    assert set(np.unique(shrunk)) <= {0, 200}
    # A mixed pixel may go either way; a pure one may not.
    assert (red[shrunk == 200] > 0).all()
    assert (red[shrunk == 0] < 255).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_images_of_any_mode_are_taken_and_read_as_rgb(raw, tmp_path, mode):
    files = [raw / f"{name}.{'jpg' if mode == 'CMYK' else 'png'}" for name in "tv"]
    for file in files:
        Image.new(mode, (WIDTH, HEIGHT)).save(file)
    pair = [RawSample(f.stem, s, f, mask()) for s, f in zip(("train", "val"), files, strict=True)]
    for height in (None, 3):
        data = run(pair, tmp_path / f"out{height}", height)
        assert data.read_image(data.val[0]).shape == (height or HEIGHT, data.val[0].width, 3)


def replaced(samples: list[RawSample], index: int, **fields: object) -> list[RawSample]:
    return [*samples[:index], replace(samples[index], **fields), *samples[index + 1 :]]


@pytest.mark.parametrize(
    ("index", "fields", "message"),
    [
        (1, {"mask": mask(4, 9)}, r"a_mask\.png: 9x4 pixels; expected 8x6, the size of .*a\.png"),
        (1, {"mask": mask(label=3)}, r"a_mask\.png: label 3; expected 0 to 2, or 255 to ignore"),
        (1, {"mask": mask(label=254), "mask_file": None}, r"mask of .*a\.png: label 254"),
        (2, {"mask": None}, r"v\.jpeg: a validation image without a mask"),
        (0, {"id": "a"}, r"a\.png: id 'a' occurs twice"),
        (2, {"id": "b"}, r"v\.jpeg: id 'b' occurs twice"),
        (0, {"id": "x/b"}, r"b\.JPG: id 'x/b'; expected a file name's stem"),
        (0, {"id": ""}, r"b\.JPG: id ''"),
        (0, {"id": "../b"}, r"b\.JPG: id '\.\./b'"),
        (0, {"image": Path("none/there.png")}, r"none/there\.png: not an image that can be read"),
    ],
)
def test_a_bad_sample_is_refused_by_name(samples, tmp_path, index, fields, message):
    with pytest.raises(ValueError, match=message):
        run(replaced(samples, index, **fields), tmp_path / "out")


@pytest.mark.parametrize(("left", "message"), [(slice(2), "no val"), (slice(2, 3), "no train")])
def test_a_data_set_without_a_part_is_refused(samples, tmp_path, left, message):
    with pytest.raises(ValueError, match=f"raw: {message} image; expected at least one"):
        run(samples[left], tmp_path / "out")


@pytest.mark.parametrize("name", ["t.png", "t.jpg"])
@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.5, 0.9])
def test_an_image_cut_short_is_named(tmp_path, name, share):
    path = image_file(tmp_path, name, 40, 40)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=f"{name}: not an image that can be read"):
        decode(path)


@pytest.mark.parametrize("mode", ["RGB", "LA", "1", "I;16"])
def test_a_mask_of_another_mode_is_named(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=rf"m\.png: a mask of mode {mode}; expected a single"):
        read_mask(tmp_path / "m.png")


def test_palette_masks_give_their_indices(tmp_path):
    indexed = Image.fromarray(mask())
    indexed.putpalette([0, 0, 0] + [9, 9, 9] * 255)
    indexed.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), mask())


def test_a_bad_sample_leaves_the_earlier_folder_and_nothing_else(samples, tmp_path):
    run(samples, tmp_path / "out")
    before = (tmp_path / "out" / "index.json").read_bytes()
    with pytest.raises(ValueError, match="label 3"):
        run(replaced(samples, 2, mask=mask(label=3)), tmp_path / "out")
    assert (tmp_path / "out" / "index.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "raw"]


def test_preparing_again_replaces_the_folder_whole(samples, tmp_path):
    run(samples, tmp_path / "out")
    assert [item.id for item in run(samples[1:], tmp_path / "out").train] == ["a"]
    assert not (tmp_path / "out/images/b.jpg").exists()


@pytest.mark.parametrize("name", ["shutil.copyfile", "os.replace", "pathlib.Path.mkdir"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_output_that_cannot_be_written_is_named(samples, tmp_path, monkeypatch, name, code):
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(name, fail)
        with pytest.raises(OSError, match=r"out cannot be written \(.*free some disk") as caught:
            run(samples, tmp_path / "out")
    assert caught.value.errno == code
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw"]


def test_a_disk_that_fills_up_leaves_the_old_data_and_says_so(samples, tmp_path):
    before = run(samples, tmp_path / "out").digest
    large = [replace(s, image=image_file(tmp_path, f"{s.id}.png", 200, 200), mask=mask(200, 200))
             for s in samples]  # fmt: skip
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OSError, match=r"out cannot be written \(.*free some disk space"):
            run(large, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Prepared.open(tmp_path / "out").digest == before
    assert not (tmp_path / "out.partial").exists()
    assert run(large, tmp_path / "out").digest != before

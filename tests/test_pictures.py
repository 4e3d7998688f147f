import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline import pictures
from pipeline.pictures import confidence_picture, index_picture, overlay, read_rgb
from pipeline.typed import InputError

RED, GREEN = [200, 0, 0], [0, 200, 0]


def halves(height=8, width=12):
    """Red on the left, green on the right."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = RED, GREEN
    return image


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.webp", "a.gif"])
def test_formats_without_loss_come_back(tmp_path, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(halves()).save(tmp_path / name, **options)
    assert np.array_equal(read_rgb(tmp_path / name), halves())


def test_a_jpeg_comes_back_nearly(tmp_path):
    Image.fromarray(halves()).save(tmp_path / "a.jpg", quality=100, subsampling=0)
    assert np.abs(read_rgb(tmp_path / "a.jpg").astype(int) - halves()).max() < 12


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_image_is_turned_as_its_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(halves()).save(tmp_path / "a.png", exif=exif)
    turns = {1: 0, 3: 2, 6: 3, 8: 1}[orientation]
    assert np.array_equal(read_rgb(tmp_path / "a.png"), np.rot90(halves(), turns))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    name = "a.tiff" if mode == "CMYK" else "a.png"
    Image.new("RGB", (6, 4), (255, 255, 255)).convert(mode).save(tmp_path / name)
    assert np.array_equal(read_rgb(tmp_path / name), np.full((4, 6, 3), 255, np.uint8))


def test_the_colour_of_what_is_transparent_is_kept(tmp_path):
    image = Image.fromarray(halves()).quantize(4)
    image.info["transparency"] = 0
    image.save(tmp_path / "a.png", transparency=0)
    assert np.array_equal(read_rgb(tmp_path / "a.png"), halves())


def test_of_16_bits_the_upper_8_are_kept(tmp_path):
    values = np.array([[0, 255, 256, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_rgb(tmp_path / "a.png")[0, :, 0].tolist() == [0, 0, 1, 255]


def test_what_is_no_use_is_refused_by_name(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(halves(64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "real.tiff")
    for name in ("text.png", "cut.png"):
        with pytest.raises(InputError, match=f"{name}: not an image that can be read"):
            read_rgb(tmp_path / name)
    with pytest.raises(InputError, match=r"real\.tiff: floating-point pixels"):
        read_rgb(tmp_path / "real.tiff")
    monkeypatch.setattr(pictures, "MOST_PIXELS", 95)
    Image.fromarray(halves()).save(tmp_path / "large.png")
    with pytest.raises(InputError, match=r"large\.png: 12 x 8 pixels; expected at most 95: cut"):
        read_rgb(tmp_path / "large.png")


def test_a_bomb_is_not_unpacked(tmp_path):
    """A PNG of a few bytes that says it has 3.6 billion pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(InputError, match=r"bomb\.png: .*pixels.*expected at most 178,000,000"):
        read_rgb(tmp_path / "bomb.png")


def test_pictures_of_a_prediction_by_hand():
    label = np.array([[0, 1]])
    index = index_picture(label, [RED, GREEN])
    assert np.array_equal(np.asarray(index), label)
    assert np.asarray(index.convert("RGB")).tolist() == [[RED, GREEN]]
    painted = overlay(np.full((1, 2, 3), 100, np.uint8), label, [RED, GREEN])
    assert np.asarray(painted).tolist() == [[[150, 50, 50], [50, 150, 50]]]
    assert np.asarray(confidence_picture(np.array([[0.0, 0.5, 1.0]]))).tolist() == [[0, 128, 255]]

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import DatasetConfig
from pipeline.data.base import Prepared
from pipeline.data.prepare import prepare
from pipeline.data.sources import folder
from pipeline.pictures import ORIENTATION, read_rgb
from pipeline.typed import InputErrors
from tests.prepared import NAMES

CONFIG = DatasetConfig("folder")


@pytest.fixture
def local(tmp_path):
    """Two images to train on, `a` with a mask, and `v` to validate on."""
    root = tmp_path / "mine"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for name in ("b.jpg", "a.PNG", "v.jpeg"):
        Image.new("RGB", (8, 6), (10, 20, 30)).save(root / "images" / name)
    for name in ("a.png", "v.png"):
        Image.fromarray(np.full((6, 8), 1, np.uint8)).save(root / "masks" / name)
    (root / "classes.yaml").write_text("- background\n- {name: leaf, color: [0, 200, 0]}\n")
    (root / "val.txt").write_text("v\n\n")
    return root


def read(root: Path) -> list:
    return list(folder.samples(root, CONFIG))


def test_images_masks_and_subsets_are_found_by_stem(local):
    (local / "images" / ".DS_Store").write_text("")
    a, b, v = read(local)
    assert [(s.id, s.subset, s.image.name) for s in (a, b, v)] == [
        ("a", "train", "a.PNG"),
        ("b", "train", "b.jpg"),
        ("v", "val", "v.jpeg"),
    ]
    assert b.mask is None
    assert b.mask_file is None
    np.testing.assert_array_equal(a.mask, np.ones((6, 8), np.uint8))
    assert v.mask_file == local / "masks/v.png"


def test_a_downloaded_folder_is_prepared(local, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    before = folder.download(raw, local)
    prepare("mine", folder, raw, tmp_path / "out", CONFIG)
    data = Prepared.open(tmp_path / "out")
    (local / "val.txt").write_text("a\n")
    assert before.keys() == {folder.FOLDER}
    assert folder.download(tmp_path / "again", local) != before
    assert data.classes.names == ("background", "leaf")
    assert [item.id for item in data.train] == ["a", "b"]
    assert (raw / "images/b.jpg").samefile(local / "images/b.jpg")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[sky, road]", ("sky", "road")),
        ("- {name: sky}\n- road\n- {name: car, color: [1, 2, 3]}", ("sky", "road", "car")),
    ],
)
def test_a_class_without_a_colour_gets_one_of_its_own(local, text, names):
    (local / "classes.yaml").write_text(text)
    table = folder.class_table(CONFIG, local)
    assert table.names == names
    assert len({*table.colors, (0, 0, 0)}) == len(names) + 1
    assert table.colors[2:] == ((1, 2, 3),) * (len(names) - 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found None; expected a list"),
        ("sky", "found 'sky'; expected a list"),
        ("sky: 0", "sky: unknown"),
        ("classes: [a, b]\nignore: [[0, 0, 256]]", r"ignore\.0: 256; expected 0 to 255"),
        (
            "- {name: a, color: [1, 2, 3]}\n- {name: b, color: [1, 2, 3]}",
            r"'a' and 'b' have the col",
        ),
        ("[sky]", "1 classes; expected 2 to 255"),
        ("[sky, sky]", "a class name occurs twice"),
        ("[yes, sky]", r"classes\[0\]: found True; expected a mapping"),
        ("- sky\n- {name: 1}", r"classes\[1\]\.name: found 1; expected text"),
        ("- sky\n- {color: [1, 2, 3]}", r"classes\[1\]\.name: missing"),
        ("- sky\n- {name: a, colour: [1, 2, 3]}", r"classes\[1\]\.colour: unknown; did you mean"),
        ("- sky\n- {name: a, color: [1, 2]}", r"classes\[1\]\.color: found \[1, 2\]"),
        ("- sky\n- {name: a, color: [1, 2, 256]}", r"classes\[1\]\.color: 256; expected 0 to 255"),
    ],
)
def test_bad_classes_are_refused_with_an_example(local, text, message):
    (local / "classes.yaml").write_text(text)
    pattern = rf"mine/classes\.yaml: {message}(.|\n)*such as\n  - {{name: background"
    with pytest.raises(ValueError, match=pattern):
        folder.class_table(CONFIG, local)


def test_classes_that_are_no_yaml_are_refused(local):
    (local / "classes.yaml").write_text("- {name: sky")
    with pytest.raises(ValueError, match=r"classes\.yaml: not valid YAML"):
        folder.class_table(CONFIG, local)


def test_missing_classes_are_refused_with_an_example_before_anything_is_linked(local, tmp_path):
    (local / "classes.yaml").unlink()
    with pytest.raises(ValueError, match=r"mine/classes\.yaml is missing(.|\n)*name: road"):
        folder.download(tmp_path / "raw", local)
    assert not (tmp_path / "raw").exists()


def test_a_missing_folder_says_what_to_put_where(tmp_path):
    with pytest.raises(ValueError, match=r"none: no such folder; put your data there: images/"):
        folder.download(tmp_path / "raw", tmp_path / "none")


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_missing_part_is_named(local, part):
    (local / part).rename(local / "elsewhere")
    with pytest.raises(ValueError, match=f"mine/{part}: no such folder; expected images/"):
        read(local)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("images/x.svg", r"images/x\.svg: expected only \.bmp, .*, \.webp; convert or remove"),
        ("masks/a.bmp", r"masks/a\.bmp: expected only \.png"),
        ("images/b.png", r"images/b\.png: b\.jpg has the same stem; rename one"),
        ("masks/c.png", r"masks/c\.png: no image c in .*images; add or rename it"),
    ],
)
def test_a_file_that_does_not_belong_is_named(local, file, message):
    (local / file).write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        read(local)


def test_of_many_that_do_not_belong_the_number_is_told(local):
    for k in range(InputErrors.MOST + 3):
        (local / f"images/{k:02}.svg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"images/49\.svg: .*\nand 3 more$"):
        read(local)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v\nb", r"val\.txt: 'b' has no mask; add it, or remove the line"),
        ("v.jpeg", r"val\.txt: 'v\.jpeg' has no image; expected stems, without suffix"),
    ],
)
def test_a_validation_id_that_is_no_use_is_named(local, text, message):
    (local / "val.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(local)


def test_without_a_list_some_images_with_masks_are_drawn(local, capsys):
    (local / "val.txt").unlink()
    for k in range(8):
        Image.new("RGB", (8, 6)).save(local / f"images/m{k}.png")
        Image.fromarray(np.zeros((6, 8), np.uint8)).save(local / f"masks/m{k}.png")
    drawn = {}
    for share, seed in ((0.2, 0), (0.5, 0), (0.5, 1), (0.01, 0), (0.9, 0)):
        config = DatasetConfig("folder", val_share=share, val_seed=seed)
        found = list(folder.samples(local, config))
        drawn[share, seed] = {s.id for s in found if s.subset == "val"}
        assert all(s.mask is not None for s in found if s.subset == "val")
        assert len(found) == 11
    assert "no val.txt: 2 of 10 images with masks drawn to validate on" in capsys.readouterr().out
    assert [len(ids) for ids in drawn.values()] == [2, 5, 5, 1, 9]
    assert drawn[0.2, 0] < drawn[0.5, 0] != drawn[0.5, 1]
    assert drawn[0.2, 0] == {s.id for s in read(local) if s.subset == "val"}


def test_one_mask_is_too_few_to_draw_from(local):
    (local / "val.txt").unlink()
    (local / "masks/a.png").unlink()
    with pytest.raises(ValueError, match=r"1 images with masks; expected two at least"):
        read(local)


COLORED = """
classes:
  - {name: ground, color: [0, 0, 0]}
  - {name: leaf, color: [0, 200, 0]}
ignore: [[255, 255, 255]]
"""


def colored(path: Path, colors: list[tuple[int, int, int]], mode: str = "RGB") -> None:
    """A mask of one row of colours, over the 8 x 6 image."""
    pixels = np.resize(np.array(colors, np.uint8), (6, 8, 3))
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_masks_of_colours_become_indices(local, mode):
    (local / "classes.yaml").write_text(COLORED)
    colored(local / "masks/a.png", [(0, 0, 0), (0, 200, 0), (255, 255, 255), (0, 200, 0)], mode)
    mask = read(local)[0].mask
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.resize([0, 1, 255, 1], (6, 8)))


def test_colours_that_mean_nothing_are_shown(local):
    (local / "classes.yaml").write_text(COLORED)
    colored(local / "masks/a.png", [(0, 0, 0), (0, 100, 0), (0, 199, 0)])
    problem = read(local)[0].problem
    assert "masks/a.png: 2 colours of no class, such as [0, 100, 0], [0, 199, 0]; add" in problem
    with pytest.raises(ValueError, match="2 colours of no class"):
        prepare("mine", folder, local, local.parent / "out", CONFIG)
    (local / "classes.yaml").write_text("[ground, leaf]")
    problem = read(local)[0].problem
    assert "a mask of colours, but classes.yaml gives 'ground' none; add `color" in problem


def test_a_palette_is_read_by_its_colours_only_where_they_are_the_classes(local):
    (local / "classes.yaml").write_text(COLORED)
    mask = Image.fromarray(np.resize(np.array([3, 7, 9], np.uint8), (6, 8)))
    palette = [0] * 768
    for value, color in ((3, (0, 200, 0)), (7, (255, 255, 255)), (9, (0, 0, 0))):
        palette[3 * value : 3 * value + 3] = color
    mask.putpalette(palette)
    mask.save(local / "masks/a.png")
    np.testing.assert_array_equal(read(local)[0].mask, np.resize([1, 255, 0], (6, 8)))
    palette[9:12] = (1, 200, 0)
    mask.putpalette(palette)
    mask.save(local / "masks/a.png")
    np.testing.assert_array_equal(read(local)[0].mask, np.resize([3, 7, 9], (6, 8)))


def test_masks_of_one_bit_are_indices(local):
    Image.fromarray(np.resize([False, True], (6, 8))).save(local / "masks/a.png")
    np.testing.assert_array_equal(read(local)[0].mask, np.resize([0, 1], (6, 8)))


def test_an_empty_part_is_named(local, tmp_path):
    for file in (local / "masks").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"mine/masks: it is empty; expected images/"):
        folder.download(tmp_path / "raw", local)


def bytes_like(pixels: np.ndarray, mode: str) -> Image.Image:
    """The picture in one of PIL's modes."""
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    picture = Image.fromarray(pixels)
    if mode == "P;transparent":
        picture = picture.quantize(8)
        picture.info["transparency"] = 0
        return picture
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("file", "mode"),
    [
        ("b.bmp", "RGB"),
        ("b.gif", "P"),
        ("b.tif", "CMYK"),
        ("b.TIFF", "RGB"),
        ("b.webp", "RGBA"),
        ("b.png", "LA"),
        ("b.png", "RGBA"),
        ("b.png", "I;16"),
        ("b.png", "P;transparent"),
        ("b.png", "1"),
        ("b.jpg", "L"),
        ("b.jpg", "CMYK"),
    ],
)
def test_images_of_any_kind_are_prepared_as_they_look(local, tmp_path, file, mode):
    (local / "images/b.jpg").unlink()
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    options = {"lossless": True} if file.endswith("webp") else {}
    bytes_like(pixels, mode).save(local / "images" / file, **options)
    prepare("mine", folder, local, tmp_path / "out", CONFIG)
    data = Prepared.open(tmp_path / "out")
    b = next(item for item in data.train if item.id == "b")
    np.testing.assert_array_equal(data.read_image(b), read_rgb(local / "images" / file))


@pytest.mark.parametrize("orientation", range(10))
def test_a_turned_photograph_is_prepared_upright(local, tmp_path, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(local / "images/a.PNG", exif=exif)
    upright = read_rgb(local / "images/a.PNG")
    Image.fromarray(np.ones(upright.shape[:2], np.uint8)).save(local / "masks/a.png")
    prepare("mine", folder, local, tmp_path / "out", CONFIG)
    data = Prepared.open(tmp_path / "out")
    np.testing.assert_array_equal(data.read_image(data.train[0]), upright)
    assert (upright.shape == pixels.shape) == (orientation not in range(5, 9))
    assert np.array_equal(upright, pixels) == (orientation in (0, 1, 9))


def test_a_mask_that_was_not_turned_is_told(local, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.new("RGB", (8, 6)).save(local / "images/a.PNG", exif=exif)
    with pytest.raises(ValueError, match=r"masks/a\.png: 8x6 pixels; expected 6x8.* turn the mask"):
        prepare("mine", folder, local, tmp_path / "out", CONFIG)


def test_names_of_any_characters_are_prepared(local, tmp_path):
    for name in NAMES:
        Image.new("RGB", (8, 6)).save(local / "images" / f"{name}.png")
        Image.fromarray(np.ones((6, 8), np.uint8)).save(local / "masks" / f"{name}.png")
    (local / "val.txt").write_text("\n".join(NAMES[:5]), encoding="utf-8")
    raw = tmp_path / "raw"
    raw.mkdir()
    folder.download(raw, local)
    prepare("mine", folder, raw, tmp_path / "out", CONFIG)
    data = Prepared.open(tmp_path / "out")
    assert {item.id for item in data.val} == set(NAMES[:5])
    assert set(NAMES) < {item.id for item in (*data.train, *data.val)}
    assert all(data.read_image(item).shape == (6, 8, 3) for item in data.train)


@pytest.mark.parametrize("name", [b"new\nline", b"\x07bell", b"\xff\xfe"])
def test_names_that_cannot_be_written_down_are_refused(local, tmp_path, name):
    file = os.fsencode(local / "images") + b"/" + name + b".png"
    shutil.copyfile(local / "images/a.PNG", file)
    folder.download(tmp_path / "raw", local)
    with pytest.raises(ValueError, match=r"expected a file name's stem, of printable UTF-8: ren"):
        prepare("mine", folder, tmp_path / "raw", tmp_path / "out", CONFIG)


def test_a_validation_list_from_any_editor_is_read(local):
    (local / "val.txt").write_bytes(b"\xef\xbb\xbfv\r\na")
    assert [(s.id, s.subset) for s in read(local)] == [("b", "train"), ("a", "val"), ("v", "val")]

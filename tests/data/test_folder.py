from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import DatasetConfig
from pipeline.data import folder
from pipeline.data.base import Prepared
from pipeline.data.prepare import prepare

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
    folder.download(raw, local)
    prepare("mine", folder, raw, tmp_path / "out", CONFIG)
    data = Prepared.open(tmp_path / "out")
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
        ("sky: 0", "found {'sky': 0}; expected a list"),
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
        ("images/x.tif", r"images/x\.tif: expected only \.jpg, \.jpeg, \.png; convert or remove"),
        ("masks/a.bmp", r"masks/a\.bmp: expected only \.png"),
        ("images/b.png", r"images/b\.png: b\.jpg has the same stem; rename one"),
        ("masks/c.png", r"masks/c\.png: no image c in .*images; add or rename it"),
    ],
)
def test_a_file_that_does_not_belong_is_named(local, file, message):
    (local / file).write_bytes(b"")
    with pytest.raises(ValueError, match=message):
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


def test_a_missing_validation_list_is_named(local):
    (local / "val.txt").unlink()
    with pytest.raises(ValueError, match=r"val\.txt is missing; list the stems"):
        read(local)


def test_a_validation_list_from_any_editor_is_read(local):
    (local / "val.txt").write_bytes(b"\xef\xbb\xbfv\r\na")
    assert [(s.id, s.subset) for s in read(local)] == [("b", "train"), ("a", "val"), ("v", "val")]

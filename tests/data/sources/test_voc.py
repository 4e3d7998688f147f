import hashlib
import tarfile

import numpy as np
import pytest
from PIL import Image

from pipeline.config import DatasetConfig, Draw
from pipeline.data.download import Archive
from pipeline.data.sources import voc
from tests.data.formats import (
    SBD,
    VOC,
    write_image,
    write_list,
    write_palette_png,
    write_sbd_mat,
    write_voc,
)

PUBLISHED = DatasetConfig(source="voc")


def drawn(fine: int, coarse: int, val: int) -> DatasetConfig:
    return DatasetConfig(source="voc", draw=Draw(size=32, fine=fine, coarse=coarse, val=val))


def mask_of(*values: int) -> np.ndarray:
    return np.array([values, values], np.uint8)


@pytest.fixture
def raw(tmp_path):
    """Fine a, b; val c; SBD has a, c, d in train.txt and e in val.txt."""
    write_voc(
        tmp_path,
        fine={"a": mask_of(0, 1, 255), "b": mask_of(3, 4, 255)},
        val={"c": mask_of(20, 15, 255)},
        coarse={"a": mask_of(0, 7, 7), "c": mask_of(0, 7, 7), "d": mask_of(0, 5, 6)},
    )
    write_sbd_mat(tmp_path / SBD / "cls/e.mat", mask_of(7, 16, 0))
    write_image(tmp_path / SBD / "img/e.jpg", 2, 3)
    write_list(tmp_path / SBD / "val.txt", ["e"])
    return tmp_path


SIZES = drawn(fine=2, coarse=2, val=1)


def read(raw, config=SIZES):
    return {sample.id: sample for sample in voc.samples(raw, config)}


def test_palette_has_the_published_colours():
    assert voc.palette_color(0) == (0, 0, 0)
    assert voc.palette_color(1) == (128, 0, 0)
    assert voc.palette_color(15) == (192, 128, 128)
    assert voc.palette_color(20) == (0, 64, 128)
    assert voc.palette_color(255) == (224, 224, 192)


def test_class_table_has_all_21_classes_for_published_data(tmp_path):
    table = voc.class_table(PUBLISHED, tmp_path)
    assert len(table) == 21
    assert table.names[15] == "person"
    assert table.colors[15] == (192, 128, 128)


def test_class_table_of_drawn_data_keeps_names_order_and_colours(tmp_path):
    table = voc.class_table(SIZES, tmp_path)
    assert table.names == voc.DRAWN_CLASSES
    assert table.colors[table.names.index("person")] == (192, 128, 128)


def test_augmented_set_is_sbd_and_voc_train_less_voc_val(raw):
    got = [(sample.subset, sample.id, sample.fine) for sample in voc.samples(raw, SIZES)]
    assert got == [
        ("train", "a", True),
        ("train", "b", True),
        ("train", "d", False),
        ("train", "e", False),
        ("val", "c", True),
    ]


def test_fine_mask_wins_over_that_of_sbd(raw):
    sample = read(raw)["a"]
    assert sample.mask_file == raw / VOC / "SegmentationClass/a.png"
    np.testing.assert_array_equal(sample.mask, mask_of(0, 1, 255))


def test_masks_hold_indices_of_the_drawn_classes(raw):
    samples = read(raw)
    # bird 3 -> 2, boat 4 -> 3; bottle 5 -> 4, bus 6 -> 5; car 7 -> 6, pottedplant 16 -> 8
    np.testing.assert_array_equal(samples["b"].mask, mask_of(2, 3, 255))
    np.testing.assert_array_equal(samples["d"].mask, mask_of(0, 4, 5))
    np.testing.assert_array_equal(samples["e"].mask, mask_of(6, 8, 0))
    # tvmonitor 20 -> 9, person 15 -> 7
    np.testing.assert_array_equal(samples["c"].mask, mask_of(9, 7, 255))
    assert all(sample.mask.dtype == np.uint8 for sample in samples.values())


def test_masks_of_published_data_keep_their_values(raw, monkeypatch):
    monkeypatch.setattr(voc, "PUBLISHED_SIZES", (2, 1, 4))
    np.testing.assert_array_equal(read(raw, PUBLISHED)["c"].mask, mask_of(20, 15, 255))
    np.testing.assert_array_equal(read(raw, PUBLISHED)["e"].mask, mask_of(7, 16, 0))


def test_image_of_sbd_comes_from_voc_where_voc_has_it(raw):
    write_image(raw / VOC / "JPEGImages/d.jpg", 2, 3)
    samples = read(raw)
    assert samples["d"].image == raw / VOC / "JPEGImages/d.jpg"
    assert samples["e"].image == raw / SBD / "img/e.jpg"


def test_masks_are_read_one_by_one(raw):
    (raw / VOC / "SegmentationClass/b.png").write_bytes(b"damaged")
    samples = voc.samples(raw, SIZES)
    assert next(samples).id == "a"
    with pytest.raises(
        ValueError, match=r"SegmentationClass/b\.png: not an image that can be read"
    ):
        next(samples)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PUBLISHED, "2 images in VOC's train.txt; expected 1464. Usually it is another year's"),
        (drawn(3, 2, 1), "2 images in VOC's train.txt; expected 3. Usually `draw` was changed"),
        (drawn(2, 2, 4), "1 images in VOC's val.txt; expected 4"),
        (drawn(2, 5, 1), "4 images in SBD and VOC's train.txt less VOC's val.txt; expected 7"),
    ],
)
def test_wrong_number_of_images_is_reported_with_both_numbers(raw, config, message):
    with pytest.raises(ValueError, match=message):
        next(voc.samples(raw, config))


def test_published_augmented_set_has_10582_images(raw, monkeypatch):
    assert voc.PUBLISHED_SIZES == (1464, 1449, 10582)
    monkeypatch.setattr(voc, "PUBLISHED_SIZES", (2, 1, 10582))
    with pytest.raises(ValueError, match=r"expected 10582\. Usually SBD's train\.txt or val\.txt"):
        next(voc.samples(raw, PUBLISHED))


def test_image_in_train_and_val_is_refused(raw):
    write_list(raw / VOC / "ImageSets/Segmentation/val.txt", ["b", "c"])
    with pytest.raises(ValueError, match=r"1 ids are in VOC's train\.txt and in its val\.txt, b"):
        next(voc.samples(raw, SIZES))


def test_missing_list_is_named(raw):
    (raw / SBD / "val.txt").unlink()
    with pytest.raises(ValueError, match=r"dataset/val\.txt: missing; expected the published"):
        next(voc.samples(raw, SIZES))


@pytest.mark.parametrize(
    ("missing", "named_by"),
    [
        (f"{VOC}/JPEGImages/a.jpg", "Segmentation/train.txt names a"),
        (f"{VOC}/SegmentationClass/c.png", "Segmentation/val.txt names c"),
        (f"{SBD}/img/e.jpg", "dataset/val.txt names e"),
        (f"{SBD}/cls/d.mat", "dataset/train.txt names d"),
    ],
)
def test_missing_file_is_reported_with_the_list_that_names_it(raw, missing, named_by):
    (raw / missing).unlink()
    with pytest.raises(ValueError, match=f"{named_by}, but .*/{missing} is missing"):
        next(voc.samples(raw, SIZES))


def test_value_outside_the_table_is_reported_with_file_and_allowed_values(raw):
    write_palette_png(raw / VOC / "SegmentationClass/a.png", mask_of(0, 2, 21))
    expected = (
        r"a\.png: values \[2, 21\] are no classes; expected \[0, 1, 3, 4, 5, 6, 7, 15, 16, 20\]"
    )
    with pytest.raises(ValueError, match=expected):
        read(raw)


def test_sbd_mask_outside_the_table_is_reported_too(raw):
    write_sbd_mat(raw / SBD / "cls/d.mat", mask_of(0, 19, 6))
    with pytest.raises(ValueError, match=r"d\.mat: values \[19\] are no classes"):
        read(raw)


def test_mask_with_colours_burnt_in_is_refused(raw):
    write_image(raw / VOC / "SegmentationClass/a.png", 2, 3)
    with pytest.raises(
        ValueError, match=r"a\.png: a mask of mode RGB; .* \(mode P\) that holds VOC's"
    ):
        read(raw)


@pytest.mark.parametrize("size", [0, 60, 200, -20])
def test_damaged_sbd_mask_is_named(raw, size):
    path = raw / SBD / "cls/d.mat"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"d\.mat: no GTcls\.Segmentation"):
        read(raw)


def test_sbd_mask_of_another_type_is_refused(raw):
    write_sbd_mat(raw / SBD / "cls/d.mat", mask_of(0, 5, 6).astype(float))
    with pytest.raises(ValueError, match=r"d\.mat: GTcls\.Segmentation is float64 \[2, 3\]; expec"):
        read(raw)


def test_download_takes_extracted_folders_without_the_rest(raw, tmp_path_factory):
    (raw / VOC / "SegmentationObject").mkdir()
    Image.new("L", (2, 2)).save(raw / VOC / "SegmentationObject/a.png")
    target = tmp_path_factory.mktemp("raw")
    manifest = voc.download(target, raw)
    assert manifest.keys() == voc.SOURCES.keys()
    assert not (target / VOC / "SegmentationObject").exists()
    assert [sample.id for sample in voc.samples(target, SIZES)] == ["a", "b", "d", "e", "c"]


def test_download_unpacks_archives_and_keeps_them(raw, tmp_path_factory, monkeypatch):
    served, local, target = (tmp_path_factory.mktemp(name) for name in ("served", "local", "raw"))
    sources = {}
    for folder, (archive, patterns) in voc.SOURCES.items():
        path = served / archive.name
        with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
            tar.add(raw / folder, folder)
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        sources[folder] = Archive(archive.name, (path.as_uri(),), "md5", digest), patterns
    monkeypatch.setattr(voc, "SOURCES", sources)
    manifest = voc.download(target, local)
    assert manifest == {a.name: f"md5:{a.digest}" for a, _ in sources.values()}
    assert sorted(path.name for path in local.iterdir()) == [
        "VOCtrainval_11-May-2012.tar",
        "benchmark.tgz",
    ]
    assert [sample.id for sample in voc.samples(target, SIZES)] == ["a", "b", "d", "e", "c"]

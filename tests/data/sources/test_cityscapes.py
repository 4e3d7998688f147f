import hashlib
import shutil
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from pipeline.config import DatasetConfig, Draw
from pipeline.data.sources import cityscapes
from pipeline.typed import ConfigError, from_mapping
from tests.data.formats import write_cityscapes, write_gray_png

PUBLISHED = DatasetConfig(source="cityscapes")
TRAIN_IDS = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]


def drawn(fine: int, val: int, coarse: int = 0) -> DatasetConfig:
    draw = Draw(size=32, fine=fine, coarse=coarse, val=val)
    return DatasetConfig(source="cityscapes", draw=draw)


SIZES = drawn(fine=3, val=1)
ROAD = np.full((2, 4), 7, np.uint8)


@pytest.fixture
def raw(tmp_path):
    write_cityscapes(
        tmp_path / "raw",
        train=dict.fromkeys(
            ["ulm_000001_000019", "hamburg_000000_080169", "ulm_000000_000019"], ROAD
        ),
        val={"lindau_000000_000019": ROAD},
    )
    return tmp_path / "raw"


def mask_path(raw, name="hamburg_000000_080169"):
    return raw / f"gtFine/train/{name.split('_')[0]}/{name}_gtFine_labelIds.png"


def read_hamburg(raw, config):
    return next(x for x in cityscapes.samples(raw, config) if x.id == "hamburg_000000_080169")


def test_class_table_has_the_19_classes_in_train_id_order(tmp_path):
    table = cityscapes.class_table(PUBLISHED, tmp_path)
    assert [label.id for label in cityscapes.LABELS] == TRAIN_IDS
    assert (table.names[0], table.colors[0]) == ("road", (128, 64, 128))
    assert (table.names[18], table.colors[18]) == ("bicycle", (119, 11, 32))


def test_class_table_of_drawn_data_keeps_names_order_and_colours(tmp_path):
    table = cityscapes.class_table(SIZES, tmp_path)
    assert table.names == cityscapes.DRAWN_CLASSES
    assert table.colors[table.names.index("sky")] == (70, 130, 180)


def test_every_label_id_maps_to_its_train_id_or_to_ignore(raw, monkeypatch):
    monkeypatch.setattr(cityscapes, "PUBLISHED_SIZES", {"train": 3, "val": 1})
    ids = np.array([[*range(34), 255]], np.uint8)
    write_gray_png(mask_path(raw), ids)
    want = [[TRAIN_IDS.index(x) if x in TRAIN_IDS else 255 for x in ids[0]]]
    mask = read_hamburg(raw, PUBLISHED).mask
    np.testing.assert_array_equal(mask, want)
    assert mask.dtype == np.uint8


def test_masks_of_drawn_data_hold_indices_of_the_drawn_classes(raw):
    # road 7 -> 0, fence 13 -> 3, bicycle 33 -> 13; wall 12 is not drawn
    write_gray_png(mask_path(raw), np.array([[7, 13, 33, 12, 0]], np.uint8))
    np.testing.assert_array_equal(read_hamburg(raw, SIZES).mask, [[0, 3, 13, 255, 255]])


@pytest.mark.parametrize("value", [34, 254])
def test_value_that_is_no_label_id_is_refused(raw, value):
    write_gray_png(mask_path(raw), np.array([[7, value]], np.uint8))
    with pytest.raises(ValueError, match=rf"hamburg.*: values \[{value}\] are no labelIds; .* 33"):
        list(cityscapes.samples(raw, SIZES))


@pytest.mark.parametrize("mode", ["RGB", "P", "I;16"])
def test_mask_that_is_not_one_channel_is_refused(raw, mode):
    Image.new(mode, (4, 2)).save(mask_path(raw))
    with pytest.raises(
        ValueError, match=rf"labelIds.png: a mask of mode {mode}; .* \(mode L\) that holds labelIds"
    ):
        list(cityscapes.samples(raw, SIZES))


def test_damaged_mask_is_named(raw):
    mask_path(raw).write_bytes(mask_path(raw).read_bytes()[:50])
    with pytest.raises(ValueError, match=r"labelIds\.png: not an image that can be read"):
        list(cityscapes.samples(raw, SIZES))


def test_samples_are_train_then_val_sorted_by_id(raw):
    got = [(sample.subset, sample.id, sample.fine) for sample in cityscapes.samples(raw, SIZES)]
    assert got == [
        ("train", "hamburg_000000_080169", True),
        ("train", "ulm_000000_000019", True),
        ("train", "ulm_000001_000019", True),
        ("val", "lindau_000000_000019", True),
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PUBLISHED, "3 images with masks in train; expected 2975"),
        (drawn(3, 2), "1 images with masks in val; expected 2"),
    ],
)
def test_wrong_number_of_images_is_reported_with_both_numbers(raw, config, message):
    with pytest.raises(ValueError, match=message):
        next(cityscapes.samples(raw, config))


def test_published_sizes_are_2975_and_500():
    assert cityscapes.PUBLISHED_SIZES == {"train": 2975, "val": 500}


def test_coarse_images_cannot_be_drawn():
    config = {"source": "cityscapes", "draw": {"size": 32, "fine": 3, "coarse": 2, "val": 1}}
    with pytest.raises(ConfigError, match=r"datasets\.x\.draw\.coarse: 2; expected 0"):
        from_mapping(DatasetConfig, config, "datasets.x")


@pytest.mark.parametrize(
    ("found", "missing"), [("gtFine", "leftImg8bit"), ("leftImg8bit", "gtFine")]
)
def test_file_without_its_partner_is_reported_with_both(raw, found, missing):
    next((raw / missing / "val/lindau").iterdir()).unlink()
    message = (
        rf"{found}/val/lindau/lindau_\S+ is there, but \S+/{missing}/val/lindau/\S+ is missing"
    )
    with pytest.raises(ValueError, match=message):
        next(cityscapes.samples(raw, SIZES))


def zip_part(raw, part, folder):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{part}_trainvaltest.zip", "w") as zipped:
        zipped.writestr("license.txt", "for research")
        zipped.writestr(f"{part}/test/berlin/berlin_000000_000019_{part}.png", b"not needed")
        for file in (raw / part).rglob("*.png"):
            zipped.write(file, file.relative_to(raw))


def files_of(folder):
    return {
        file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def test_download_takes_extracted_folders_or_archives(raw, tmp_path):
    local, target = tmp_path / "local", tmp_path / "target"
    zip_part(raw, "gtFine", local)
    shutil.copytree(raw / "leftImg8bit", local / "leftImg8bit")
    target.mkdir()
    manifest = cityscapes.download(target, local)
    assert files_of(target) == files_of(raw)
    packed = (local / "gtFine_trainvaltest.zip").read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    assert manifest["gtFine_trainvaltest.zip"] == f"sha256:{digest}"
    assert manifest.keys() == {"gtFine_trainvaltest.zip", "leftImg8bit"}


def install_downloader(folder, monkeypatch, body):
    """A stand-in for csDownload: destination and names of the wanted files are in sys.argv[2:]."""
    folder.mkdir()
    program = folder / "csDownload"
    program.write_text(f"#!{sys.executable}\nimport pathlib, shutil, sys\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_download_runs_the_official_downloader_for_what_is_missing(raw, tmp_path, monkeypatch):
    local, target, served = tmp_path / "local", tmp_path / "target", tmp_path / "served"
    zip_part(raw, "gtFine", local)
    zip_part(raw, "leftImg8bit", served)
    target.mkdir()
    install_downloader(
        tmp_path / "bin",
        monkeypatch,
        f"assert sys.argv[1] == '-d' and sys.argv[3:] == ['leftImg8bit_trainvaltest.zip']\n"
        f"shutil.copy({str(served)!r} + '/' + sys.argv[3], sys.argv[2])",
    )
    cityscapes.download(target, local)
    assert files_of(target) == files_of(raw)
    assert sorted(path.name for path in local.iterdir()) == [
        "gtFine_trainvaltest.zip",
        "leftImg8bit_trainvaltest.zip",
    ]


def test_download_without_an_account_says_what_to_do(tmp_path, monkeypatch):
    local = tmp_path / "local"
    install_downloader(
        tmp_path / "bin",
        monkeypatch,
        "pathlib.Path(sys.argv[2], sys.argv[3]).write_text('half')\ninput('Cityscapes username: ')",
    )
    with pytest.raises(FileNotFoundError) as error:
        cityscapes.download(tmp_path, local)
    message = str(error.value)
    assert "csDownload, which needs a stored account, failed: EOFError" in message
    assert "csDownload -l" in message
    assert list(local.iterdir()) == []


def test_download_without_the_downloader_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        cityscapes.download(tmp_path, tmp_path / "local")
    message = str(error.value)
    for hint in (
        "csDownload, is not installed",
        "https://www.cityscapes-dataset.com/register/",
        "pip install cityscapesscripts",
        f"get leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip from that site, and put "
        f"them in {tmp_path / 'local'}",
    ):
        assert hint in message

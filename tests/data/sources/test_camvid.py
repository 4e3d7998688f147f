import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import DatasetConfig
from pipeline.data.base import Prepared
from pipeline.data.prepare import prepare
from pipeline.data.sources import camvid

CONFIG = DatasetConfig("camvid")
PUBLISHED = dict(camvid.PATTERNS)
NAMES = {"train": ("b", "a"), "val": ("v",)}
SIZE = (16, 12)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A data set of three images rather than 468."""
    counts = {part: len(names) for part, names in NAMES.items()}
    patterns = {f"{p}{kind}/*.png": n for p, n in counts.items() for kind in ("", "annot")}
    assert patterns.keys() == camvid.PATTERNS.keys()
    monkeypatch.setattr(camvid, "COUNTS", counts)
    monkeypatch.setattr(camvid, "PATTERNS", patterns)
    monkeypatch.setattr(camvid, "SIZE", SIZE)


def write_layout(root: Path, size: tuple[int, int] = SIZE) -> Path:
    """Masks hold one row of each value, 0 to 11."""
    mask = np.repeat(np.arange(12, dtype=np.uint8)[:, None], size[0], axis=1)
    for part, names in {**NAMES, "test": ("t",)}.items():
        for folder in (part, f"{part}annot"):
            (root / folder).mkdir(parents=True)
        for name in names:
            Image.new("RGB", size, (1, 2, 3)).save(root / part / f"{name}.png")
            Image.fromarray(mask).resize(size, 0).save(root / f"{part}annot" / f"{name}.png")
    return root


def files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


WANTED = [f"{folder}/{name}.png" for folder in ("train", "trainannot") for name in "ab"]
WANTED += ["val/v.png", "valannot/v.png"]


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def test_values_are_classes_and_eleven_is_ignored(tmp_path):
    a, b, v = camvid.samples(write_layout(tmp_path / "x"), CONFIG)
    assert [(s.id, s.subset) for s in (a, b, v)] == [("a", "train"), ("b", "train"), ("v", "val")]
    np.testing.assert_array_equal(a.mask[:, 0], [*range(11), 255])
    assert a.mask.dtype == np.uint8
    assert b.mask_file == tmp_path / "x/trainannot/b.png"


def test_classes_are_segnets_in_the_order_of_the_values(tmp_path):
    table = camvid.class_table(CONFIG, tmp_path)
    assert len(table) == camvid.VOID == 11
    pairs = dict(zip(table.names, table.colors, strict=True))
    assert list(pairs)[:4] == ["Sky", "Building", "Pole", "Road"]
    assert pairs["Pavement"] == (60, 40, 222)
    assert pairs["Bicyclist"] == (0, 128, 192)


def test_a_local_layout_is_linked_and_prepared(raw, tmp_path):
    local = write_layout(tmp_path / "CamVid")
    camvid.download(raw, local)
    assert files(raw) == WANTED
    assert (raw / "val/v.png").samefile(local / "val/v.png")
    prepare("camvid", camvid, raw, tmp_path / "out", replace(CONFIG, height=6))
    data = Prepared.open(tmp_path / "out")
    assert (len(data.train), len(data.val), data.val[0].width) == (2, 1, 8)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        ("train/a.png", r"train: 1 images; expected 2, the published ones"),
        ("valannot/v.png", r"v\.png is in only one of val/ and valannot/"),
    ],
)
def test_another_number_of_files_is_refused_with_both_numbers(tmp_path, spoil, message):
    root = write_layout(tmp_path / "x")
    (root / spoil).unlink()
    with pytest.raises(ValueError, match=message):
        next(camvid.samples(root, CONFIG))


def test_the_published_numbers_are_expected():
    assert PUBLISHED == {
        "train/*.png": 367,
        "trainannot/*.png": 367,
        "val/*.png": 101,
        "valannot/*.png": 101,
    }


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Packs a layout as the repository's host does, and serves it."""

    def publish(layout: Path) -> Path:
        path = tmp_path / "host.zip"
        with zipfile.ZipFile(path, "w") as zipped:
            for file in files(layout):
                zipped.write(layout / file, f"{camvid.SOURCE.root}/{file}")
            zipped.writestr(f"{Path(camvid.SOURCE.root).parent}/README.md", "about")
        source = replace(camvid.SOURCE, urls=(path.as_uri(),))
        monkeypatch.setattr(camvid, "SOURCE", source)
        return path

    return publish


def test_the_archive_is_fetched_where_nothing_is_local(raw, tmp_path, published):
    layout = write_layout(tmp_path / "layout")
    published(layout)
    packed = camvid.download(raw, tmp_path / "CamVid")
    assert files(raw) == WANTED
    assert packed.keys() == {"CamVid"}
    assert packed == camvid.download(tmp_path / "linked", layout)
    assert [p.name for p in (tmp_path / "CamVid").iterdir()] == [camvid.SOURCE.name]
    assert len(list(camvid.samples(raw, CONFIG))) == 3


def test_an_archive_of_another_number_of_images_is_refused(raw, tmp_path, published):
    layout = write_layout(tmp_path / "layout")
    (layout / "valannot/v.png").unlink()
    published(layout)
    with pytest.raises(FileNotFoundError, match=r"0 files valannot/\*\.png; expected 1(.|\n)*put"):
        camvid.download(raw, tmp_path / "CamVid")


def test_an_archive_of_images_of_another_size_is_refused(raw, tmp_path, published):
    published(write_layout(tmp_path / "layout", size=(8, 6)))
    with pytest.raises(FileNotFoundError, match=r"\.png has size \(8, 6\); expected \(16, 12\)"):
        camvid.download(raw, tmp_path / "CamVid")


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_an_archive_cut_short_is_refused(raw, tmp_path, published, share):
    path = published(write_layout(tmp_path / "layout"))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(FileNotFoundError, match="not a whole zip of images"):
        camvid.download(raw, tmp_path / "CamVid")
    assert files(raw) == []


def test_without_data_or_network_the_error_says_where_to_put_the_archive(
    raw, tmp_path, monkeypatch
):
    source = replace(camvid.SOURCE, urls=((tmp_path / "none").as_uri(),))
    monkeypatch.setattr(camvid, "SOURCE", source)
    with pytest.raises(FileNotFoundError, match=rf"put it at .*CamVid/{source.name}"):
        camvid.download(raw, tmp_path / "CamVid")

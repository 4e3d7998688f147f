"""The drawn data sets: reproducible, long-tailed, and in the formats that are published."""

import collections
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from pipeline.config import DatasetConfig, Draw
from pipeline.data import mini
from pipeline.data.base import IGNORE_INDEX
from pipeline.data.sources import cityscapes, voc

FORMATS = {"voc": voc, "cityscapes": cityscapes}
DRAWN = {
    "voc": Draw(32, fine=90, coarse=4, val=9),
    "cityscapes": Draw(32, fine=90, coarse=0, val=3),
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both data sets, as `DRAWN` says."""
    folders = {source: tmp_path_factory.mktemp(source) for source in DRAWN}
    for source, config in DRAWN.items():
        mini.draw(source, folders[source], config)
    return folders


def files(raw: Path) -> dict[Path, bytes]:
    return {path.relative_to(raw): path.read_bytes() for path in raw.rglob("*") if path.is_file()}


def draw_files(source: str, raw: Path, **changes: int) -> dict[Path, bytes]:
    coarse = 2 if source == "voc" else 0
    mini.draw(source, raw, Draw(**{"size": 32, "fine": 2, "coarse": coarse, "val": 1} | changes))
    return files(raw)


@pytest.mark.parametrize("source", FORMATS)
def test_same_seed_gives_the_same_bytes_and_another_seed_other_images(
    source: str, tmp_path: Path
) -> None:
    first, again, other = (
        draw_files(source, tmp_path / str(k), seed=seed) for k, seed in enumerate((3, 3, 4))
    )
    assert first == again
    assert first.keys() == other.keys()
    binary = [path for path in first if path.suffix != ".txt"]
    assert binary
    assert all(first[path] != other[path] for path in binary if path.suffix != ".mat")


@pytest.mark.parametrize("source", FORMATS)
def test_an_image_does_not_depend_on_how_many_are_drawn(source: str, tmp_path: Path) -> None:
    few = draw_files(source, tmp_path / "few")
    many = draw_files(source, tmp_path / "many", fine=6, val=3, coarse=4 if source == "voc" else 0)
    shared = [path for path in few if path.suffix != ".txt"]
    assert shared
    assert all(few[path] == many[path] for path in shared)


@pytest.mark.parametrize("source", FORMATS)
def test_every_class_occurs_and_the_rarest_is_at_least_20_times_rarer(
    source: str, drawn: dict[str, Path]
) -> None:
    config = DatasetConfig(source, DRAWN[source])
    table = FORMATS[source].class_table(config, drawn[source])
    samples = list(FORMATS[source].samples(drawn[source], config))
    assert len(samples) == DRAWN[source].fine + DRAWN[source].coarse + DRAWN[source].val
    pixels_SC = np.stack(
        [np.bincount(sample.mask.ravel(), minlength=256)[: len(table)] for sample in samples]
    )
    for count_C in (pixels_SC.sum(axis=0), (pixels_SC > 0).sum(axis=0)):
        assert 0 < count_C.min() * 20 <= count_C.max()


def test_voc_masks_are_palette_images_with_void_rims(drawn: dict[str, Path]) -> None:
    root = drawn["voc"] / voc.VOC
    ids = (root / "ImageSets/Segmentation/train.txt").read_text().split()
    assert ids[0] == "2007_000001"
    sizes = collections.Counter()
    for name in ids:
        with Image.open(root / f"SegmentationClass/{name}.png") as mask:
            assert mask.mode == "P"
            assert mask.getpalette()[3 * 15 : 3 * 16] == [192, 128, 128]
            assert IGNORE_INDEX in np.asarray(mask)
            sizes[mask.size] += 1
        with Image.open(root / f"JPEGImages/{name}.jpg") as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", mask.size)
    assert set(sizes) == {(32, 32), (43, 32), (32, 43)}


def test_sbd_has_masks_without_void_and_shares_images_with_both_sets_of_voc(
    drawn: dict[str, Path],
) -> None:
    root, lists = drawn["voc"] / voc.SBD, drawn["voc"] / voc.VOC / "ImageSets/Segmentation"
    train, val = ((root / f"{part}.txt").read_text().split() for part in ("train", "val"))
    assert not set(train) & set(val)
    for part in (train, val):
        assert set(part) & set((lists / "val.txt").read_text().split())
    assert set(train) & set((lists / "train.txt").read_text().split())
    for name in train + val:
        mask = scipy.io.loadmat(root / f"cls/{name}.mat")["GTcls"]["Segmentation"][0, 0]
        with Image.open(root / f"img/{name}.jpg") as image:
            assert mask.shape == (image.height, image.width)
        assert set(np.unique(mask)) <= {voc.NAMES.index(label) for label in voc.DRAWN_CLASSES}


def test_cityscapes_masks_are_label_ids_beside_their_images(drawn: dict[str, Path]) -> None:
    images = sorted(drawn["cityscapes"].glob(f"leftImg8bit/*/*/*{cityscapes.IMAGE}"))
    masks = sorted(drawn["cityscapes"].glob(f"gtFine/*/*/*{cityscapes.MASK}"))
    assert len(images) == len(masks) == 93
    assert images[0].name == "aachen_000003_000019_leftImg8bit.png"
    assert len({image.parent for image in images}) == 6
    used = {label.id for label in cityscapes.LABELS if label.name in cityscapes.DRAWN_CLASSES}
    found = set()
    for image_path, mask_path in zip(images, masks, strict=True):
        with Image.open(image_path) as image, Image.open(mask_path) as mask:
            assert (image.mode, image.size, mask.mode, mask.size) == (
                "RGB",
                (64, 32),
                "L",
                (64, 32),
            )
            found |= set(np.unique(mask).tolist())
    assert found == used | set(mini.VOID_IDS.values())


def test_turns_come_at_their_shares() -> None:
    shares = {"a": 0.5, "b": 0.25, "c": 0.05}
    turns = collections.Counter(mini.turn(shares, number) for number in range(1, 101))
    for name, want in (("a", 50), ("b", 25), ("c", 5), (None, 20)):
        assert abs(turns[name] - want) <= 1


def test_the_rim_lies_on_what_is_behind() -> None:
    # Thing 1 (value 7) before the background, thing 2 (value 3) before thing 1.
    thing = np.array([[0, 0, 0, 0], [0, 1, 1, 2], [0, 1, 1, 2], [0, 1, 1, 2]])
    want = np.array([[0, 255, 255, 255], [255, 7, 255, 3], [255, 7, 255, 3], [255, 7, 255, 3]])
    value = np.array([0, 7, 3], np.uint8)
    np.testing.assert_array_equal(mini.fine_mask(thing, value), want)


def test_a_sliver_is_void() -> None:
    thing = np.zeros((20, 20), int)
    thing[5, 5] = 1
    thing[10:15, 10:15] = 2
    mask = mini.fine_mask(thing, np.array([0, 7, 3], np.uint8))
    assert set(np.unique(mask)) == {0, 3, IGNORE_INDEX}
    assert mask[5, 5] == IGNORE_INDEX


def test_a_coarse_mask_is_near_the_thing_but_not_exact() -> None:
    thing = np.zeros((60, 80), int)
    thing[10:50, 20:60] = 1
    coarse = mini.coarse_mask(thing, np.array([0, 7], np.uint8), np.random.default_rng(0))
    both, either = ((coarse == 7) & (thing == 1)).sum(), ((coarse == 7) | (thing == 1)).sum()
    assert 0.7 < both / either < 1
    assert set(np.unique(coarse)) == {0, 7}


def test_small_things_are_overlooked_now_and_then_in_coarse_masks() -> None:
    thing = np.zeros((60, 80), int)
    thing[10:15, 20:25] = 1
    rng, value = np.random.default_rng(0), np.array([0, 7], np.uint8)
    seen = sum(bool(mini.coarse_mask(thing, value, rng).any()) for _ in range(200))
    assert seen / 200 == pytest.approx(1 - mini.OVERLOOKED, abs=0.08)

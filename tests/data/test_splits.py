import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import SplitConfig
from pipeline.data.base import ClassTable, Item, Prepared
from pipeline.data.splits import (
    Split,
    check_split,
    import_lists,
    make_split,
    read_split,
    write_split,
)

CLASSES = ClassTable(("background", "thing"), ((0, 0, 0), (128, 0, 0)))


def item(id: str, *, masked: bool = True, fine: bool = True) -> Item:
    return Item(id, f"images/{id}.jpg", f"masks/{id}.png" if masked else None, 4, 6, fine)


def dataset(train: list[Item], val: tuple[str, ...] = ("v0",), name: str = "voc") -> Prepared:
    return Prepared(Path("unused"), name, CLASSES, tuple(train), tuple(map(item, val)))


def numbered(count: int, fine: int | None = None, unmasked: int = 0) -> Prepared:
    """`count` training images with a mask, the first `fine` of them fine; then some without."""
    fine = count if fine is None else fine
    train = [item(f"t{i:05}", fine=i < fine) for i in range(count)]
    return dataset(train + [item(f"u{i:05}", masked=False) for i in range(unmasked)])


def drawn(protocol: str, partition: int, seed: int = 0) -> SplitConfig:
    return SplitConfig("voc", protocol, partition, seed)


VOC = numbered(10582, fine=1464)
CITYSCAPES = numbered(2975)


@pytest.mark.parametrize(
    ("data", "protocol", "partition", "labeled", "unlabeled"),
    [
        (VOC, "blender", 16, 662, 9920),
        (VOC, "blender", 8, 1323, 9259),
        (VOC, "blender", 4, 2646, 7936),
        (VOC, "blender", 2, 5291, 5291),
        (VOC, "classic", 16, 92, 10490),
        (VOC, "classic", 8, 183, 10399),
        (VOC, "classic", 4, 366, 10216),
        (VOC, "classic", 2, 732, 9850),
        (VOC, "classic", 1, 1464, 9118),
        (CITYSCAPES, "standard", 16, 186, 2789),
        (CITYSCAPES, "standard", 8, 372, 2603),
        (CITYSCAPES, "standard", 4, 744, 2231),
        (CITYSCAPES, "standard", 2, 1488, 1487),
    ],
)
def test_counts_are_the_published_ones(data, protocol, partition, labeled, unlabeled):
    split = make_split(data, drawn(protocol, partition))
    assert (len(split.labeled), len(split.unlabeled)) == (labeled, unlabeled)
    assert split.family == "drawn"


@given(
    count=st.integers(2, 60),
    unmasked=st.integers(0, 5),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_a_smaller_partition_lies_within_a_larger_one(count, unmasked, seed, data):
    prepared = numbered(count, unmasked=unmasked)
    small, large = sorted(data.draw(st.tuples(*[st.integers(1, count)] * 2)), reverse=True)
    few, many = (make_split(prepared, drawn("standard", k, seed)) for k in (small, large))
    assert set(few.labeled) <= set(many.labeled)
    assert set(many.labeled).isdisjoint(many.unlabeled)
    assert {*many.labeled, *many.unlabeled} == {item.id for item in prepared.train}


@given(st.permutations(range(12)))
def test_the_order_of_the_training_images_does_not_matter(order):
    prepared = numbered(12)
    shuffled = replace(prepared, train=tuple(prepared.train[i] for i in order))
    assert make_split(shuffled, drawn("standard", 3)) == make_split(prepared, drawn("standard", 3))


def test_a_seed_draws_these_images_with_every_version():
    # The two lowest digests of `printf '3 t0000N' | sha256sum` are 1f07... and 219b...
    split = make_split(numbered(8), drawn("standard", 4, seed=3))
    assert split.labeled == ("t00003", "t00006")


def test_seeds_draw_different_images():
    labeled = {make_split(numbered(40), drawn("standard", 4, seed)).labeled for seed in range(5)}
    assert len(labeled) == 5


def test_classic_draws_fine_masks_only_and_others_stay_unlabeled():
    split = make_split(numbered(40, fine=10, unmasked=5), drawn("classic", 1))
    assert split.labeled == tuple(f"t{i:05}" for i in range(10))
    assert len(split.unlabeled) == 35


def test_an_image_without_a_mask_is_never_labeled():
    split = make_split(numbered(3, unmasked=9), drawn("standard", 1))
    assert split.labeled == ("t00000", "t00001", "t00002")


@pytest.mark.parametrize(
    ("data", "protocol", "message"),
    [
        (numbered(7), "blender", r"1/8 of 7 images is less than one .* with a mask \(blender\)"),
        (numbered(9, fine=0), "classic", r"1/8 of 0 images .* with a fine mask \(classic\)"),
        (numbered(0, unmasked=9), "standard", "1/8 of 0 images"),
    ],
)
def test_less_than_one_labeled_image_is_refused(data, protocol, message):
    with pytest.raises(ValueError, match=message):
        make_split(data, drawn(protocol, 8))


VOC_IDS = ("2007_000032", "2007_000039", "2007_000063")
CITY_IDS = ("jena_000078_000019", "ulm_000001_000019", "weimar_000002_000019")

LINES = {
    ("voc", "plain"): "{id}",
    ("voc", "unimatch"): "JPEGImages/{id}.jpg SegmentationClass/{id}.png",
    ("cityscapes", "cps"): "/images/train/{id}.png\t/segmentation/train/{id}_gtFine.png",
    ("cityscapes", "u2pl"): "leftImg8bit/train/{city}/{id}_leftImg8bit.png",
    ("cityscapes", "unimatch"): "leftImg8bit/train/{city}/{id}_leftImg8bit.png "
    "gtFine/train/{city}/{id}_gtFine_labelTrainIds.png",
}


def lines(name: str, form: str, ids: tuple[str, ...]) -> str:
    template = LINES[name, form]
    return "\n".join(template.format(id=id, city=id.split("_")[0]) for id in ids)


def published(name: str = "voc") -> Prepared:
    ids = VOC_IDS if name == "voc" else CITY_IDS
    return dataset([item(id) for id in ids] + [item("unmasked", masked=False)], name=name)


def imported(root: Path, data: Prepared, labeled: str, unlabeled: str | None = None) -> Split:
    (root / "l.txt").write_text(labeled)
    file = None
    if unlabeled is not None:
        file = "u.txt"
        (root / file).write_text(unlabeled)
    config = SplitConfig(data.name, "standard", 2, labeled="l.txt", unlabeled=file)
    return import_lists(data, config, root)


@pytest.mark.parametrize(("name", "form"), LINES)
@pytest.mark.parametrize("ending", ["", "\n", "\r\n\n  \n"])
def test_every_published_form_is_read(tmp_path, name, form, ending):
    data = published(name)
    ids = tuple(item.id for item in data.train)
    split = imported(
        tmp_path, data, lines(name, form, ids[:2]) + ending, lines(name, form, ids[2:3]) + ending
    )
    assert split == Split(name, form, "standard", 2, 0, ids[:2], ids[2:3])


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path):
    assert imported(tmp_path, published(), "\ufeff2007_000032").labeled == ("2007_000032",)


def test_without_an_unlabeled_list_all_the_rest_is_unlabeled(tmp_path):
    split = imported(tmp_path, published(), "2007_000039")
    assert split.unlabeled == ("2007_000032", "2007_000063", "unmasked")


OF_VOC = "JPEGImages/2007_000032.jpg SegmentationClass/2007_000032.png"
"""A line of UniMatch's lists, in which it published those of CPS and U2PL too."""


@pytest.mark.parametrize(
    ("line", "path", "family"),
    [
        ("2007_000032", "lists/cps/pascal/labeled.txt", "cps"),
        ("2007_000032", "U2PL-voc/92/labeled.txt", "u2pl"),
        ("2007_000032", "mine/labeled.txt", "plain"),
        ("2007_000032", "steps/labeled.txt", "plain"),
        (OF_VOC, "unimatch/pascal/1_16/labeled.txt", "unimatch"),
        (OF_VOC, "unimatch/pascal/u2pl_1_16/labeled.txt", "u2pl"),
        (OF_VOC, "labeled.txt", "unimatch"),
    ],
)
def test_lists_that_others_publish_too_are_of_the_family_that_the_path_names(
    tmp_path, line, path, family
):
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(line)
    split = import_lists(published(), SplitConfig("voc", "classic", 16, labeled=path), tmp_path)
    assert split.family == family


@pytest.mark.parametrize(
    ("labeled", "unlabeled", "message"),
    [
        ("a\nb\nc\nd", None, r"l.txt: a, b, c, \.\.\. \(4 in all\): not among the 4 training"),
        ("2007_000032\n2007_000032", None, "l.txt: 2007_000032: more than once in a list"),
        ("2007_000032", "2007_000039\n2007_000039", "l.txt and u.txt: 2007_000039: more than once"),
        ("2007_000032", "2007_000032", "2007_000032: labelled and unlabelled; remove the line"),
        ("v0", None, "v0: validation images of voc"),
        ("unmasked", None, "unmasked: labelled without a mask"),
        ("\n \n", None, "labeled: .*l.txt is empty"),
        ("2007_000032", "", "unlabeled: .*u.txt is empty"),
        (
            "2007_000032\nother/2007_000039.bmp",
            None,
            "l.txt, line 2: 'other/2007_000039.bmp' has no",
        ),
        (
            "2007_000032\n\nJPEGImages/2007_000039.jpg SegmentationClass/2007_000039.png",
            None,
            "line 1 has the form 'plain', line 3 the form 'unimatch'",
        ),
        (
            "2007_000032",
            "JPEGImages/2007_000039.jpg SegmentationClass/2007_000039.png",
            "u.txt has lines of the form 'unimatch', l.txt of the form 'plain'",
        ),
        (
            "JPEGImages/2007_000032.jpg SegmentationClass/2007_000039.png",
            None,
            "line 1: 'JPEGImages.* has no known form",
        ),
    ],
)
def test_a_list_that_does_not_fit_is_refused_by_name(tmp_path, labeled, unlabeled, message):
    with pytest.raises(ValueError, match=message):
        imported(tmp_path, published(), labeled, unlabeled)


def test_a_missing_list_is_named(tmp_path):
    config = SplitConfig("voc", "classic", 16, labeled="lists/none.txt")
    with pytest.raises(ValueError, match=r"labeled: no list at .*lists/none\.txt"):
        import_lists(published(), config, tmp_path)


GOOD = Split("voc", "drawn", "standard", 2, 0, VOC_IDS[:2], (VOC_IDS[2], "unmasked"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "cityscapes"}, "a split of 'cityscapes'; expected one of 'voc'"),
        ({"labeled": ()}, "no image is labelled"),
        ({"labeled": VOC_IDS}, "2007_000063: labelled and unlabelled"),
        ({"unlabeled": ("unmasked",)}, "2007_000063: neither labelled nor unlabelled"),
        ({"labeled": ("x", *VOC_IDS[:2])}, "x: not among the 4 training images of voc"),
        ({"unlabeled": (*GOOD.unlabeled, "v0")}, "v0: validation images"),
        ({"labeled": (*VOC_IDS, "unmasked"), "unlabeled": ()}, "unmasked: labelled without a mask"),
        ({"partition": 3}, "2 labelled images; expected 1, 1/3 of 3 training images with a mask"),
    ],
)
def test_a_split_that_does_not_fit_the_data_is_refused(change, message):
    check_split(GOOD, published())
    with pytest.raises(ValueError, match=message):
        check_split(replace(GOOD, **change), published())


def test_an_imported_split_may_leave_images_out():
    check_split(replace(GOOD, family="u2pl", unlabeled=("unmasked",)), published())


def test_a_list_of_plain_ids_may_have_another_count_but_a_published_one_may_not():
    check_split(replace(GOOD, family="plain", partition=16), published())
    with pytest.raises(ValueError, match="2 labelled images; expected 1, 1/16 of 3 training"):
        check_split(replace(GOOD, family="u2pl", partition=16), published())


def test_a_written_split_reads_back_equal_and_is_stable(tmp_path):
    write_split(tmp_path / "a.json", GOOD)
    write_split(tmp_path / "b.json", read_split(tmp_path / "a.json", published()))
    assert read_split(tmp_path / "b.json", published()) == GOOD
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


@pytest.mark.parametrize(
    ("key", "value"),
    [("labeled", ["2007_000032", "2007_000063"]), ("family", "cps"), ("sha256", "0" * 64)],
)
def test_an_edited_split_file_is_refused(tmp_path, key, value):
    path = tmp_path / "voc_8.json"
    write_split(path, GOOD)
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(
        ValueError, match=r"voc_8\.json: .*edited by hand; run `dvc repro split@voc_8"
    ):
        read_split(path, published())


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_file_that_is_no_split_is_refused(tmp_path, text):
    path = tmp_path / "voc_8.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"voc_8\.json: .*run `dvc repro split@voc_8`"):
        read_split(path, published())


def test_a_split_of_data_that_changed_since_is_refused(tmp_path):
    path = tmp_path / "voc_8.json"
    write_split(path, GOOD)
    with pytest.raises(ValueError, match=r"2007_000032: not among .*run `dvc repro split@voc_8`"):
        read_split(path, dataset(list(published().train[1:])))


def test_a_missing_split_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `dvc repro split@voc_8`"):
        read_split(tmp_path / "voc_8.json", published())

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.augment.cutmix import CutMix, CutMixConfig, cutmix_mask, mix
from pipeline.typed import ConfigError

SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.integers(24, 64)
REPEAT = settings(deadline=None, max_examples=40)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def rounding(height, width):
    """Share of the area that rounding the sides of one box to pixels can add or take."""
    return 0.5 / height + 0.5 / width + 0.25 / (height * width)


@given(SEEDS, SIZES, SIZES)
@REPEAT
def test_one_box_is_one_rectangle_of_the_share_asked_for(seed, height, width):
    mask = cutmix_mask(3, height, width, num_boxes=1, generator=rng(seed))
    for image in mask:
        rows, columns = image.any(dim=1), image.any(dim=0)
        assert torch.equal(image, rows[:, None] & columns[None])
        for side in (rows, columns):  # without a gap
            assert side.diff().sum() + side[0] + side[-1] == 2
        share, slack = image.double().mean(), rounding(height, width)
        assert 0.25 - slack <= share <= 0.5 + slack


@given(SEEDS, SIZES, SIZES, st.integers(1, 5))
@REPEAT
def test_the_boxes_share_the_area(seed, height, width, num_boxes):
    mask = cutmix_mask(4, height, width, num_boxes=num_boxes, generator=rng(seed))
    share, slack = mask.double().mean(dim=(1, 2)), rounding(height, width)
    assert mask.shape == (4, height, width)
    assert mask.dtype == torch.bool
    assert (share <= 0.5 + num_boxes * slack).all()
    assert (share >= 0.25 / num_boxes - slack).all()  # at the least, all lie on one


def test_the_share_of_the_area_is_uniform():
    mask = cutmix_mask(2000, 64, 64, num_boxes=1, generator=rng())
    share = mask.double().mean(dim=(1, 2))
    assert share.mean().item() == pytest.approx(0.375, abs=0.01)
    assert share.quantile(0.1).item() == pytest.approx(0.275, abs=0.02)
    assert share.quantile(0.9).item() == pytest.approx(0.475, abs=0.02)


def test_boxes_are_as_often_tall_as_wide_and_reach_every_pixel():
    mask = cutmix_mask(2000, 32, 32, num_boxes=1, generator=rng())
    tall = mask.any(dim=2).sum(dim=1) > mask.any(dim=1).sum(dim=1)
    wide = mask.any(dim=2).sum(dim=1) < mask.any(dim=1).sum(dim=1)
    assert (tall.sum() - wide.sum()).abs() < 180  # 4 standard deviations
    assert mask.any(dim=0).all()


@given(SEEDS)
@REPEAT
def test_xor_leaves_out_what_two_boxes_share(seed):
    union, xor = (
        cutmix_mask(4, 48, 32, num_boxes=2, overlap=overlap, generator=rng(seed))
        for overlap in ("union", "xor")
    )
    assert (union | ~xor).all()
    # two rectangles less their common part: the part is a rectangle, or nothing
    for common in union & ~xor:
        rows, columns = common.any(dim=1), common.any(dim=0)
        assert torch.equal(common, rows[:, None] & columns[None])


@pytest.mark.parametrize(("num_boxes", "taken"), [(1, True), (2, False), (3, True)])
def test_xor_takes_a_pixel_under_an_odd_number_of_boxes(num_boxes, taken):
    # a share of 1 makes squares with a side of sqrt(1 / num_boxes), more than half of the
    # image's: all cover its centre
    mask = cutmix_mask(
        20, 33, 33, num_boxes=num_boxes, ratio=(1.0, 1.0), overlap="xor", generator=rng()
    )
    assert mask[:, 16, 16].tolist() == [taken] * 20


@given(SEEDS)
@REPEAT
def test_the_generator_alone_decides(seed):
    one, same, other = (
        cutmix_mask(2, 32, 32, generator=rng(each)) for each in (seed, seed, seed + 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


@pytest.mark.parametrize("ratio", [(0.5, 0.25), (0.0, 0.5), (0.5, 1.5)])
def test_an_impossible_ratio_is_refused(ratio):
    with pytest.raises(ConfigError, match=r"^methods\.a\.ratio: \[.*\]; expected \[least, great"):
        CutMixConfig(ratio=ratio).check("methods.a")


def test_no_boxes_are_refused():
    with pytest.raises(ConfigError, match=r"methods\.a\.num_boxes: 0; expected at least 1"):
        CutMixConfig(num_boxes=0).check("methods.a")


def test_the_defaults_are_the_papers():
    config = CutMixConfig()
    config.check("cutmix")
    boxes = CutMix(config, 2, torch.Size((32, 32)), generator=rng())
    assert torch.equal(boxes.box_NHW, cutmix_mask(2, 32, 32, generator=rng()))
    assert (config.num_boxes, config.ratio) == (3, (0.25, 0.5))


def cutmix(num=3, **config):
    return CutMix(CutMixConfig(**config), num, torch.Size((24, 32)), generator=rng())


def test_everything_of_a_batch_is_mixed_by_the_same_boxes():
    boxes = cutmix()
    image, label = torch.rand(3, 3, 24, 32, generator=rng(1)), torch.arange(3 * 24 * 32)
    label = label.reshape(3, 24, 32)
    expected = torch.where(boxes.box_NHW, label.roll(-1, 0), label)
    assert torch.equal(boxes(label), expected)
    taken = boxes.box_NHW[:, None].expand_as(image)
    assert torch.equal(boxes(image)[taken], image.roll(-1, 0)[taken])


def test_drawn_partners_are_the_second_half():
    boxes, value = cutmix(partner="drawn"), torch.rand(6, 24, 32, generator=rng(1))
    assert torch.equal(boxes(value), torch.where(boxes.box_NHW, value[3:], value[:3]))


def test_the_share_of_mixed_images_is_as_asked_for():
    mixed = cutmix(num=2000, prob=0.3).box_NHW.flatten(1).any(dim=1)
    assert mixed.float().mean().item() == pytest.approx(0.3, abs=0.04)
    usual, never = cutmix(), cutmix(prob=0.0)
    assert usual.box_NHW.flatten(1).any(dim=1).all()
    assert not never.box_NHW.any()


def test_mixing_worked_by_hand():
    own, partner = torch.tensor([[[1, 2], [3, 4]]]), torch.tensor([[[5, 6], [7, 8]]])
    mask = torch.tensor([[[True, False], [False, True]]])
    assert mix(own, partner, mask).tolist() == [[[5, 2], [3, 8]]]


@pytest.mark.parametrize("between", [(), (3,), (2, 3)], ids=["label", "image", "views"])
def test_each_pixel_comes_whole_from_one_of_the_two(between):
    own, partner = torch.rand(2, 2, *between, 16, 12, generator=rng())
    mask = cutmix_mask(2, 16, 12, generator=rng())
    mixed = mix(own, partner, mask)
    everywhere = mask.reshape(2, *[1] * len(between), 16, 12).expand_as(own)
    assert torch.equal(mixed[everywhere], partner[everywhere])
    assert torch.equal(mixed[~everywhere], own[~everywhere])
    assert torch.equal(mix(own, own, mask), own)


def test_labels_of_mixed_logits_are_mixed_labels():
    own, partner = torch.randn(2, 2, 5, 16, 16, generator=rng())
    mask = cutmix_mask(2, 16, 16, generator=rng())
    mixed = mix(own, partner, mask).argmax(dim=1)
    assert torch.equal(mixed, mix(own.argmax(dim=1), partner.argmax(dim=1), mask))

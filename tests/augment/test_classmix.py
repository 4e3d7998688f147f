import pytest
import torch

from pipeline.augment.classmix import class_mask


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def mask_of(label, valid=None, *, num_classes=5, seed=0):
    valid = torch.ones_like(label, dtype=torch.bool) if valid is None else valid
    return class_mask(label, valid, num_classes=num_classes, generator=rng(seed))


@pytest.mark.parametrize("seed", range(6))
def test_an_image_keeps_the_smaller_half_of_its_classes_whole(seed):
    label = torch.randint(5, (4, 6, 9), generator=rng(seed))
    label[1], label[2], label[3, 2:] = 3, label[2] % 2, label[3, 2:] % 4
    mask = mask_of(label, seed=seed)
    assert mask.shape == label.shape
    for image, given in zip(label, mask, strict=True):
        classes = image.unique().tolist()
        shares = [given[image == c].float().mean().item() for c in classes]
        assert set(shares) <= {0.0, 1.0}
        assert shares.count(0.0) == len(classes) // 2


def test_of_a_single_class_nothing_is_kept():
    assert mask_of(torch.full((1, 3, 4), 2)).all()


def test_padding_is_the_partners_and_no_class():
    label = torch.tensor([[[1, 2, 3, 255]]])
    valid = torch.tensor([[[True, True, False, False]]])
    masks = torch.cat([mask_of(label, valid, seed=seed) for seed in range(20)])[:, 0]
    assert masks[:, 2:].all()
    assert (masks[:, :2].sum(dim=1) == 1).all()  # of two classes one is kept


def test_every_class_is_kept_as_often_and_images_draw_apart():
    label = torch.arange(4).view(1, 1, 4).expand(600, 1, 4)
    kept = ~mask_of(label)[:, 0]
    assert kept.float().mean(dim=0).tolist() == pytest.approx([0.5] * 4, abs=0.09)
    assert len({tuple(row) for row in kept.tolist()}) == 6  # every pair of four
    assert torch.equal(mask_of(label), mask_of(label))

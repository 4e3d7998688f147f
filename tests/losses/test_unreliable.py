import math

import pytest
import torch

from pipeline.losses.segmentation import cross_entropy
from pipeline.losses.unreliable import (
    certain_part,
    contrast_with_negatives,
    entropy,
    negative_keys,
    rank_of_class,
    reliable_cross_entropy,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_entropy_worked_by_hand():
    prob = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]).T[None, :, None]
    assert entropy(prob)[0, 0].tolist() == pytest.approx([math.log(2), 0.0], abs=1e-6)


def test_the_certain_part_has_its_share_of_the_valid_pixels():
    value = torch.tensor([[[5.0, 1, 4, 2, 3, 0]]])
    valid = torch.tensor([[[True, True, True, True, True, False]]])
    assert certain_part(value, valid, share=0.6).tolist() == [
        [[False, True, False, True, True, False]]
    ]
    assert torch.equal(certain_part(value, valid, share=1.0), valid)
    assert not certain_part(value, valid, share=0.0).any()
    assert not certain_part(value, valid & ~valid, share=0.5).any()


def test_fewer_reliable_pixels_count_more_each():
    logits, label = torch.randn(1, 3, 2, 2, generator=rng()), torch.tensor([[[0, 1], [2, 0]]])
    reliable = torch.tensor([[[True, False], [True, False]]])
    expected = 2 * cross_entropy(logits, label.masked_fill(~reliable, 255))
    found = reliable_cross_entropy(logits, label, reliable, torch.tensor(4))
    torch.testing.assert_close(found, expected)
    assert reliable_cross_entropy(logits, label, reliable & ~reliable, torch.tensor(4)) == 0


def test_ranks_worked_by_hand():
    prob = torch.tensor([[0.1, 0.6, 0.3], [0.4, 0.4, 0.2]])
    assert rank_of_class(prob).tolist() == [[2, 0, 1], [0, 1, 2]]


def test_negatives_equal_a_slow_loop():
    prob = torch.randn(60, 6, generator=rng()).softmax(dim=1)
    label = torch.randint(6, (60,), generator=rng(1))
    true = torch.rand(60, generator=rng(2)) < 0.5
    unreliable = ~true & (torch.rand(60, generator=rng(3)) < 0.5)
    label[~true] = 255
    found = negative_keys(prob, label, true, unreliable, low_rank=2, high_rank=4)
    assert found.any(dim=1)[true].any()
    for p in range(60):
        for c in range(6):
            rank = sum(float(x) > float(prob[p, c]) for x in prob[p])
            if true[p]:
                expected = rank < 2 and int(label[p]) != c
            else:
                expected = bool(unreliable[p]) and 2 <= rank < 4
            assert bool(found[p, c]) == expected


def contrast(feature, label, positive, bank, filled, **changes):
    options = {"queries": 3, "negatives": 4, "tau": 0.5, "generator": rng()}
    return contrast_with_negatives(feature, label, positive, bank, filled, **options | changes)


def test_the_contrast_worked_by_hand():
    """One feature and one negative a class: whatever is drawn, it is these."""
    feature = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    label = torch.tensor([0, 2])
    positive = torch.tensor([[1.0, 1.0], [9.0, 9.0], [0.0, 5.0]])
    bank = torch.tensor([[[0.0, 4.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0, 0]]])
    found = contrast(feature, label, positive, bank, torch.tensor([1, 1, 1]), negatives=2)
    first = math.log(1 + 2 * math.exp((0 - math.sqrt(0.5)) / 0.5))
    second = math.log(1 + 2 * math.exp((0 - 1) / 0.5))
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_classes_without_queries_or_negatives_do_not_count():
    feature, label = torch.randn(5, 4, generator=rng()), torch.tensor([0, 0, 1, 1, 1])
    positive, bank = torch.randn(3, 4, generator=rng(1)), torch.randn(3, 6, 4, generator=rng(2))
    none = contrast(feature, label, positive, bank, torch.tensor([0, 0, 6]))
    assert none == 0
    alone = contrast(feature, label, positive, bank, torch.tensor([6, 0, 6]))
    expected = contrast(feature[:2], label[:2], positive, bank, torch.tensor([6, 6, 6]))
    torch.testing.assert_close(alone, expected)


def test_only_queries_get_gradient_and_only_filled_slots_count():
    feature = torch.randn(4, 4, generator=rng()).requires_grad_()
    positive = torch.randn(2, 4, generator=rng(1)).requires_grad_()
    bank = torch.randn(2, 6, 4, generator=rng(2))
    filled = torch.tensor([2, 2])
    first = contrast(feature, torch.tensor([0, 0, 1, 1]), positive, bank, filled, queries=64)
    first.backward()
    assert feature.grad.any()
    assert positive.grad is None
    bank[:, 2:] = 99
    again = contrast(feature, torch.tensor([0, 0, 1, 1]), positive, bank, filled, queries=64)
    torch.testing.assert_close(first, again)


def test_every_feature_and_every_negative_is_drawn_alike():
    """With one-hot features the mean loss tells which were drawn."""
    feature, label = torch.eye(8)[:4], torch.zeros(4, dtype=torch.int64)
    feature = feature.requires_grad_()
    positive, bank = torch.zeros(1, 8), torch.eye(8)[None, 4:]
    contrast(
        feature, label, positive + torch.eye(8)[7], bank, torch.tensor([4]), queries=4000
    ).backward()
    pulls = feature.grad[:, 7]
    assert (pulls < 0).all()
    assert (pulls / pulls.mean()).tolist() == pytest.approx([1] * 4, abs=0.12)

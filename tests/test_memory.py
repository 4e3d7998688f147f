from collections import deque

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.memory import FeatureBank, closest_to_anchor

C, D = 3, 2
PUSHES = st.lists(st.lists(st.integers(0, C - 1), max_size=9), max_size=6)
"""Labels of each of a few pushes."""


def numbered(labels, start):
    """Features that carry their own number, to be told apart."""
    number = torch.arange(start, start + len(labels), dtype=torch.float32)
    return torch.stack([number, -number], dim=1), torch.tensor(labels, dtype=torch.int64)


def queues(bank):
    """The features of each class, oldest first."""
    found = []
    for c in range(C):
        held = bank.bank_CQD[c][bank.filled_CQ[c]]
        oldest = bank.pushed_C[c].item() % len(held) if len(held) == bank.bank_CQD.shape[1] else 0
        found.append(held.roll(-oldest, dims=0)[:, 0].tolist() if len(held) else [])
    return found


@given(PUSHES, st.integers(1, 5))
@settings(deadline=None, max_examples=100)
def test_each_class_is_a_queue(pushes, capacity):
    bank = FeatureBank(C, capacity, D)
    want = [deque(maxlen=capacity) for _ in range(C)]
    pushed = 0
    for labels in pushes:
        feature, label = numbered(labels, pushed)
        bank.push(feature, label)
        for number, c in enumerate(labels, pushed):
            want[c].append(number)
        pushed += len(labels)
        assert queues(bank) == [list(queue) for queue in want]


def test_the_oldest_leaves_first():
    bank = FeatureBank(C, 2, D)
    bank.push(*numbered([1, 1], 10))
    bank.push(*numbered([1], 12))
    assert queues(bank) == [[], [11, 12], []]
    assert bank.filled_CQ.tolist() == [[False, False], [True, True], [False, False]]


def test_of_too_many_at_once_the_newest_stay():
    bank = FeatureBank(C, 2, D)
    bank.push(*numbered([0, 2, 0, 0, 0, 0], 0))
    assert queues(bank) == [[4, 5], [], [1]]


def test_a_bank_of_capacity_zero_stays_empty():
    bank = FeatureBank(C, 0, D)
    bank.push(*numbered([0, 1], 0))
    assert bank.filled_CQ.shape == (C, 0)
    assert bank.bank_CQD.shape == (C, 0, D)


def test_state_round_trips():
    bank, restored = FeatureBank(C, 3, D), FeatureBank(C, 3, D)
    bank.push(*numbered([0, 0, 0, 0, 2], 0))
    restored.load_state_dict(bank.state_dict())
    for each in (bank, restored):
        each.push(*numbered([0, 2, 1], 5))
    assert queues(restored) == queues(bank) == [[2, 3, 5], [7], [4, 6]]


def test_the_bank_takes_half_precision_and_no_gradient():
    bank = FeatureBank(C, 3, D)
    feature, label = numbered([0, 1], 0)
    bank.push(feature.bfloat16().requires_grad_(), label)
    assert bank.bank_CQD.dtype == torch.float32
    assert not bank.bank_CQD.requires_grad


@pytest.mark.parametrize(("k", "want"), [(0, []), (1, [3, 2]), (2, [3, 1, 2]), (9, [3, 0, 1, 2])])
def test_the_closest_to_its_anchor_worked_by_hand(k, want):
    anchor = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    # cosines with anchor 0: -1, 0.6, 0.8 (length does not count); class 1 has one, class 2 none
    feature = torch.tensor([[-9.0, 0.0], [3.0, 4.0], [0.8, -0.6], [1.0, 0.0]])
    index, _ = closest_to_anchor(feature, torch.tensor([0, 0, 0, 1]), anchor, k=k)
    assert index.tolist() == want


def test_a_bank_smaller_than_k_keeps_the_closest():
    anchor = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    feature = torch.tensor([[0.8, 0.6], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    label = torch.zeros(4, dtype=torch.int64)
    chosen, _ = closest_to_anchor(feature, label, anchor, k=4)
    bank = FeatureBank(C, 2, D)
    bank.push(feature[chosen], label[chosen])
    assert {tuple(row) for row in bank.bank_CQD[0].tolist()} == {
        tuple(row) for row in feature[:2].tolist()
    }


@pytest.mark.parametrize("capacity", [0, 2, 3])
def test_the_mean_is_of_the_slots_that_hold_a_feature(capacity):
    bank = FeatureBank(C, capacity, D)
    bank.push(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]]), torch.tensor([0, 0, 1]))
    want = torch.zeros(C, D)
    if capacity:
        want[:2] = torch.tensor([[2.0, 3.0], [5.0, 9.0]])
    assert torch.equal(bank.mean_CD, want)

import pytest
import torch

from pipeline import waiting
from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.anchors import class_mean
from pipeline.losses.contrast import sample_per_class
from pipeline.memory import FeatureBank
from pipeline.waiting import counts, keep, sent


@pytest.fixture(params=[False, True], ids=["cpu", "as_on_a_gpu"])
def waits(request, monkeypatch):
    monkeypatch.setattr(waiting, "waits", lambda device: request.param)
    return request.param


def test_what_counts_is_kept_in_order(waits):
    counted = torch.tensor([[True, False, True], [False, True, True]])
    label = torch.tensor([[3, 0, 1], [IGNORE_INDEX, 2, 0]])
    value = torch.arange(12.0).view(2, 3, 2)
    found, rows = keep(counted, label, value)
    want = [3, IGNORE_INDEX, 1, IGNORE_INDEX, 2, 0] if waits else [3, 1, 2, 0]
    assert found.tolist() == want
    assert rows[found != IGNORE_INDEX].tolist() == [[0, 1], [4, 5], [8, 9], [10, 11]]


def test_no_more_rows_are_kept_than_can_count(waits):
    counted = torch.tensor([False, True, False, False, True])
    found, rows = keep(counted, torch.arange(5), torch.arange(5) * 10, most=3)
    assert found.tolist() == ([1, 4, IGNORE_INDEX] if waits else [1, 4])
    assert rows[:2].tolist() == [10, 40]


def test_other_values_are_not_counted(waits):
    assert counts(torch.tensor([[2, 0, 255], [2, 3, -1]]), 3).tolist() == [1, 0, 2]
    assert counts(torch.tensor([], dtype=torch.int64), 2).tolist() == [0, 0]


def test_rows_of_another_label_are_in_no_mean(waits):
    value = torch.tensor([[1.0], [5.0], [3.0], [7.0]])
    mean, there = class_mean(value, torch.tensor([1, IGNORE_INDEX, 1, 0]), num_classes=3)
    assert mean.tolist() == [[7.0], [2.0], [0.0]]
    assert there.tolist() == [True, True, False]


def test_what_does_not_enter_changes_nothing_in_the_bank(waits):
    bank, ignored = FeatureBank(2, 3, 1), torch.full((2,), IGNORE_INDEX)
    bank.push(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))
    before = bank.bank_CQD.clone()
    bank.push(torch.tensor([[8.0], [9.0]]), ignored)
    assert torch.equal(bank.bank_CQD, before)
    bank.push(torch.tensor([[8.0], [3.0], [9.0]]), torch.tensor([IGNORE_INDEX, 1, IGNORE_INDEX]))
    assert bank.bank_CQD[:, :, 0].tolist() == [[1, 0, 0], [2, 3, 0]]
    assert bank.pushed_C.tolist() == [1, 2]


def test_the_same_pixels_are_drawn_whether_others_lie_between(monkeypatch):
    monkeypatch.setattr(waiting, "waits", lambda device: True)
    label = torch.randint(4, (300,), generator=torch.Generator().manual_seed(0))
    label[label == 3] = IGNORE_INDEX
    place = (label != IGNORE_INDEX).nonzero().squeeze(1)
    drawn = []
    for given in (label, label[place]):
        generator = torch.Generator().manual_seed(1)
        index, found = sample_per_class(given, max_per_class=9, num_classes=3, generator=generator)
        drawn.append(index[found != IGNORE_INDEX])
    assert len(drawn[0]) == 27
    assert torch.equal(drawn[0], place[drawn[1]])


def test_what_stays_on_a_cpu_is_the_same():
    value = torch.rand(3)
    assert torch.equal(sent(value, "cpu"), value)

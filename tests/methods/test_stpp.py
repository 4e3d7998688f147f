import copy

import pytest
import torch

from pipeline.methods import base
from pipeline.methods.stpp import agreement
from pipeline.typed import ConfigError
from tests.methods.test_contract import UNLABELED, make, make_batch, run_steps


def same(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_phases_follow_each_other_and_are_in_the_log():
    method = make("stpp", rank_at=0.25, relabel_at=0.5)
    phases, shares = [], []
    for step in range(8):
        method.before_step(step / 8, UNLABELED)
        method.losses(make_batch(step=step, num_u=4), step / 8)
        phases.append(int(method.diagnostics["phase"]))
        shares.append(float(method.diagnostics.get("share_learnt", 0)))
    assert phases == [0, 0, 1, 1, 2, 2, 2, 2]
    assert shares == [0, 0, 0.5, 0.5, 1, 1, 1, 1]


def test_the_student_is_kept_on_the_way():
    method = make("stpp", rank_at=0.75, relabel_at=0.9)
    student, seen = method.students["student"], []
    for progress in (0.0, 0.25, 0.5, 0.75):
        with torch.no_grad():
            student.classifier.weight.add_(1)
        method.before_step(progress, UNLABELED)
        seen.append(copy.deepcopy(student))
    kept = method.former_teachers
    assert same(kept["early"], seen[1])
    assert same(kept["middle"], seen[2])
    assert same(kept["last"], seen[3])


def test_the_stabler_images_are_learnt_first():
    method = make("stpp", rank_at=0.1, relabel_at=0.9)
    with torch.no_grad():
        for scale, teacher in zip((1.0, 30.0), ("early", "last"), strict=True):
            method.former_teachers[teacher].classifier.weight.mul_(scale)
    method.rank(UNLABELED)
    stability = method.stability_K
    assert (0 <= stability).all()
    assert (stability <= 1).all()
    assert method.learnt_K.sum() == 2
    assert stability[method.learnt_K].min() >= stability[~method.learnt_K].max()


def test_agreement_worked_by_hand():
    first = torch.tensor([[[0, 0, 1, 1]]])
    second = torch.tensor([[[0, 1, 1, 2]]])
    # class 0: 1 of 2, class 1: 1 of 3, class 2: 0 of 1, class 3 in neither
    expected = (1 / 2 + 1 / 3) / 3
    assert agreement(first, second, num_classes=4).item() == pytest.approx(expected)
    assert agreement(first, first, num_classes=4) == 1


def test_images_that_are_not_of_the_stabler_half_teach_nothing():
    method = make("stpp", rank_at=0.1, relabel_at=0.9, cutout={"prob": 0.0})
    method.before_step(0.2, UNLABELED)
    seen = method.observe(make_batch(num_u=4), 0.2)
    assert torch.equal(seen.valid_NHW.flatten(1).all(dim=1), method.learnt_K)
    assert torch.equal(seen.valid_NHW.flatten(1).any(dim=1), method.learnt_K)


def test_what_is_erased_is_not_learnt():
    method = make("stpp", rank_at=0.1, relabel_at=0.2, cutout={"prob": 1.0})
    method.before_step(0.2, UNLABELED)
    seen = method.observe(make_batch(num_u=4), 0.2)
    erased = (seen.images_NCHW[0] == 0.5).all(dim=1)
    assert torch.equal(erased, ~seen.valid_NHW)
    assert 0.01 < erased.float().mean() < 0.45


def test_the_student_of_the_phase_before_is_the_teacher():
    method = make("stpp", rank_at=0.1, relabel_at=0.5)
    method.before_step(0.2, UNLABELED)
    with torch.no_grad():
        method.students["student"].classifier.weight.neg_()
    batch = make_batch(num_u=4)
    before = method.observe(batch, 0.2).target
    method.before_step(0.5, UNLABELED)
    after = method.observe(batch, 0.5).target
    assert not torch.equal(before, after)
    assert same(method.former_teachers["last"], method.students["student"])


def test_without_ranking_it_is_another_method():
    usual, every = (run_steps(make("stpp", rank_at=0.1, stable=s), 5)[0] for s in (0.25, 1.0))
    assert usual != every


def test_a_resumed_training_does_not_rank_again():
    method = make("stpp", rank_at=0.1, relabel_at=0.9)
    method.before_step(0.2, UNLABELED)
    resumed = make("stpp", rank_at=0.1, relabel_at=0.9)
    resumed.load_state_dict(method.state_dict())
    resumed.rank = lambda unlabeled: pytest.fail("ranked again")
    resumed.before_step(0.3, UNLABELED)
    assert torch.equal(resumed.learnt_K, method.learnt_K)


def test_phases_are_in_order():
    with pytest.raises(ConfigError, match=r"x\.relabel_at: 0\.2; expected more than x\.rank_at"):
        base.resolve("stpp", {"relabel_at": 0.2}, key="x")

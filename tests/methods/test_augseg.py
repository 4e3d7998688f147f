import math

import pytest
import torch

from pipeline.methods import augseg, base
from pipeline.typed import ConfigError
from tests.methods.test_contract import make, make_batch, run_steps
from tests.methods.test_field import spoil


def test_sureness_worked_by_hand():
    # two pixels: certain, and an even draw between two of four classes; the third is padding
    prob = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [1.0, 0, 0, 0]]).T[None, :, None]
    valid = torch.tensor([[[True, True, False]]])
    second = (1 - math.log(2) / math.log(4)) * 0.5
    assert augseg.sureness(prob, valid).tolist() == pytest.approx([(1 + second) / 2])
    assert augseg.sureness(prob, valid & ~valid).tolist() == [0]


def test_a_pixel_is_of_the_image_its_neighbour_or_a_labelled_one():
    method, batch = make("augseg"), make_batch(num=8)
    seen = method.observe(batch, 0.0)
    (image,) = seen.images_NCHW
    sources = {
        "own": (batch.strong_u[0], None),
        "next": (batch.strong_u[0].roll(-1, 0), None),
        "labelled": (batch.image_l.roll(-1, 0), batch.label_l.roll(-1, 0)),
    }
    covered = torch.zeros(8, 32, 32, dtype=torch.bool)
    for name, (source, truth) in sources.items():
        mine = (image == source).all(dim=1)
        assert mine.any(), name
        covered |= mine
        if truth is not None:
            label, confidence = seen.target
            assert torch.equal(label[mine], truth[mine])
            assert (confidence[mine] == 1).all()
    assert covered.all()


def test_the_surer_the_teacher_the_fewer_patches():
    batch = make_batch(num=8)
    unsure, sure = make("augseg"), make("augseg")
    spoil(sure.teachers["student"].average)
    for method in (unsure, sure):
        method.observe(batch, 0.0)
    assert sure.diagnostics["share_patched"] == 0
    assert unsure.diagnostics["share_patched"] > 0.05


def test_what_is_unlabelled_in_a_patch_is_not_learnt():
    batch = make_batch(num=8)
    batch.label_l.fill_(255)
    seen = make("augseg").observe(batch, 0.0)
    assert torch.equal(seen.valid_NHW, seen.target.label_NHW != 255)
    assert not seen.valid_NHW.all()


def test_the_teacher_is_evaluated():
    method = make("augseg")
    assert method.predictor() is method.teachers["student"].average


def test_without_patches_it_is_another_method(monkeypatch):
    usual = run_steps(make("augseg", threshold=0.0), 3)[0]
    monkeypatch.setattr(augseg, "sureness", lambda prob, valid: torch.ones(len(prob)))
    assert run_steps(make("augseg", threshold=0.0), 3)[0] != usual


def test_partners_are_of_the_batch():
    with pytest.raises(ConfigError, match=r"x\.patch\.partner: 'drawn'; expected 'next'"):
        base.resolve("augseg", {"patch": {"partner": "drawn"}}, key="x")

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.methods import base
from tests.methods.test_contract import make, make_batch, run_steps
from tests.methods.test_field import padded_batch, passed, pixels, slow_cross_entropy, spoil

EAGER = {"low_rank": 1, "high_rank": 4, "query_threshold": 0.0}


def test_its_reliable_pixels_equal_a_slow_loop():
    method, batch = make("u2pl", **EAGER), padded_batch()
    seen, outputs, terms = passed(method, batch)
    look, logits = seen.target, outputs["student"][1].logits
    prob, label = look.prob[2:], look.label[2:]
    places = pixels(seen.valid_NHW)
    entropy = {
        place: -sum(float(p) * float(p.log()) for p in prob[place[0], :, place[1], place[2]])
        for place in places
    }
    reliable = sorted(places, key=entropy.get)[: round(0.8 * len(places))]
    total = sum(slow_cross_entropy(logits, *place, label[place]) for place in reliable)
    # the mean over the reliable ones, over their share of all
    expected = total / len(reliable) * len(places) / len(reliable)
    assert terms["unsupervised"].item() == pytest.approx(expected, rel=1e-3)
    assert method.diagnostics["share_reliable"] == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.8), (0.5, 0.9), (0.99, 0.998)])
def test_fewer_and_fewer_pixels_are_unreliable(progress, share):
    method = make("u2pl")
    method.losses(make_batch(), progress)
    assert method.diagnostics["share_reliable"] == pytest.approx(share, abs=0.002)


def test_negatives_are_the_teachers_features_of_classes_a_pixel_is_not():
    method, batch = make("u2pl", **EAGER), make_batch()
    method.losses(batch, 0.0)
    feature, label = method.observed
    assert len(feature) == len(label) > 0
    assert feature.shape[1] == 24
    assert not feature.requires_grad
    assert set(label.tolist()) <= set(range(5))
    before = method.bank.pushed_C.clone()
    method.after_update(0.1)
    assert method.observed is None
    assert torch.equal(method.bank.pushed_C - before, torch.bincount(label, minlength=5))


def test_the_contrast_begins_with_the_second_step():
    method = make("u2pl", **EAGER)
    first = method.losses(make_batch(), 0.0)["contrast"]
    method.after_update(0.1)
    assert first == 0 < method.losses(make_batch(step=1), 0.1)["contrast"]


def test_without_negatives_it_is_another_method():
    usual = run_steps(make("u2pl", **EAGER), 4)[0]
    without = make("u2pl", **EAGER)
    without.bank.push = lambda *_: None
    assert run_steps(without, 4)[0] != usual
    off = make("u2pl", **EAGER, lambda_c=0.0)
    assert run_steps(off, 4)[0] == pytest.approx(run_steps(without, 4)[0], rel=0.2)


def test_unreliable_pixels_are_not_learnt():
    half = run_steps(make("u2pl", unreliable=0.5), 2)[0]
    assert run_steps(make("u2pl", unreliable=0.0), 2)[0] != half


def test_the_teacher_teaches_and_is_evaluated():
    plain, spoilt = make("u2pl"), make("u2pl")
    spoil(spoilt.teachers["student"].average.network)
    before, after = (m.losses(make_batch(), 0.0)["unsupervised"] for m in (plain, spoilt))
    assert before != after
    assert plain.predictor() is plain.teachers["student"].average.network


def test_ranks_are_in_order():
    with pytest.raises(ConfigError, match=r"x\.high_rank: 3; expected more than x\.low_rank"):
        base.resolve("u2pl", {"high_rank": 3}, key="x")

import pytest
import torch

from pipeline.cells import at_cells
from pipeline.losses.unreliable import entropy
from pipeline.methods import base
from pipeline.typed import ConfigError
from pipeline.unlabeled import forward_each
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
    seen = method.observe(batch, 0.0)
    outputs = {
        "student": forward_each(method.students["student"], batch.image_l, *seen.images_NCHW)
    }
    method.unsupervised(outputs, seen)
    feature, label = method.observed
    assert not feature.requires_grad
    flat = seen.target.feature.movedim(1, -1).flatten(0, 2)
    truth = at_cells(batch.label_l, seen.target.feature.shape[-2:], align_corners=True).flatten()
    for row, negative in zip(feature, label, strict=True):
        (pixel,) = (flat == row).all(dim=1).nonzero().flatten()[:1].tolist()
        assert pixel >= len(truth) or truth[pixel] != negative
    method.after_backward(0.1)
    assert method.observed is None
    assert torch.equal(method.bank.pushed_C, torch.bincount(label, minlength=5))


def test_the_contrast_begins_with_the_second_step():
    method = make("u2pl", **EAGER)
    first = method.losses(make_batch(), 0.0)["contrast"]
    method.after_backward(0.1)
    assert first == 0 < method.losses(make_batch(step=1), 0.1)["contrast"]


def test_without_negatives_it_is_another_method():
    def without():
        method = make("u2pl", **EAGER)
        method.bank.push = lambda *_: None
        return method

    def off():
        return make("u2pl", **EAGER, lambda_c=0.0)

    silent = run_steps(without(), 4)[0]
    assert run_steps(make("u2pl", **EAGER), 4)[0] != silent
    assert run_steps(off(), 4)[0] == pytest.approx(silent, rel=1e-5)


def test_unreliable_pixels_are_not_learnt():
    method, batch = make("u2pl", unreliable=0.5, lambda_c=0.0), make_batch()
    seen = method.observe(batch, 0.0)
    labeled, output = forward_each(method.students["student"], batch.image_l, *seen.images_NCHW)
    output.logits.retain_grad()
    method.unsupervised({"student": [labeled, output]}, seen)["unsupervised"].backward()
    moved = output.logits.grad.abs().sum(dim=1) > 0
    uncertainty = entropy(seen.target.prob[2:])
    assert moved.float().mean() == pytest.approx(0.5, abs=0.01)
    assert uncertainty[moved].max() <= uncertainty[~moved].min()


def test_a_pixel_has_to_have_a_class_that_it_is_not():
    with pytest.raises(ConfigError, match=r"low_rank: 3 with 2 classes; expected less than their"):
        make("u2pl", num_classes=2, low_rank=3)


def test_the_teacher_teaches_and_is_evaluated():
    plain, spoilt = make("u2pl"), make("u2pl")
    spoil(spoilt.teachers["student"].average.network)
    before, after = (m.losses(make_batch(), 0.0)["unsupervised"] for m in (plain, spoilt))
    assert before != after
    assert plain.predictor() is plain.teachers["student"].average.network


def test_ranks_are_in_order():
    with pytest.raises(ConfigError, match=r"x\.high_rank: 3; expected more than x\.low_rank"):
        base.resolve("u2pl", {"high_rank": 3}, key="x")

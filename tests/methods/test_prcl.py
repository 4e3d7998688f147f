import math
from dataclasses import replace

import pytest
import torch

from pipeline.augment.cutmix import mix
from pipeline.cells import at_cells
from pipeline.losses.segmentation import pseudo_label
from pipeline.methods import base, prcl
from pipeline.typed import ConfigError
from tests.methods.test_contract import make, make_batch, run_steps
from tests.methods.test_field import padded_batch, passed, pixels, slow_cross_entropy, spoil


def test_its_unlabelled_term_equals_a_slow_loop():
    method, batch = make("prcl", lambda_u=2.0), padded_batch()
    seen, outputs, terms = passed(method, batch)
    label, confidence = seen.target.taught
    places, logits = pixels(seen.valid_NHW), outputs["student"][1].logits
    share = []
    for n in range(2):
        mine = [float(confidence[place]) >= 0.3 for place in places if place[0] == n]
        share.append(sum(mine) / len(mine))
    assert 0 < min(share) < max(share)
    total = sum(share[p[0]] * slow_cross_entropy(logits, *p, label[p]) for p in places)
    assert terms["unsupervised"].item() == pytest.approx(2 * total / len(places), rel=1e-3)
    assert method.diagnostics["share_confident"] == pytest.approx(sum(share) / 2)


def test_strong_views_and_the_teachers_labels_are_mixed_alike(monkeypatch):
    masks = []

    def spied(*arguments, **options):
        masks.append(original(*arguments, **options))
        return masks[-1]

    original = prcl.class_mask
    monkeypatch.setattr(prcl, "class_mask", spied)
    method, batch = make("prcl"), make_batch(num=3)
    batch.valid_u[0, :9] = False
    seen = method.observe(batch, 0.0)
    (mask,) = masks
    assert 0 < mask.float().mean() < 1
    label, confidence = pseudo_label(method.teachers["student"](batch.image_u).logits)
    for found, value in (
        (seen.images_NCHW[0], batch.strong_u[0]),
        (seen.target.taught.label_NHW, label),
        (seen.target.taught.confidence_NHW, confidence),
        (seen.valid_NHW, batch.valid_u),
    ):
        assert torch.equal(found, mix(value, value.roll(-1, dims=0), mask))


def spied_contrast(monkeypatch, method, batch, progress=0.0):
    """What `probabilistic_contrast` is given, and what the students said."""
    given = {}

    def spied(feature, label, hard, **options):
        given.update(feature=feature, label=label, hard=hard, **options)
        return original(feature, label, hard, **options)

    original = prcl.probabilistic_contrast
    monkeypatch.setattr(prcl, "probabilistic_contrast", spied)
    seen, outputs, terms = passed(method, batch)
    return given, seen, outputs["student"], terms


@pytest.mark.parametrize("size", [(32, 32), (32, 48)])
def test_sure_cells_take_part_and_the_students_hard_ones_are_queries(monkeypatch, size):
    method, batch = make("prcl", weak_threshold=0.3, strong_threshold=0.25), make_batch(size=size)
    valid = batch.valid_u.clone()
    valid[0, :9] = False
    batch.label_l[1, 20:] = 255
    batch = replace(batch, valid_u=valid)
    given, seen, (labeled, unlabeled), _ = spied_contrast(monkeypatch, method, batch)
    taught = seen.target.taught
    sure = seen.valid_NHW & (taught.confidence_NHW >= 0.3)
    assert 0 < sure.float().mean() < seen.valid_NHW.float().mean()
    cells = labeled.fused.shape[-2:]
    label = torch.cat([batch.label_l, taught.label_NHW.where(sure, 255)])
    label = at_cells(label, cells, align_corners=True).flatten()
    assert torch.equal(given["label"], label[label != 255])
    prob = torch.cat([labeled.coarse, unlabeled.coarse]).softmax(dim=1)
    prob = prob.movedim(1, -1).flatten(0, 2)[label != 255]
    belief = prob.gather(1, given["label"][:, None]).squeeze(1)
    assert torch.equal(given["hard"], belief < 0.25)
    assert 0 < given["hard"].float().mean() < 1
    assert given["feature"].mean.shape == given["feature"].variance.shape == (len(belief), 8)


def test_both_heads_see_what_the_decoder_gets_and_variances_have_one_norm(monkeypatch):
    method, batch = make("prcl", weak_threshold=0.0), make_batch()
    given, _, outputs, _ = spied_contrast(monkeypatch, method, batch)
    fused = [output.fused for output in outputs]
    mean = torch.cat([method.mean_head(each) for each in fused])
    variance = method.variance_head(torch.cat(fused))
    for found, expected in zip(given["feature"], (mean, variance), strict=True):
        torch.testing.assert_close(found, expected.movedim(1, -1).flatten(0, 2))


@pytest.mark.parametrize("progress", [0.2, 0.5, 0.9])
def test_the_contrasts_weight_falls(progress):
    first = make("prcl").losses(make_batch(), 0.0)
    later = make("prcl").losses(make_batch(), progress)
    expected = math.exp(-5 * progress**2)
    assert (later["contrast"] / first["contrast"]).item() == pytest.approx(expected, rel=1e-4)
    assert later["unsupervised"].item() == pytest.approx(first["unsupervised"].item(), rel=1e-5)


def test_the_temperature_leaves_the_contrast_near_that_of_a_guess():
    contrast = make("prcl").losses(make_batch(), 0.0)["contrast"].item()
    assert contrast == pytest.approx(math.log(1 + 16), abs=0.05)


class Constant(torch.nn.Module):
    def forward(self, feature):
        return torch.full_like(feature[:, :8], 0.5)


def test_without_a_contrast_or_with_one_variance_for_all_it_is_another_method():
    sharp = {"tau": 0.05}
    usual = run_steps(make("prcl", **sharp), 4)[0]
    assert run_steps(make("prcl", **sharp, lambda_c=0.0), 4)[0] != usual
    alike = make("prcl", **sharp)
    alike.variance_head = Constant()
    assert run_steps(alike, 1)[0][0] != pytest.approx(usual[0], rel=1e-3)


def test_the_contrast_teaches_network_and_both_heads_but_no_classifier():
    method = make("prcl")
    method.losses(make_batch(), 0.0)["contrast"].backward()
    for part in (method.mean_head, method.variance_head, method.students["student"].network.trunk):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    assert method.students["student"].network.classifier.weight.grad is None


def test_the_variance_head_has_a_rate_of_its_own():
    method = make("prcl")
    slow = {id(p) for p in method.variance_head.parameters()}
    for group in method.param_groups(0.1):
        assert group["params"]
        assert group["lr_scale"] == (0.015625 if id(group["params"][0]) in slow else 1.0)
        assert len({id(p) in slow for p in group["params"]}) == 1


def test_the_teacher_teaches_and_is_evaluated():
    plain, spoilt = make("prcl"), make("prcl")
    spoil(spoilt.teachers["student"].average.network)
    before, after = (m.losses(make_batch(), 0.0)["unsupervised"] for m in (plain, spoilt))
    assert before != after
    assert plain.predictor() is plain.teachers["student"].average.network
    run_steps(plain, 2)
    pairs = zip(
        plain.predictor().parameters(),
        plain.students["student"].network.parameters(),
        strict=True,
    )
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_labelled_and_mixed_images_pass_apart():
    method, seen = make("prcl"), []
    method.students["student"].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    batch = make_batch()
    method.losses(batch, 0.0)
    assert [len(images) for images in seen] == [2, 2]
    assert torch.equal(seen[0], batch.image_l)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"weak_threshold": 1.2}, r"x\.weak_threshold: 1\.2; expected 0\.0 to 1\.0"),
        ({"tau": 0.0}, r"x\.tau: 0\.0; expected 0\.001 to"),
        ({"negatives": 0}, r"x\.negatives: 0; expected at least 1"),
        ({"variance_lr_scale": -1.0}, r"x\.variance_lr_scale: -1\.0; expected at least 0"),
    ],
)
def test_parameters_out_of_range_are_refused(section, message):
    with pytest.raises(ConfigError, match=message):
        base.resolve("prcl", section, key="x")

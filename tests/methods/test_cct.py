import math
from dataclasses import replace

import pytest
import torch

from pipeline.methods import base, cct
from pipeline.typed import ConfigError
from tests.methods.test_contract import make, make_batch, run_steps
from tests.methods.test_field import padded_batch, slow_distance, spoil

NONE = dict.fromkeys(cct.KINDS, 0)


def test_it_equals_a_slow_loop():
    method, batch = make("cct", **NONE | {"noise": 2}, noise_reach=0.0), padded_batch()
    with torch.no_grad():
        found = method.observe(batch, 0.05).target
        network = method.students["student"]
        output = network(batch.image_u)
        target = output.logits.softmax(dim=1)
        distances = [
            slow_distance(network.upsample(decoder(output.aspp), (32, 32)), target, batch.valid_u)
            for decoder in method.auxiliary.values()
        ]
    ramp = math.exp(-5 * (1 - 0.05 / 0.1) ** 2)
    assert len(distances) == 2
    assert found.item() == pytest.approx(30 / 5 * ramp * sum(distances) / 2, rel=1e-4)


def test_there_are_thirty_decoders_as_published_and_no_two_begin_alike():
    method = make("cct")
    assert len(method.auxiliary) == 30
    weights = [decoder.weight.flatten() for decoder in method.auxiliary.values()]
    assert len({tuple(weight.tolist()) for weight in weights}) == 30


@pytest.mark.parametrize("kind", cct.KINDS)
def test_each_kind_of_perturbation_perturbs(kind):
    method, batch = make("cct", **NONE | {kind: 1}), make_batch()
    high, ((decoder, feature),) = perturbed(method, batch)
    assert decoder is method.auxiliary[f"{kind}0"]
    assert feature.shape == high.shape
    assert not torch.equal(feature, high)


def perturbed(method, batch):
    """Features, and what becomes of them where predictions vary from place to place."""
    network = method.eval().students["student"]
    with torch.no_grad():
        network.classifier.weight.mul_(20)
        output = network(batch.image_u)
        target = output.logits.softmax(dim=1)
        return output.aspp, list(method.perturbed(output.aspp, target, batch))


def test_objects_and_their_context_are_what_each_other_lacks():
    method, batch = make("cct", **NONE | {"mask_objects": 1, "mask_context": 1}), make_batch()
    high, ((_, context), (_, objects)) = perturbed(method, batch)
    torch.testing.assert_close(context + objects, high)


def test_the_main_decoder_is_not_taught():
    """Auxiliary decoders learn from it; trunk and ASPP get their gradient, not its own layers."""
    method = make("cct", **NONE | {"noise": 1})
    method.observe(make_batch(), 1.0).target.backward()
    network = method.students["student"]
    assert network.classifier.weight.grad is None
    assert any(p.grad is not None for p in network.trunk.parameters())
    assert method.auxiliary["noise0"].weight.grad.any()


def test_the_main_prediction_is_what_is_learnt():
    plain, spoilt = (make("cct", **NONE | {"noise": 1}) for _ in range(2))
    spoil(spoilt.students["student"])
    before, after = (m.observe(make_batch(), 1.0).target for m in (plain, spoilt))
    assert after > 1.5 * before


def test_without_perturbations_it_is_another_method():
    usual, without = (
        run_steps(make("cct", **NONE | {"noise": 1}, noise_reach=reach), 3)[0] for reach in (0.3, 0)
    )
    assert usual != without


def test_the_ramp_begins_when_unlabelled_images_join():
    method = make("cct")
    method.unsupervised_from = 0.5
    early, late = (method.losses(make_batch(), p)["unsupervised"].item() for p in (0.5, 0.6))
    assert early == pytest.approx(late * math.exp(-5), rel=1e-3)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (NONE, "x: no auxiliary decoder; expected one of noise, drop_channels"),
        ({"noise": -1}, "x.noise: -1; expected at least 0"),
        ({"drop_prob": 1.5}, "x.drop_prob: 1.5; expected 0.0 to 1.0"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        base.resolve("cct", parameters, key="x")


def test_padding_does_not_count():
    batch = make_batch()
    batch = replace(batch, valid_u=torch.zeros_like(batch.valid_u))
    assert make("cct").observe(batch, 1.0).target == 0

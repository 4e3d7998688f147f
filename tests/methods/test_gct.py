import math

import pytest
import torch

from pipeline.losses.flaw import readable
from pipeline.methods import base
from pipeline.typed import ConfigError
from tests.methods.test_contract import make, make_batch, run_steps
from tests.methods.test_field import padded_batch, passed, slow_distance


def test_its_terms_equal_a_slow_loop():
    method, batch = make("gct", width=4, ramp=0.5), padded_batch()
    method.detector.eval()  # its batch statistics do not move
    seen, outputs, terms = passed(method, batch)
    both = seen.target
    logits = {name: torch.cat([x.logits for x in pair]) for name, pair in outputs.items()}
    probs = {name: value.softmax(dim=1) for name, value in logits.items()}
    with torch.no_grad():
        flaws = {name: method.detector(both.image, prob) for name, prob in probs.items()}
    maps = {name: readable(value) for name, value in flaws.items()}
    ramp = math.exp(-5)
    for name, other in (("first", "second"), ("second", "first")):
        target = torch.empty_like(probs[name])
        corrected, count = 0.0, 0
        for n, y, x in both.valid.nonzero().tolist():
            a, b = (float(maps[key][n, y, x]) for key in (name, other))
            a, b = (1.0 if value > 0.6 else value for value in (a, b))
            source = name if a <= b else other
            target[n, :, y, x] = probs[source][n, :, y, x]
            count += 1
            if a == b == 1.0:
                corrected += float(flaws[name][n, y, x]) ** 2
        distance = slow_distance(logits[name], target, both.valid)
        expected = 100 * ramp / 5 * distance
        assert terms[f"unsupervised_{name}"].item() == pytest.approx(expected, rel=1e-3)
        found = terms[f"unsupervised_{name}_flaws"].item()
        assert found == pytest.approx(corrected / count, rel=1e-3)


def test_the_detector_learns_from_its_own_term_alone_and_teaches_no_weight():
    method, batch = make("gct", width=4), make_batch()
    terms = method.losses(batch, 0.9)
    detector = terms.pop("detector")
    sum(terms.values()).backward(retain_graph=True)
    assert all(p.grad is None for p in method.detector.parameters())
    method.zero_grad()
    detector.backward()
    assert all(p.grad is not None for p in method.detector.parameters())
    assert all(p.grad is None for p in method.students.parameters())


def suspicious(**parameters):
    """A method whose detector sees flaws from the start."""
    method = make("gct", width=4, **parameters)
    with torch.no_grad():
        method.detector.layers[-1].bias.fill_(1.0)
    return method


def test_flaw_correction_reaches_the_networks():
    method = suspicious(lambda_dc=0.0, threshold=0.0)
    terms = method.losses(make_batch(), 0.9)
    flaws = terms["unsupervised_first_flaws"]
    assert flaws > 0
    flaws.backward()
    assert method.students["first"].classifier.weight.grad.any()
    assert method.students["second"].classifier.weight.grad is None


def test_the_detector_learns_where_the_networks_err():
    method, batch = make("gct", width=8, detector_lr_scale=1.0), make_batch()
    optimizer = torch.optim.Adam(method.detector.parameters(), lr=0.01)
    history = []
    for _ in range(15):
        loss = method.losses(batch, 0.0)["detector"]
        history.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert history[-1] < 0.5 * history[0]


def test_without_a_guide_it_is_another_method():
    usual = run_steps(suspicious(), 3)[0]
    assert run_steps(suspicious(lambda_dc=0.0), 3)[0] != usual
    assert run_steps(suspicious(lambda_fc=0.0), 3)[0] != usual


def test_the_detector_has_a_rate_of_its_own():
    scales = {group["lr_scale"] for group in make("gct", width=4).param_groups(0.1)}
    assert scales == {1.0, 0.02}


def test_parameters_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"x\.threshold: 1\.5; expected 0\.0 to 1\.0"):
        base.resolve("gct", {"threshold": 1.5}, key="x")

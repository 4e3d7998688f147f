import math

import pytest
import torch

from pipeline.config import ConfigError
from pipeline.methods import base
from tests.methods.test_contract import make, make_batch, run_steps
from tests.methods.test_field import padded_batch, pixels, slow_cross_entropy, spoil


def test_it_equals_a_slow_loop():
    method = make("ps_mt", threshold=0.3, threshold_negative=0.15, ramp=0.5)
    seen = method.observe(padded_batch(), 0.25)
    terms = method.unsupervised({}, seen)
    prob, logits, _ = seen.target
    positive, negative = [], []
    for n, y, x in pixels(seen.valid_NHW):
        p = prob[n, :, y, x].tolist()
        mine = logits[n, :, y, x].double().softmax(dim=0).tolist()
        if max(p) >= 0.3:
            label = p.index(max(p))
            positive.append(max(p) * slow_cross_entropy(logits, n, y, x, label))
        negative += [-math.log(1 - mine[c]) for c in range(5) if p[c] < 0.15]
    assert 0 < len(positive) < len(pixels(seen.valid_NHW))
    weight = 1.5 * math.exp(-5 * (1 - 0.25 / 0.5) ** 2)
    found = [terms[name].item() for name in ("unsupervised", "unsupervised_negative")]
    expected = [weight * sum(part) / len(part) for part in (positive, negative)]
    assert found == pytest.approx(expected, rel=1e-4)


def test_as_published_no_class_is_pushed_down():
    assert make("ps_mt").losses(make_batch(), 0.9)["unsupervised_negative"] == 0


def test_the_teachers_take_turns():
    method = make("ps_mt", turn=0.25, teacher={"decay": 0.0})

    def followed():
        student = method.students["student"].classifier.weight
        return [
            name
            for name, teacher in method.teachers.items()
            if torch.equal(teacher.average.classifier.weight, student)
        ]

    for progress, expected in ((0.1, "even"), (0.3, "odd"), (0.6, "even"), (0.8, "odd")):
        with torch.no_grad():
            method.students["student"].classifier.weight.add_(1)
        method.after_update(progress)
        assert followed() == [expected]


def test_both_teachers_teach():
    found = []
    for spoilt in (None, "even", "odd"):
        method = make("ps_mt", threshold=0.0)
        if spoilt:
            spoil(method.teachers[spoilt].average)
        found.append(method.losses(make_batch(), 0.9)["unsupervised"].item())
    assert len(set(found)) == 3 or found[1] == pytest.approx(found[2], rel=1e-3)
    assert found[0] != found[1]
    assert found[0] != found[2]


def test_the_noise_is_what_the_teachers_mind():
    method, batch = make("ps_mt"), make_batch()
    with torch.no_grad():
        low, high = method.students["student"].trunk(batch.image_u)
        teacher = method.teachers["even"].average
        size = torch.Size((32, 32))
        prob = teacher.decode(low, high, size).logits.softmax(dim=1)

        def change(noise):
            moved = teacher.decode(low, high + noise, size).logits.softmax(dim=1)
            return (moved - prob).abs().mean().item()

        noise = method.noise_against_the_teachers(low, high, prob, batch)
        lengths = noise.flatten(1).norm(dim=1)
        draw = torch.Generator().manual_seed(0)
        random = torch.randn(noise.shape, generator=draw)
        random *= (lengths / random.flatten(1).norm(dim=1))[:, None, None, None]
    torch.testing.assert_close(lengths, torch.full((2,), 2.0))
    assert change(noise) > 1.5 * change(random)
    assert all(p.grad is None for p in method.parameters())


def test_without_the_noise_it_is_another_method():
    usual, without = (
        run_steps(make("ps_mt", adversarial_size=size, threshold=0.0), 3)[0] for size in (2.0, 0.0)
    )
    assert usual != without


def test_a_turn_takes_time():
    with pytest.raises(ConfigError, match=r"x\.turn: 0\.0; expected 1e-06 to 1\.0"):
        base.resolve("ps_mt", {"turn": 0.0}, key="x")

import math

import pytest
import torch

from pipeline.methods import base
from pipeline.typed import ConfigError
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
    weight = 1.5 * 0.5
    found = [terms[name].item() for name in ("unsupervised", "unsupervised_negative")]
    expected = [weight * sum(part) / len(part) for part in (positive, negative)]
    assert found == pytest.approx(expected, rel=1e-4)


def test_as_published_no_class_is_pushed_down():
    assert make("ps_mt").losses(make_batch(), 0.9)["unsupervised_negative"] == 0


def test_the_teachers_take_turns():
    method = make("ps_mt", turn=0.25, teacher={"decay": 0.0})
    method.after_update(0.0)  # both

    def followed():
        student = method.students["student"].classifier.weight
        return [
            name
            for name, teacher in method.teachers.items()
            if torch.equal(teacher.average.classifier.weight, student)
        ]

    for progress, expected in ((0.3, "odd"), (0.6, "even"), (0.8, "odd")):
        with torch.no_grad():
            method.students["student"].classifier.weight.add_(1)
        method.after_update(progress)
        assert followed() == [expected]


def test_both_follow_before_there_is_something_to_teach():
    method = make("ps_mt", turn=0.1, teacher={"decay": 0.0})
    method.unsupervised_from = 0.3
    for progress, expected in ((0.05, 2), (0.25, 2), (0.35, 1)):
        with torch.no_grad():
            method.students["student"].classifier.weight.add_(1)
        method.after_update(progress)
        student = method.students["student"].classifier.weight
        weights = [teacher.average.classifier.weight for teacher in method.teachers.values()]
        assert sum(torch.equal(weight, student) for weight in weights) == expected


@pytest.mark.parametrize("name", ["even", "odd"])
def test_both_teachers_teach(name):
    found = []
    for spoilt in (False, True):
        method = make("ps_mt", threshold=0.0)
        if spoilt:
            spoil(method.teachers[name].average)
        found.append(method.losses(make_batch(), 0.9)["unsupervised"].item())
    assert found[0] != found[1]


def test_the_first_teacher_is_evaluated():
    method = make("ps_mt")
    assert method.predictor() is method.teachers["even"].average


def test_the_noise_is_what_the_teachers_mind():
    method, batch = make("ps_mt"), make_batch()
    with torch.no_grad():
        method.teachers["odd"].average.classifier.weight.mul_(0.5)
        student = method.students["student"]
        low, high = student.trunk(batch.image_u)
        fused = student.fuse(student.aspp(high), low)
        networks = [teacher.average for teacher in method.teachers.values()]
        size = torch.Size((32, 32))

        def say(feature):
            return sum(each.classify(feature, size)[0] for each in networks) / 2

        def change(noise):
            log_prob = say(fused + noise).log_softmax(dim=1)
            return torch.nn.functional.kl_div(
                log_prob, say(fused).softmax(dim=1), reduction="batchmean"
            ).item()

        noise = method.noise_against_the_teachers(fused, batch)
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

import math

import pytest
import torch

from pipeline.losses import probabilistic
from pipeline.losses.probabilistic import (
    Gaussians,
    categorical,
    draws,
    mutual_likelihood,
    negative_classes,
    probabilistic_contrast,
    prototypes,
    share_weighted_cross_entropy,
)
from pipeline.losses.segmentation import PseudoLabel, hard_cross_entropy

SIZES = {"queries": 3, "negatives": 4}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussians(num=24, dim=5, seed=0, dtype=torch.float64):
    mean = 2 * torch.randn(num, dim, generator=rng(seed), dtype=dtype)
    return Gaussians(mean, 0.05 + torch.rand(num, dim, generator=rng(seed + 1), dtype=dtype))


def labels(num=24, num_classes=4, seed=3):
    return torch.randint(num_classes, (num,), generator=rng(seed))


def hard(num=24, seed=4):
    return torch.rand(num, generator=rng(seed)) < 0.5


def contrast(feature, label, hard, *, num_classes=5, tau=0.7, seed=9, **sizes):
    return probabilistic_contrast(
        feature, label, hard, num_classes=num_classes, tau=tau, generator=rng(seed), **SIZES | sizes
    )


def slow_score(one, other):
    """Of lists of (mean, variance), one a dimension; means brought to length 1."""
    lengths = [math.sqrt(sum(m * m for m, _ in each)) for each in (one, other)]
    total = 0.0
    for (m, v), (n, w) in zip(one, other, strict=True):
        distance = (m / lengths[0] - n / lengths[1]) ** 2
        total += distance / (v + w) + math.log(v + w)
    return -0.5 * total / len(one)


def slow_prototype(members):
    """Of a class's features, as `slow_score` has them."""
    result = []
    for dimension in zip(*members, strict=True):
        precision = sum(1 / v for _, v in dimension)
        result.append((sum(m / v for m, v in dimension) / precision, 1 / precision))
    return result


def rows(feature):
    pairs = zip(feature.mean.tolist(), feature.variance.tolist(), strict=True)
    return [list(zip(*pair, strict=True)) for pair in pairs]


def test_all_pixels_learn_as_much_as_their_image_is_sure():
    logits = torch.randn(2, 3, 2, 3, generator=rng())
    label = torch.randint(3, (2, 2, 3), generator=rng(1))
    confidence = torch.tensor([[[0.9, 0.97, 0.99], [0.5, 0.98, 0.2]], [[0.1] * 3, [0.2] * 3]])
    valid = torch.ones_like(label, dtype=torch.bool)
    valid[0, 1, 1:] = False  # one sure, one not
    found, share = share_weighted_cross_entropy(
        logits, PseudoLabel(label, confidence), valid, threshold=0.97
    )
    assert share.tolist() == pytest.approx([2 / 4, 0])
    first = hard_cross_entropy(logits[:1], label[:1], valid[:1])
    assert found.item() == pytest.approx(0.5 * first.item() * 4 / 10)
    none, share = share_weighted_cross_entropy(
        logits, PseudoLabel(label, confidence), valid & ~valid, threshold=0.0
    )
    assert none == 0
    assert share.tolist() == [0, 0]


def test_the_score_worked_by_hand():
    one = Gaussians(torch.tensor([1.0, 0.0]), torch.tensor([0.25, 0.5]))
    other = Gaussians(torch.tensor([0.0, 1.0]), torch.tensor([0.75, 1.5]))
    # distances 1 / 1 and 1 / 2, logarithms 0 and log 2
    expected = -0.5 * (1 + 0.5 + math.log(2)) / 2
    assert mutual_likelihood(one, other).item() == pytest.approx(expected)
    assert mutual_likelihood(other, one).item() == pytest.approx(expected)
    itself = mutual_likelihood(one, one).item()
    assert itself == pytest.approx(-0.25 * (math.log(0.5) + math.log(1.0)))


def test_the_score_is_the_likelihood_that_both_are_one_point():
    x = torch.linspace(-20, 20, 20001, dtype=torch.float64)
    one = Gaussians(torch.tensor([0.3]).double(), torch.tensor([0.8]).double())
    other = Gaussians(torch.tensor([-0.6]).double(), torch.tensor([1.7]).double())
    densities = [
        (-((x - g.mean) ** 2) / (2 * g.variance)).exp() / (2 * math.pi * g.variance).sqrt()
        for g in (one, other)
    ]
    integral = torch.trapezoid(densities[0] * densities[1], x)
    expected = integral.log().item() + 0.5 * math.log(2 * math.pi)
    assert mutual_likelihood(one, other).item() == pytest.approx(expected, rel=1e-9)


def test_an_ambiguous_feature_is_pulled_less():
    target = Gaussians(torch.tensor([0.0, 1.0]), torch.tensor([0.1, 0.1]))
    pulls = []
    for variance in (0.1, 0.5, 2.0):
        mean = torch.tensor([1.0, 0.0], requires_grad=True)
        mutual_likelihood(Gaussians(mean, torch.full((2,), variance)), target).backward()
        pulls.append(mean.grad.abs().sum().item())
    assert pulls[0] > 2 * pulls[1] > 4 * pulls[2]


def test_a_prototype_worked_by_hand():
    feature = Gaussians(torch.tensor([[0.0], [4.0], [7.0]]), torch.tensor([[1.0], [3.0], [0.5]]))
    found = prototypes(feature, torch.tensor([2, 2, 0]), num_classes=3)
    # precisions 1 and 1/3: variance 3/4, mean 3/4 of 4/3
    torch.testing.assert_close(found.variance, torch.tensor([[0.5], [1.0], [0.75]]))
    torch.testing.assert_close(found.mean, torch.tensor([[7.0], [0.0], [1.0]]))


def test_prototypes_equal_a_slow_loop_and_get_no_gradient():
    feature, label = gaussians(), labels()
    feature.mean.requires_grad_()
    found = prototypes(feature, label, num_classes=5)
    assert not found.mean.requires_grad
    every = rows(feature.detach())
    for c in range(4):
        members = [row for row, of in zip(every, label.tolist(), strict=True) if of == c]
        for d, (mean, variance) in enumerate(slow_prototype(members)):
            assert found.mean[c, d].item() == pytest.approx(mean)
            assert found.variance[c, d].item() == pytest.approx(variance)
    assert found.mean[4].eq(0).all()
    assert found.variance[4].eq(1).all()


@pytest.mark.parametrize("tau", [0.7, 100.0])
def test_the_contrast_equals_a_slow_loop(tau):
    """All draws follow from the same uniform numbers, one by one."""
    feature, label, queries = gaussians(), labels(), hard()
    queries &= label != 2  # present, but without a query
    found = contrast(feature, label, queries, tau=tau)
    every, of = rows(feature), label.tolist()
    pixels = {c: [p for p in range(24) if of[p] == c] for c in range(4)}
    hards = {c: [p for p in pixels[c] if queries[p]] for c in range(4)}
    assert all(pixels.values())
    assert [len(hards[c]) > 0 for c in range(4)] == [True, True, False, True]
    prototype = {c: slow_prototype([every[p] for p in pixels[c]]) for c in range(4)}
    first, classes, places = draws(3, 3, 4, rng(9), torch.device("cpu"))
    total = 0.0
    for k, c in enumerate((0, 1, 3)):
        others = [e for e in range(4) if e != c]
        odds = [math.exp(slow_score(prototype[c], prototype[e]) / tau) for e in others]
        for a in range(3):
            query = every[hards[c][int(first[k, a] * len(hards[c]))]]
            scores = [slow_score(query, prototype[c]) / tau]
            for b in range(4):
                rest = float(classes[k, a, b]) * sum(odds)
                index = 0
                while rest >= odds[index]:
                    rest -= odds[index]
                    index += 1
                negative = pixels[others[index]]
                place = negative[int(places[k, a, b] * len(negative))]
                scores.append(slow_score(query, every[place]) / tau)
            total += math.log(sum(math.exp(s - scores[0]) for s in scores)) / 3
    assert found.item() == pytest.approx(total / 4, rel=1e-6)


def test_only_queries_get_gradient_of_mean_and_variance():
    feature, label, queries = gaussians(), labels(), hard()
    for value in feature:
        value.requires_grad_()
    contrast(feature, label, queries, queries=200).backward()
    for value in feature:
        moved = value.grad.abs().sum(dim=1) > 0
        assert torch.equal(moved, queries)


def test_the_gradient_of_a_query_is_right_while_its_prototype_is_held(monkeypatch):
    label, fixed = torch.tensor([0, 0, 0, 1, 1, 2]), gaussians(6, 3)
    queries = torch.tensor([True] + [False] * 5)
    held = prototypes(fixed, label, num_classes=3)
    monkeypatch.setattr(probabilistic, "prototypes", lambda *_, **__: held)

    def loss(mean, variance):
        feature = Gaussians(
            torch.cat([mean, fixed.mean[1:]]), torch.cat([variance, fixed.variance[1:]])
        )
        return contrast(feature, label, queries, num_classes=3)

    start = gaussians(1, 3, seed=20)
    assert torch.autograd.gradcheck(loss, [value.requires_grad_() for value in start])


@pytest.mark.parametrize("values", [1, 64, 2**21])
def test_how_much_is_compared_at_once_changes_nothing(monkeypatch, values):
    results = []
    for limit in (probabilistic.VALUES, values):
        monkeypatch.setattr(probabilistic, "VALUES", limit)
        feature = gaussians()
        for value in feature:
            value.requires_grad_()
        loss = contrast(feature, labels(), hard())
        results.append([loss, *torch.autograd.grad(loss, feature)])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    ("label", "queries"), [([1, 1, 1], [True] * 3), ([0, 1, 1], [False] * 3), ([], [])]
)
def test_without_queries_or_with_one_class_there_is_nothing_to_learn(label, queries):
    feature = gaussians(len(label))
    for value in feature:
        value.requires_grad_()
    found = contrast(feature, torch.tensor(label).long(), torch.tensor(queries).bool())
    found.backward()
    assert found == 0
    assert all(not value.grad.any() for value in feature)


def test_queries_descend_to_their_class_and_grow_sure():
    feature, label = gaussians(), labels()
    mean = feature.mean.clone().requires_grad_()
    free = feature.variance.logit().clamp(-2, 2).nan_to_num(0).requires_grad_()
    optimizer = torch.optim.SGD([mean, free], lr=2.0)
    history = []
    for seed in range(60):
        moved = Gaussians(mean, free.sigmoid())
        loss = contrast(
            moved, label, torch.ones_like(label).bool(), tau=0.1, seed=seed, queries=32, negatives=8
        )
        history.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(history[-5:]) < 0.5 * sum(history[:5])


def test_a_class_is_drawn_as_often_as_it_is_likely():
    prob = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0], [0.5, 0.0, 0.0, 0.0, 0.5]])
    drawn = torch.rand(2, 40, 100, generator=rng())
    drawn[:, 0, 0], drawn[:, 0, 1] = 0.0, 1 - 2**-24
    found = categorical(prob, drawn)
    assert found.shape == (2, 40, 100)
    for row, expected in zip(found, prob, strict=True):
        share = torch.bincount(row.flatten(), minlength=5) / 4000
        assert share[expected == 0].eq(0).all()
        assert share.tolist() == pytest.approx(expected.tolist(), abs=0.03)


def test_negatives_are_of_other_classes_and_oftener_of_those_alike():
    mean = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [1.0, 0.0]])
    prototype = Gaussians(mean, torch.full((4, 2), 0.1)).directed()
    present = torch.tensor([True, True, True, False])
    found = negative_classes(prototype, present, torch.tensor([0, 2]), tau=0.5)
    assert found.sum(dim=1).tolist() == pytest.approx([1, 1])
    assert found[0, 0] == found[1, 2] == found[:, 3].sum() == 0
    assert found[0, 1] > 3 * found[0, 2] > 0
    flat = negative_classes(prototype, present, torch.tensor([0]), tau=1e6)
    assert flat[0].tolist() == pytest.approx([0, 0.5, 0.5, 0], abs=1e-4)


def test_which_pixels_are_drawn_follows_from_the_generator_alone():
    feature, label, queries = gaussians(dtype=torch.float32), labels(), hard()
    assert contrast(feature, label, queries) == contrast(feature, label, queries)
    assert contrast(feature, label, queries) != contrast(feature, label, queries, seed=10)

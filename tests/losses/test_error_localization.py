import math

import pytest
import torch

from pipeline.losses.error_localization import class_contrast, localization_loss, window_contrast


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_localization_worked_by_hand():
    score = torch.tensor([[[0.0, 0.0, math.log(3), 9.0]]])
    right = torch.tensor([[[True, True, False, True]]])
    counted = torch.tensor([[[True, True, True, False]]])
    # two right ones of log 2; the one wrong, of -log(1 - 3/4), weighs as two
    expected = (2 * math.log(2) + 2 * math.log(4)) / 3
    assert localization_loss(score, right, counted).item() == pytest.approx(expected)


def test_localization_equals_a_slow_loop():
    score = torch.randn(2, 5, 7, generator=rng(), dtype=torch.float64)
    right = torch.rand(2, 5, 7, generator=rng(1)) < 0.8
    counted = torch.rand(2, 5, 7, generator=rng(2)) < 0.9
    losses = {True: [], False: []}
    for place in counted.nonzero().tolist():
        z, is_right = float(score[tuple(place)]), bool(right[tuple(place)])
        prob = 1 / (1 + math.exp(-z))
        losses[is_right].append(-math.log(prob if is_right else 1 - prob))
    weight = len(losses[True]) / len(losses[False])
    assert weight > 2
    expected = (sum(losses[True]) + weight * sum(losses[False])) / int(counted.sum())
    assert localization_loss(score, right, counted).item() == pytest.approx(expected)


@pytest.mark.parametrize("is_right", [True, False])
def test_localization_without_errors_or_without_labels_is_finite(is_right):
    score = torch.randn(1, 3, 3, generator=rng(), requires_grad=True)
    right = torch.full((1, 3, 3), is_right)
    loss = localization_loss(score, right, right | ~right)
    assert (loss > 0) == is_right
    loss.backward()
    assert torch.isfinite(score.grad).all()
    assert localization_loss(score, right, right & ~right) == 0


def test_localization_is_wide_and_right_in_its_gradient():
    score = torch.randn(1, 3, 4, generator=rng(), dtype=torch.float64, requires_grad=True)
    right = torch.rand(1, 3, 4, generator=rng(1)) < 0.6
    counted = torch.rand(1, 3, 4, generator=rng(2)) < 0.8
    assert torch.autograd.gradcheck(lambda x: localization_loss(x, right, counted), score)
    assert localization_loss(score.bfloat16(), right, counted).dtype == torch.float32


def slow_contrast(query, key, label, tau):
    """As the code of the method adds it up: class by class."""
    classes = sorted({c for c in label.tolist() if c != 255})
    total = 0.0
    for c in classes:
        same = other = 0.0
        mine = [p for p, each in enumerate(label.tolist()) if each == c]
        for p in mine:
            for j, each in enumerate(label.tolist()):
                if each == 255:
                    continue
                cosine = float(torch.cosine_similarity(query[p], key[j], dim=0))
                if each == c:
                    same += math.exp(cosine / tau)
                else:
                    other += math.exp(cosine / tau)
        total += -math.log(same / (same + other)) / len(mine)
    return total / len(classes)


def features(num=40, dim=6, classes=5):
    query, key = torch.randn(2, num, dim, generator=rng(), dtype=torch.float64)
    label = torch.randint(classes, (num,), generator=rng(1))
    label[label == 3] = 255
    return query, key, label


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_the_contrast_equals_a_slow_loop(tau):
    query, key, label = features()
    found = class_contrast(query, key, label, num_classes=5, tau=tau)
    assert found.item() == pytest.approx(slow_contrast(query, key, label, tau))


def test_the_contrast_worked_by_hand():
    query = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    key = torch.tensor([[5.0, 0.0], [-1.0, 0.0]])
    label = torch.tensor([1, 0])
    # class 1: cosines 1 with its own key, -1 with the other's; class 0: 0 with both
    own = math.log(1 + math.exp(-2 / 0.5))
    found = class_contrast(query, key, label, num_classes=2, tau=0.5)
    assert found.item() == pytest.approx((own + math.log(2)) / 2)


def test_the_contrast_teaches_the_keys_alone():
    query, key, label = (x.requires_grad_(x.is_floating_point()) for x in features())
    class_contrast(query, key, label, num_classes=5, tau=0.5).backward()
    assert query.grad is None
    assert key.grad[label != 255].abs().sum(dim=1).min() > 0
    assert not key.grad[label == 255].any()
    query = query.detach()
    assert torch.autograd.gradcheck(
        lambda x: class_contrast(query, x, label, num_classes=5, tau=0.5), key
    )


@pytest.mark.parametrize("label", [255, 2])
def test_the_contrast_of_one_class_or_none_is_nothing(label):
    query, key, _ = features()
    key.requires_grad_()
    labels = torch.full((40,), label)
    loss = class_contrast(query, key, labels, num_classes=5, tau=0.05)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert key.grad.abs().max() < 1e-12


def test_the_contrast_stays_finite_in_half_precision_and_at_the_least_tau():
    query, key, label = features()
    with torch.autocast("cpu", torch.bfloat16):
        loss = class_contrast(query.bfloat16(), key.bfloat16(), label, num_classes=5, tau=0.05)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_contrast(query, key, label, 0.05), rel=0.05)
    query = query.float()
    assert torch.isfinite(class_contrast(query, -query, label, num_classes=5, tau=0.05))


def test_windows_lie_inside_and_pair_what_is_at_the_same_place(monkeypatch):
    """Features that are the cells' own places are equal in queries, keys and labels."""
    seen = []
    monkeypatch.setattr(
        "pipeline.losses.error_localization.class_contrast",
        lambda query, key, label, **_: seen.append((query, key, label)) or torch.zeros(()),
    )
    place = torch.arange(2 * 6 * 9).view(2, 6, 9)
    feature = place[:, None].float()
    window_contrast(
        feature, feature, place, num_classes=3, tau=0.5, windows=60, side=4, generator=rng()
    )
    corners = set()
    for query, key, label in seen:
        assert torch.equal(query, key)
        assert torch.equal(query[:, 0].long(), label)
        one, two = label.view(2, 4, 4)
        assert torch.equal(one + 54, two)
        assert torch.equal(one - one[0, 0], place[0, :4, :4])
        corners.add(int(one[0, 0]))
    assert corners == {9 * y + x for y in range(3) for x in range(6)}


def test_a_window_is_cut_to_a_smaller_image():
    query, key, label = features(num=24)
    label = label.view(1, 4, 6)
    query, key = (x.T.reshape(1, 6, 4, 6) for x in (query, key))
    found = window_contrast(
        query, key, label, num_classes=5, tau=0.5, windows=3, side=32, generator=rng()
    )
    flat = [x.movedim(1, -1).flatten(0, 2) for x in (query, key)]
    assert found.item() == pytest.approx(slow_contrast(*flat, label.flatten(), 0.5))

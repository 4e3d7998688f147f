import math

import pytest
import torch

from pipeline.losses.directional import directional_contrast, surer


def test_it_equals_a_slow_loop():
    draw = torch.Generator().manual_seed(0)
    feature, target = torch.randn(2, 6, 4, generator=draw)
    negative = torch.randn(9, 4, generator=draw)
    label, classes = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 1, 2, 255, 0, 1, 2, 0, 1])

    def cosine(a, b):
        return float(torch.nn.functional.cosine_similarity(a, b, dim=0))

    expected = 0.0
    for p in range(6):
        positive = math.exp(cosine(feature[p], target[p]) / 0.1)
        others = sum(
            math.exp(cosine(feature[p], negative[m]) / 0.1)
            for m in range(9)
            if classes[m] != label[p] and classes[m] != 255
        )
        expected -= math.log(positive / (positive + others)) / 6
    found = directional_contrast(feature, target, label, negative, classes, tau=0.1)
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_only_the_learner_gets_gradient():
    draw = torch.Generator().manual_seed(0)
    feature, target = (torch.randn(3, 4, generator=draw).requires_grad_() for _ in range(2))
    negative = torch.randn(5, 4, generator=draw).requires_grad_()
    classes = torch.zeros(5, dtype=torch.int64)
    directional_contrast(
        feature, target, torch.ones(3).long(), negative, classes, tau=0.1
    ).backward()
    assert feature.grad.any()
    assert target.grad is None
    assert negative.grad is None


def test_nothing_to_learn_is_nothing():
    feature = torch.randn(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    loss = directional_contrast(
        feature, feature, none, torch.randn(5, 4), torch.zeros(5).long(), tau=1
    )
    loss.backward()
    assert loss == 0
    alone = directional_contrast(
        torch.ones(1, 4), torch.ones(1, 4), torch.tensor([0]), torch.ones(5, 4),
        torch.zeros(5).long(), tau=1.0,
    )  # fmt: skip
    assert alone.item() == pytest.approx(0)


def test_gradients_are_right():
    draw = torch.Generator().manual_seed(0)
    feature = torch.randn(3, 4, generator=draw, dtype=torch.float64).requires_grad_()
    target, negative = torch.randn(2, 3, 4, generator=draw, dtype=torch.float64)
    label = torch.tensor([0, 1, 2])
    assert torch.autograd.gradcheck(
        lambda f: directional_contrast(f, target, label, negative, label, tau=0.5), feature
    )


def test_who_is_surer_worked_by_hand():
    own, other = torch.tensor([0.5, 0.8, 0.9, 0.2]), torch.tensor([0.8, 0.9, 0.8, 0.7])
    assert surer(own, other, threshold=0.75).tolist() == [True, True, False, False]

import numpy as np
import pytest
import torch

from pipeline.losses.image_level import (
    activation_maps,
    calibrated_mean,
    classes_in,
    sharpen,
    soft_cross_entropy,
)
from pipeline.losses.segmentation import cross_entropy
from pipeline.seeding import stream


def drawn(*shape, name="drawn"):
    return torch.randn(*shape, generator=stream(0, name), dtype=torch.float64)


def test_the_classes_of_an_image_worked_by_hand():
    label = torch.tensor([[[0, 255], [2, 2]], [[1, 1], [1, 1]], [[255, 255], [255, 255]]])
    assert classes_in(label, num_classes=3).tolist() == [
        [True, False, True],
        [False, True, False],
        [False, False, False],
    ]


def grad_cam(feature, classify, present):
    """As published: each class's gradient, averaged over the places, weights the channels."""
    feature = feature.detach().requires_grad_()
    logits = classify(feature.mean(dim=(2, 3)))
    maps = []
    for c in range(logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, c].sum(), feature, retain_graph=True)
        weight = gradient.mean(dim=(2, 3), keepdim=True)
        maps.append((weight * feature).sum(dim=1).relu())
    maps = torch.stack(maps, dim=1).detach() * present[..., None, None]
    highest = maps.amax(dim=(2, 3), keepdim=True)
    return torch.where(highest > 0, maps / highest.clamp(min=1e-5), 0.0)


def test_an_activation_map_is_grad_cam_of_a_classifier_of_the_mean():
    feature = drawn(3, 7, 4, 5)
    classifier = torch.nn.Linear(7, 4).double()
    present = torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 0, 0]]).bool()
    found = activation_maps(feature, classifier.weight, present)
    torch.testing.assert_close(found, grad_cam(feature, classifier, present))
    assert found.amax() == 1
    assert not found.requires_grad


def test_activation_maps_worked_by_hand():
    feature = torch.tensor([[[[1.0, 4.0]], [[2.0, 0.0]]]])  # two channels, two places
    weight = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, 1.0]])
    present = torch.tensor([[True, True, True, False]])
    expected = torch.tensor([[[[0.25, 1.0]], [[1.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]]])
    torch.testing.assert_close(activation_maps(feature, weight, present), expected)


def test_next_to_nothing_is_not_blown_up():
    feature = torch.full((1, 1, 2, 2), 1e-6)
    found = activation_maps(feature, torch.ones(1, 1), torch.tensor([[True]]))
    torch.testing.assert_close(found, torch.full_like(found, 0.025))  # 1e-6 / 4 by 1e-5


def slow_mean(first, second):
    """One root mean square for everything; then two softmax a pixel, and their mean."""
    values = np.concatenate([first.ravel(), second.ravel()])
    scale = 1 / np.sqrt(np.mean(values**2) + 1e-8)
    mean = np.zeros_like(first)
    for n, y, x in np.ndindex(first.shape[0], *first.shape[2:]):
        for logits in (first, second):
            power = np.exp(logits[n, :, y, x] * scale)
            mean[n, :, y, x] += power / power.sum() / 2
    return mean


def test_the_calibrated_mean_equals_a_slow_loop():
    first, second = drawn(2, 3, 4, 5), 6 * drawn(2, 3, 4, 5, name="other")
    found = calibrated_mean(first, second)
    np.testing.assert_allclose(found.numpy(), slow_mean(first.numpy(), second.numpy()))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(2, 4, 5, dtype=torch.float64))
    torch.testing.assert_close(calibrated_mean(second, first), found)


def test_how_large_logits_are_does_not_matter_but_how_large_by_the_other_does():
    first, second = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, name="other")
    found = calibrated_mean(first, second)
    torch.testing.assert_close(calibrated_mean(50 * first, 50 * second), found)
    assert (calibrated_mean(50 * first, second) - found).abs().max() > 0.05
    assert torch.isfinite(calibrated_mean(0 * first, 0 * second)).all()


def test_sharpening_worked_by_hand():
    prob = torch.tensor([0.5, 0.3, 0.2, 0.0]).view(1, 4, 1, 1)
    expected = torch.tensor([25 / 38, 9 / 38, 4 / 38, 0.0]).view(1, 4, 1, 1)
    torch.testing.assert_close(sharpen(prob, temperature=0.5), expected)
    torch.testing.assert_close(sharpen(prob, temperature=1.0), prob)


def test_cross_entropy_with_soft_labels_equals_a_slow_loop():
    logits, target = drawn(2, 3, 4, 5), drawn(2, 3, 4, 5, name="other").softmax(dim=1)
    learnt, valid = drawn(2, 4, 5, name="learnt") > -0.5, drawn(2, 4, 5, name="valid") > -0.5
    total = 0.0
    for n, y, x in (learnt & valid).nonzero().tolist():
        z = logits[n, :, y, x].numpy()
        total += float(target[n, :, y, x].numpy() @ (np.log(np.exp(z).sum()) - z))
    found = soft_cross_entropy(logits, target, learnt, valid)
    assert found.item() == pytest.approx(total / int(valid.sum()))


def test_with_certain_labels_it_is_plain_cross_entropy():
    logits, label = drawn(2, 3, 4, 5), torch.randint(3, (2, 4, 5), generator=stream(0, "label"))
    target = torch.nn.functional.one_hot(label, 3).movedim(-1, 1).double()
    every = torch.ones_like(label, dtype=torch.bool)
    found = soft_cross_entropy(logits, target, every, every)
    torch.testing.assert_close(found, cross_entropy(logits, label))


def test_only_logits_get_a_gradient_and_nothing_learnt_gives_none():
    logits, target = drawn(1, 3, 2, 2).requires_grad_(), drawn(1, 3, 2, 2, name="other")
    target = target.softmax(dim=1).requires_grad_()
    every = torch.ones(1, 2, 2, dtype=torch.bool)
    assert torch.autograd.gradcheck(
        lambda z: soft_cross_entropy(z, target.detach(), every, every), logits
    )
    soft_cross_entropy(logits, target, every, every).backward()
    assert target.grad is None
    logits.grad = None
    for learnt, valid in ((~every, every), (every, ~every)):
        loss = soft_cross_entropy(logits, target, learnt, valid)
        loss.backward()
        assert loss == 0
        assert not logits.grad.any()


def test_half_precision_is_widened():
    first = drawn(1, 3, 2, 2).bfloat16()
    every = torch.ones(1, 2, 2, dtype=torch.bool)
    mean = calibrated_mean(first, first)
    assert mean.dtype == soft_cross_entropy(first, mean, every, every).dtype == torch.float32
    maps = activation_maps(first, torch.ones(2, 3), torch.ones(1, 2, dtype=torch.bool))
    assert maps.dtype == torch.float32

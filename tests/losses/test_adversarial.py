import pytest
import torch
import torch.nn.functional as F

from pipeline.losses.adversarial import feature_matching, mean_of, real_or_fake

ALL = torch.ones(2, dtype=torch.bool)
ONE, NONE = torch.tensor([False, True]), ~ALL


def test_the_mean_is_of_the_counted_images():
    value = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    assert mean_of(value, ALL).tolist() == [2, 4]
    assert mean_of(value, ONE).tolist() == [3, 6]
    assert mean_of(value, NONE).tolist() == [0, 0]
    assert mean_of(value.bfloat16(), ALL).dtype == torch.float32


def test_feature_matching_worked_by_hand():
    real = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    fake = torch.tensor([[0.0, 5.0], [2.0, 9.0]])
    # means (2, 4) and (1, 7)
    assert feature_matching(real, fake, ALL, ALL) == (1 + 3) / 2
    # (3, 6) and (1, 7)
    assert feature_matching(real, fake, ONE, ALL) == (2 + 1) / 2
    assert feature_matching(real, fake, ALL, NONE) == 0
    assert feature_matching(real, fake, NONE, ALL) == 0


def test_feature_matching_moves_predictions_alone():
    real, fake = (torch.rand(2, 3, requires_grad=True) for _ in range(2))
    feature_matching(real, fake, ALL, ONE).backward()
    assert real.grad is None
    assert fake.grad[1].all()
    assert not fake.grad[0].any()


def test_the_discriminators_loss_is_binary_cross_entropy():
    real, fake = torch.tensor([0.5, -1.0]), torch.tensor([2.0, -0.3])
    expected = F.binary_cross_entropy(real.sigmoid(), torch.ones(2)) / 2
    expected += F.binary_cross_entropy(fake.sigmoid(), torch.zeros(2)) / 2
    assert real_or_fake(real, fake, ALL, ALL).item() == pytest.approx(expected.item())
    only = F.binary_cross_entropy(fake[1:].sigmoid(), torch.zeros(1)) / 2
    assert real_or_fake(real, fake, NONE, ONE).item() == pytest.approx(only.item())


def test_gradients_are_right():
    draw = torch.Generator().manual_seed(0)
    real, fake = (
        torch.randn(2, 3, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(2)
    )
    assert torch.autograd.gradcheck(lambda x: feature_matching(real, x, ALL, ONE), fake)

import torch

from pipeline.losses.stability import change, stable, taught


def logits(*probs):
    """[1, C, 1, P] logits of so many distributions."""
    return torch.tensor(probs).log().T[None, :, None]


def test_who_is_stable_worked_by_hand():
    # sure twice; sure at the first; sure at the second; never sure; sure of another class
    warped = logits((0.9, 0.1), (0.9, 0.1), (0.6, 0.4), (0.7, 0.3), (0.9, 0.1))
    plain = logits((0.95, 0.05), (0.6, 0.4), (0.9, 0.1), (0.7, 0.3), (0.1, 0.9))
    assert stable(warped, plain, threshold=0.8).tolist() == [[[True, True, True, False, False]]]


def test_to_be_as_sure_as_the_threshold_is_not_enough():
    half = torch.zeros(1, 2, 1, 1)
    assert not stable(half, half, threshold=0.5).any()


def test_change_worked_by_hand():
    warped = torch.tensor([[[[1.0]], [[4.0]]]])
    plain = torch.tensor([[[[3.0]], [[1.0]]]])
    assert change(warped, plain).tolist() == [[[(2**2 + 3**2) / 2]]]
    assert change(warped.bfloat16(), plain).dtype == torch.float32


def test_who_is_taught_worked_by_hand():
    own = torch.tensor([True, True, True, False, False, True])
    other = torch.tensor([True, True, True, True, False, False])
    own_change = torch.tensor([0.1, 0.3, 0.2, 0.1, 0.9, 0.9])
    other_change = torch.tensor([0.3, 0.1, 0.2, 0.9, 0.1, 0.1])
    found = taught(own, other, own_change, other_change)
    assert found.tolist() == [False, True, True, True, False, False]


def test_nothing_has_a_gradient():
    first, second = torch.randn(2, 1, 3, 2, 2, requires_grad=True)
    assert not stable(first, second, threshold=0.5).requires_grad
    assert not change(first, second).requires_grad

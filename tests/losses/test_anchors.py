import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.losses.anchors import (
    anchor_loss,
    assign_anchors,
    batch_prototypes,
    class_mean,
    optimize_anchors,
    simplex_anchors,
    unit,
    update_prototypes,
)
from tests.reference import contrast as reference

SEEDS = st.integers(0, 2**31 - 1)
REPEAT = settings(deadline=None, max_examples=25)
TRIANGLE = torch.tensor([[1.0, 0.0], [-0.5, math.sqrt(0.75)], [-0.5, -math.sqrt(0.75)]])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def cosines(anchor_CD):
    """Of every two different anchors."""
    num = len(anchor_CD)
    return (anchor_CD @ anchor_CD.T)[~torch.eye(num, dtype=torch.bool)]


def test_unit_vectors_have_length_1_and_zero_stays_zero():
    got = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    torch.testing.assert_close(got, torch.tensor([[0.6, 0.8], [0.0, 0.0]]))
    assert unit(torch.ones(1, 2, dtype=torch.bfloat16)).dtype == torch.float32


def test_anchor_loss_worked_by_hand():
    # of three anchors at 120 degrees, each sees itself at cosine 1 and two at -1/2
    want = math.log(math.exp(1 / 0.5) + 2 * math.exp(-0.5 / 0.5))
    torch.testing.assert_close(anchor_loss(TRIANGLE, tau=0.5), torch.tensor(want))


def test_anchor_loss_agrees_with_the_loop():
    anchor = torch.randn(5, 3, generator=rng(), dtype=torch.float64)
    want = torch.tensor(reference.anchor_loss(anchor, 0.7), dtype=torch.float64)
    torch.testing.assert_close(anchor_loss(anchor, tau=0.7), want)


def test_anchor_loss_gradient_is_right():
    anchor = torch.randn(4, 3, generator=rng(), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: anchor_loss(v, tau=0.5), anchor)


def test_without_unit_length_the_best_anchors_are_all_zero():
    least = anchor_loss(torch.zeros(5, 3), tau=0.5)
    torch.testing.assert_close(least, torch.tensor(math.log(5)))
    for scale in (0.01, 0.1, 1.0):
        assert anchor_loss(scale * torch.randn(5, 3, generator=rng()), tau=0.5) > least


@pytest.mark.parametrize(("num_classes", "dim"), [(2, 1), (3, 2), (5, 4), (4, 9), (21, 256)])
def test_simplex_anchors_are_as_far_apart_as_can_be(num_classes, dim):
    anchor = simplex_anchors(num_classes, dim, generator=rng())
    assert anchor.shape == (num_classes, dim)
    assert anchor.dtype == torch.float32
    torch.testing.assert_close(anchor.norm(dim=1), torch.ones(num_classes))
    want = torch.full((num_classes * (num_classes - 1),), -1 / (num_classes - 1))
    torch.testing.assert_close(cosines(anchor), want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tau", [0.07, 0.5])
@pytest.mark.parametrize(("num_classes", "dim"), [(3, 2), (10, 32), (21, 64)])
def test_optimising_equation_12_finds_the_simplex(num_classes, dim, tau):
    found = optimize_anchors(num_classes, dim, tau=tau, generator=rng(1))
    simplex = simplex_anchors(num_classes, dim, generator=rng(2))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.norm(dim=1), torch.ones(num_classes))
    torch.testing.assert_close(cosines(found), cosines(simplex), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        anchor_loss(found, tau=tau), anchor_loss(simplex, tau=tau), atol=2e-6, rtol=0
    )


def test_optimising_works_where_no_simplex_exists():
    start = unit(torch.randn(6, 3, generator=rng(), dtype=torch.float64))
    found = optimize_anchors(6, 3, tau=0.5, generator=rng())
    assert anchor_loss(found, tau=0.5) < anchor_loss(start, tau=0.5) - 0.01
    # the six corners of an octahedron: every angle is 90 or 180 degrees
    torch.testing.assert_close(cosines(found).sort().values[:6], -torch.ones(6), atol=1e-3, rtol=0)


def test_too_many_simplex_anchors_are_refused():
    with pytest.raises(ValueError, match=r"5 simplex anchors in 3 dimensions; expected at least 4"):
        simplex_anchors(5, 3, generator=rng())


@pytest.mark.parametrize(
    "make", [simplex_anchors, lambda *a, **k: optimize_anchors(*a, tau=1, **k)]
)
def test_the_generator_alone_decides(make):
    assert torch.equal(make(3, 5, generator=rng(4)), make(3, 5, generator=rng(4)))
    assert not torch.allclose(make(3, 5, generator=rng(4)), make(3, 5, generator=rng(5)))


def test_class_means_worked_by_hand():
    value = torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0]])
    mean, present = class_mean(value, torch.tensor([2, 2, 0]), num_classes=3)
    assert mean.tolist() == [[5, 5], [0, 0], [2, 4]]
    assert present.tolist() == [True, False, True]


def test_batch_prototypes_worked_by_hand():
    feature = torch.tensor([[3.0, 4.0], [0.0, 9.0]])
    mean, present = batch_prototypes(feature, torch.tensor([1, 1]), num_classes=2)
    torch.testing.assert_close(mean, torch.tensor([[0.0, 0.0], [0.3, 0.9]]))
    assert present.tolist() == [False, True]


@given(SEEDS, st.integers(0, 12))
@REPEAT
def test_batch_prototypes_agree_with_the_loop(seed, num):
    feature = torch.randn(num, 3, generator=rng(seed), dtype=torch.float64).requires_grad_()
    label = torch.randint(4, (num,), generator=rng(seed))
    mean, present = batch_prototypes(feature, label, num_classes=4)
    want = reference.batch_prototypes(feature, label, 4)
    assert present.tolist() == [prototype is not None for prototype in want]
    assert not mean.requires_grad
    want = torch.tensor([prototype or [0.0] * 3 for prototype in want], dtype=torch.float64)
    torch.testing.assert_close(mean, want)


def test_prototypes_move_as_in_equation_13():
    prototype = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    seen = torch.tensor([True, True, False, False])
    batch = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    present = torch.tensor([True, False, True, False])
    before = prototype.clone()
    got, got_seen = update_prototypes(prototype, seen, batch, present, alpha=0.75)
    # moved; absent and left alone; seen for the first time and taken whole; never seen
    assert got.tolist() == [[0.75, 0.25], [1, 0], [0, 1], [0, 0]]
    assert got_seen.tolist() == [True, True, True, False]
    assert torch.equal(prototype, before)


def test_prototypes_can_be_kept_at_length_1():
    prototype, batch = (
        torch.tensor([[1.0, 0.0], [0.3, 0.0]]),
        torch.tensor([[0.0, 1.0], [0.0, 0.0]]),
    )
    seen, present = torch.tensor([True, True]), torch.tensor([True, False])
    got, _ = update_prototypes(prototype, seen, batch, present, alpha=0.5, normalize=True)
    half = math.sqrt(0.5)
    torch.testing.assert_close(got, torch.tensor([[half, half], [0.3, 0.0]]))


def test_a_class_gets_the_anchor_that_it_is_close_to():
    prototype = TRIANGLE[[2, 0, 1]] * 0.5
    seen = torch.ones(3, dtype=torch.bool)
    assert assign_anchors(TRIANGLE, prototype, seen).tolist() == [2, 0, 1]


def test_the_sum_of_distances_decides_not_the_nearest_anchor():
    anchor = torch.tensor([[0.0], [10.0]])
    prototype = torch.tensor([[1.0], [-9.0]])
    # both are nearest to anchor 0: 1 + 19 against 9 + 9
    seen = torch.ones(2, dtype=torch.bool)
    assert assign_anchors(anchor, prototype, seen).tolist() == [1, 0]


@given(SEEDS, st.integers(2, 5), st.data())
@REPEAT
def test_assignment_is_as_cheap_as_the_best_of_all_permutations(seed, num_classes, data):
    anchor = torch.randn(num_classes, 3, generator=rng(seed))
    prototype = torch.randn(num_classes, 3, generator=rng(seed + 1))
    seen = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=num_classes, max_size=num_classes))
    )
    sigma = assign_anchors(anchor, prototype, seen)
    assert sorted(sigma.tolist()) == list(range(num_classes))
    cost = [
        [math.dist(c.tolist(), v.tolist()) if known else 0.0 for v in anchor]
        for c, known in zip(prototype, seen.tolist(), strict=True)
    ]
    got = sum(row[v] for row, v in zip(cost, sigma.tolist(), strict=True))
    assert got == pytest.approx(reference.least_cost(cost), abs=1e-5)

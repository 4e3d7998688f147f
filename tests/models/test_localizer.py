import copy

import pytest
import torch
from torch import nn

from pipeline.models.deeplab import NetworkFactory
from pipeline.models.localizer import ErrorLocalizer, widen
from tests.prepared import NETWORK


@pytest.fixture
def localizer():
    return ErrorLocalizer(NetworkFactory(NETWORK, 1, 0).network("localizer"), 5)


def inputs(size=(32, 48)):
    draw = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, *size, generator=draw), torch.randn(2, 5, *size, generator=draw)


def test_it_scores_each_pixel_of_images_of_any_size(localizer):
    for size in ((32, 48), (45, 33)):
        assert localizer(*inputs(size)).shape == (2, *size)


def test_its_score_depends_on_image_and_prediction_but_teaches_neither(localizer):
    image, logits = inputs()
    localizer.eval()
    score = localizer(image, logits)
    assert not torch.equal(localizer(1 - image, logits), score)
    assert not torch.equal(localizer(image, -logits), score)
    logits.requires_grad_()
    localizer(image, logits).sum().backward()
    assert logits.grad is None
    assert all(parameter.grad is not None for parameter in localizer.parameters())


def test_it_sees_normalised_image_entropy_and_logits(localizer):
    image, logits = inputs()
    seen = []
    localizer.network.trunk.body.register_forward_hook(lambda _, args, __: seen.append(args[0]))
    localizer(image, logits)
    trunk, prob = localizer.network.trunk, logits.softmax(dim=1)
    torch.testing.assert_close(seen[0][:, :3], (image - trunk.mean) / trunk.std)
    torch.testing.assert_close(seen[0][:, 3], -(prob * prob.log()).sum(dim=1))
    assert torch.equal(seen[0][:, 4:], logits)


def test_it_drops_in_training_unless_told_not_to(localizer):
    image, logits = inputs()
    for network, dropout, same in (
        (localizer.train(), True, False),
        (localizer.train(), False, True),
        (copy.deepcopy(localizer).eval(), True, True),
    ):
        first, second = (network(image, logits, dropout=dropout) for _ in range(2))
        assert torch.equal(first, second) == same


def test_only_the_first_convolution_is_another():
    class Padded(nn.Conv2d):
        pass

    old = nn.Sequential(
        nn.Sequential(Padded(3, 6, 5, stride=2, padding=2, bias=False), nn.ReLU()),
        nn.Conv2d(6, 4, 1),
    )
    new = copy.deepcopy(old)
    widen(new, 9)
    assert type(new[0][0]) is Padded
    assert new[0][0].bias is None
    assert new(torch.rand(1, 9, 8, 6)).shape == old(torch.rand(1, 3, 8, 6)).shape
    assert torch.equal(new[1].weight, old[1].weight)

import math

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.models.backbone import Trunk
from pipeline.models.score_attention import ScoreAttention, in_eval_mode
from pipeline.seeding import drawn_from, stream
from tests.prepared import NETWORK


def drawn(*shape, name="drawn"):
    return torch.rand(*shape, generator=stream(0, name))


def attention(inputs=6, dim=4, num_classes=3):
    with drawn_from(0, "attention"):
        made = ScoreAttention(inputs, dim, num_classes)
        nn.init.normal_(made.bias)
    return made


def slow_attention(module, feature, score, valid):
    """Place by place, before the norm."""
    query, key, mix = (
        getattr(module, name).weight.detach().numpy()[..., 0, 0] for name in ("query", "key", "mix")
    )
    num, _, height, width = score.shape
    places = list(np.ndindex(height, width))
    out = np.zeros((num, len(mix), height, width))
    for n in range(num):
        for here in places:
            among = places
            powers = [1.0] * len(places)
            if valid[n][here]:
                among = [there for there in places if valid[n][there]]
                q = query @ feature[n][(slice(None), *here)]
                keys = [key @ feature[n][(slice(None), *there)] for there in among]
                powers = [math.exp(q @ k / math.sqrt(len(q))) for k in keys]
            value = score[n][(slice(None), *here)].copy()
            for power, there in zip(powers, among, strict=True):
                value += power / sum(powers) * score[n][(slice(None), *there)]
            if len(value) < len(mix):
                value = np.concatenate([[2 - value.max()], value])
            out[n][(slice(None), *here)] = mix @ value
    return out


@pytest.mark.parametrize("num_scores", [2, 3], ids=["background", "all"])
def test_attention_equals_a_slow_loop(num_scores):
    module = attention()
    feature, score = 3 * drawn(2, 6, 3, 4), drawn(2, num_scores, 3, 4, name="score")
    valid = torch.ones(2, 3, 4, dtype=torch.bool)
    valid[0, :, 2:] = False
    found = module(feature, score, valid).detach().numpy()
    mixed = slow_attention(module, feature.numpy(), score.numpy(), valid.numpy())
    mean, var = (getattr(mixed, name)(axis=(0, 2, 3), keepdims=True) for name in ("mean", "var"))
    bias = module.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(found, (mixed - mean) / np.sqrt(var + 1e-3) + bias, rtol=1e-3)


def test_a_place_gets_the_scores_of_places_that_are_alike():
    module = attention(inputs=2, dim=2, num_classes=2)
    module.norm, module.bias = nn.Identity(), nn.Parameter(torch.zeros(2))
    with torch.no_grad():
        module.query.weight.copy_(20 * torch.eye(2)[..., None, None])
        module.key.weight.copy_(torch.eye(2)[..., None, None])
        module.mix.weight.copy_(torch.eye(2)[..., None, None])
    feature = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).view(1, 2, 1, 3)
    score = torch.tensor([1.0, 0.0, 0.0]).view(1, 1, 1, 3)  # the first of two alike shows it
    every = torch.ones(1, 1, 3, dtype=torch.bool)
    rest, found = module(feature, score, every)[0, :, 0]
    torch.testing.assert_close(found, torch.tensor([1.5, 0.5, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(rest, torch.tensor([0.5, 1.5, 2.0]), atol=1e-5, rtol=0)


def test_what_is_in_the_padding_reaches_no_valid_place():
    module = attention()
    module.norm = nn.Identity()
    feature, score = drawn(1, 6, 3, 4), drawn(1, 2, 3, 4, name="score")
    valid = torch.ones(1, 3, 4, dtype=torch.bool)
    valid[..., 3] = False
    before = module(feature, score, valid)
    after = module(feature + ~valid * 5.0, score * valid, valid)
    assert torch.equal(before[..., :3], after[..., :3])
    assert not torch.equal(before, after)


def test_nothing_but_padding_gives_finite_logits():
    valid = torch.zeros(1, 3, 4, dtype=torch.bool)
    found = attention()(drawn(1, 6, 3, 4), torch.zeros(1, 2, 3, 4), valid)
    assert torch.isfinite(found).all()


def test_only_its_own_parameters_learn():
    module = attention()
    feature, score = drawn(1, 6, 3, 4).requires_grad_(), drawn(1, 2, 3, 4).requires_grad_()
    found = module(feature, score, torch.ones(1, 3, 4, dtype=torch.bool))
    found.square().sum().backward()
    assert feature.grad is None
    assert score.grad is None
    assert all(p.grad.any() for p in module.parameters())


def test_nothing_is_remembered_and_the_mode_does_not_matter():
    module = attention()
    given = drawn(2, 6, 3, 4), drawn(2, 2, 3, 4, name="score"), torch.ones(2, 3, 4).bool()
    assert torch.equal(module.train()(*given), module.eval()(*given))
    assert not list(module.buffers())


def test_the_maps_of_a_trunk_are_those_that_it_returns():
    trunk = Trunk(NETWORK).eval()
    image = drawn(1, 3, 40, 32)
    maps = trunk.maps(image)
    low, high = trunk(image)
    assert torch.equal(maps[trunk.low_level], low)
    assert torch.equal(maps[-1], high)
    assert [each.shape[1] for each in maps] == trunk.body.feature_info.channels()


def test_eval_mode_ends_and_leaves_statistics_alone():
    norm = nn.BatchNorm2d(3)
    with in_eval_mode(norm):
        norm(drawn(2, 3, 4, 4))
        assert not norm.training
    assert norm.training
    assert norm.num_batches_tracked == 0
    with pytest.raises(ValueError, match="stop"), in_eval_mode(norm):
        raise ValueError("stop")
    assert norm.training
    with in_eval_mode(norm.eval()):
        pass
    assert not norm.training

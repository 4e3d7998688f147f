from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.learner import method_of
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.recompute import recompute
from pipeline.trainer import train
from tests.prepared import NETWORK
from tests.test_trainer import assert_same_training, make_job


def checkpointed(job):
    return replace(job, runtime=replace(job.runtime, activation_checkpointing=True))


@pytest.mark.parametrize("method", ["supervised", "stpg", "eln", "cct"])
def test_a_training_that_recomputes_ends_in_the_same_bits(tmp_path, data, runtime, method):
    train(make_job(tmp_path / "kept", data, method=method, steps=4), runtime)
    train(checkpointed(make_job(tmp_path / "again", data, method=method, steps=4)), runtime)
    if method == "stpg":
        assert_same_training(tmp_path / "kept", tmp_path / "again")
    first, second = (torch.load(tmp_path / x / "model.pt") for x in ("kept", "again"))
    for name, value in first["network"].items():
        assert torch.equal(value, second["network"][name]), name


def waiting(method, image):
    """Bytes that a forward pass has allocated and not freed: what the backward pass needs."""
    with torch.profiler.profile(profile_memory=True) as profile:
        output = method.predictor()(image)
    assert output.logits.requires_grad
    return sum(event.self_cpu_memory_usage for event in profile.events())


def test_less_waits_for_the_backward_pass(tmp_path, data, runtime):
    job = make_job(tmp_path, data, method="supervised")
    network = replace(NETWORK, trunk="resnet26t", trunk_stages=5)
    job = replace(job, recipe=replace(job.recipe, network=network))
    image = torch.rand(2, 3, 64, 64)
    kept, again = (waiting(method_of(j, runtime), image) for j in (job, checkpointed(job)))
    assert again < 0.5 * kept


@pytest.mark.parametrize(
    ("trunk", "stages", "number"),
    [
        ("resnet18", 5, 8),
        ("tf_efficientnet_lite0", 3, 5),
        ("convnext_atto", 4, 15),
        ("test_vit", 4, 7),
    ],
)
def test_the_blocks_of_a_trunk_are_found(trunk, stages, number):
    stride = 16 if trunk == "test_vit" else 4
    config = replace(NETWORK, trunk=trunk, trunk_stages=stages, low_level_stride=stride)
    assert len(DeepLabV3Plus(config, 3).trunk.blocks()) == number


@pytest.mark.parametrize("trunk", ["test_vit", "vit_small_patch16_dinov3"])
def test_blocks_of_plain_vits_are_recomputed(trunk):
    config = replace(NETWORK, trunk=trunk, trunk_stages=3, low_level_stride=16)
    network = DeepLabV3Plus(config, 3)
    image = torch.rand(2, 3, 32, 32)
    gradients = []
    for again in (False, True):
        for block in network.blocks() if again else ():
            recompute(block)
        network.zero_grad()
        torch.manual_seed(0)
        network(image).logits.square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_norm_counts_a_batch_once_and_dropout_draws_once():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
    block.load_state_dict(plain.state_dict())
    recompute(block)
    image = torch.rand(2, 3, 4, 4)
    for module in (plain, block):
        torch.manual_seed(1)
        module(image).square().sum().backward()
    for name, value in plain.state_dict().items():
        assert torch.equal(block.state_dict()[name], value), name
    assert torch.equal(block[0].weight.grad, plain[0].weight.grad)
    assert block[1].momentum == 0.1

"""One training step of STPG with the networks of the paper study, without their weights.

Crops are 128 pixels and a batch 2 + 2 images: a step at 512 or 800 does not fit a laptop's memory.
"""

from dataclasses import replace

import pytest
import torch

from pipeline.artifacts import ROOT
from pipeline.methods import base
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.params import load_params
from tests.methods.test_contract import make_batch

pytestmark = pytest.mark.slow

FOUNDATION = load_params(ROOT / "studies/foundation.yaml")
PAPER = load_params(ROOT / "studies/paper.yaml")
PARAMETERS = {"resnet50.tv_in1k": 40_352_181, "resnet101.tv_in1k": 59_344_309}
"""Of one network with 21 classes."""


@pytest.mark.parametrize(
    ("name", "num_classes"), [("cityscapes", 19), ("blender", 21), ("classic", 21)]
)
def test_a_step_reaches_every_parameter_of_both_students(name, num_classes):
    torch.set_num_threads(2)
    recipe = PAPER.recipes[name]
    network = replace(recipe.network, weights="none")
    setting = base.setting_of(
        replace(recipe, network=network), num_classes, seed=0, num_unlabeled=0
    )
    config = base.resolve(
        "stpg",
        PAPER.methods["stpg"],
        {"contrast": {"bank_from": 0.0, "loss_from": 0.0, "phi": 0.0}},
        key="methods.stpg",
    )
    method = base.build("stpg", config, setting).train()
    if num_classes == 21:
        found = sum(p.numel() for p in method.predictor().parameters())
        assert found == PARAMETERS[network.trunk]
    optimizer = torch.optim.SGD(method.param_groups(1e-4), lr=recipe.lr, momentum=0.9)
    batch = make_batch(num_classes, size=(128, 128))
    terms = method.losses(batch, 0.0)
    assert all(torch.isfinite(term) for term in terms.values()), terms
    sum(terms.values()).backward()
    trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in trained.values())
    optimizer.step()
    method.after_backward(0.0)
    method.after_update(0.0)
    assert all(torch.isfinite(p).all() for p in trained.values())


@pytest.mark.parametrize("name", sorted(FOUNDATION.recipes))
def test_the_networks_of_foundation_learn(name):
    torch.set_num_threads(2)
    config = replace(FOUNDATION.recipes[name].network, weights="none")
    network = DeepLabV3Plus(config, 21).train()
    side = -(-128 // network.multiple) * network.multiple
    logits = network(torch.rand(2, 3, side, side)).logits
    assert logits.shape == (2, 21, side, side)
    logits.square().mean().backward()
    without = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, without

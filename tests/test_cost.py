from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pipeline import cost
from pipeline.artifacts import ROOT
from pipeline.batch import Views
from pipeline.cost import COUNTED, DEVICES, TIMED, cost_of, kinds, random_batch, tried
from pipeline.jobs import method_config
from pipeline.methods.base import build, setting_of
from pipeline.params import load_params
from pipeline.runtime import Runtime

RUNTIME = Runtime(torch.device("cpu"), None, channels_last=True)
DEVICE = DEVICES["h100"]


def smoke(**recipe):
    """The smoke study with a small network, and what else the recipe is given."""
    params = load_params(ROOT / "studies/smoke.yaml")
    network = replace(params.recipes["cityscapes"].network, trunk="test_resnet", trunk_stages=4)
    given = {"crop": (64, 64), "batch": 2, "network": network} | recipe
    recipes = {name: replace(r, **given) for name, r in params.recipes.items()}
    return replace(params, recipes=recipes)


@pytest.mark.parametrize(
    ("views", "num_u"),
    [(Views(), 0), (Views(unlabeled=True, strong=2), 3), (Views(unlabeled=True, partners=True), 6)],
)
def test_a_batch_has_what_the_method_asks_for(views, num_u):
    batch = random_batch((32, 40), 3, 5, SimpleNamespace(views=views))
    assert batch.image_l.shape == (3, 3, 32, 40)
    assert batch.label_l.shape == (3, 32, 40)
    assert len(batch.image_u) == len(batch.truth_u) == len(batch.index_u) == num_u
    assert batch.strong_u.shape[:2] == (views.strong, num_u)


def test_a_batch_has_any_size():
    batch = random_batch((30, 41), 1, 3, SimpleNamespace(views=Views()))
    assert batch.image_l.shape[-2:] == batch.label_l.shape[-2:] == (30, 41)
    assert set(batch.label_l.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("crop", "trial", "small"),
    [
        ((800, 512), TIMED, (200, 128)),
        ((800, 512), COUNTED, (96, 64)),
        ((64, 80), TIMED, (64, 80)),
        ((64, 80), COUNTED, (64, 64)),
    ],
)
def test_a_step_is_tried_small(crop, trial, small):
    recipe = tried(smoke(crop=crop, batch=8).recipes["cityscapes"], trial)
    images = 4 if trial is TIMED else 2
    assert (recipe.crop, recipe.batch, recipe.network.weights) == (small, images, "none")


@pytest.mark.parametrize("key", ["cityscapes_8_supervised", "cityscapes_8_stpg"])
def test_what_a_small_step_says_of_a_large_one(key, monkeypatch):
    params = smoke(crop=(192, 160), batch=6)
    said = cost_of(key, params, RUNTIME, DEVICE)
    monkeypatch.setattr(
        cost,
        "tried",
        lambda recipe, trial: replace(recipe, network=replace(recipe.network, weights="none")),
    )
    counted = cost_of(key, params, RUNTIME, DEVICE)
    assert said.trained == counted.trained
    assert said.flops == pytest.approx(counted.flops, rel=0.05)
    assert said.gib == pytest.approx(counted.gib, rel=0.15)
    assert said.seconds == pytest.approx(said.flops / (0.3 * 989e12))


def test_operations_of_a_convolution_by_hand():
    class Method(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(3, 5, 3, padding=1, bias=False)

        def losses(self, batch, progress):
            return {"supervised": self.layer(batch.image_l).square().sum()}

    batch = random_batch((16, 8), 2, 3, SimpleNamespace(views=Views()))
    flops, kept = cost.counted(Method(), batch, half=False)
    once = 2 * (2 * 16 * 8) * 5 * (3 * 3 * 3)
    assert flops == 2 * once  # forward, and the weight's gradient; the image has none
    assert kept == 4 * (2 * 3 * 16 * 8 + 2 * 5 * 16 * 8)  # image, and what is squared


@pytest.mark.parametrize("key", ["cityscapes_8_supervised", "cityscapes_8_stpg"])
def test_half_precision_keeps_what_a_step_under_autocast_does(key):
    params = smoke(crop=(64, 64), batch=2)
    run = params.runs[key]
    recipe = tried(params.recipes[run.recipe], TIMED)
    setting = setting_of(recipe, 19, 0, cost.UNLABELED)
    method = build(run.method, method_config(key, params), setting).train()
    batch = random_batch((64, 64), 2, 19, method)
    cost.prepare(method, batch)
    whole, said = (cost.counted(method, batch, half)[1] for half in (False, True))
    losses = method.losses

    def under_autocast(*given):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return losses(*given)

    method.losses = under_autocast
    found = cost.counted(method, batch, half=False)[1]
    copies = 2 * cost.trained(method)  # of weights, which `state` counts
    assert said < 0.8 * whole
    assert said == pytest.approx(found - copies, rel=0.15)


def test_adamw_keeps_one_number_more_than_sgd():
    costs = [
        cost_of("cityscapes_8_supervised", smoke(optimizer=name), RUNTIME, DEVICE)
        for name in ("sgd", "adamw")
    ]
    assert costs[1].gib - costs[0].gib == pytest.approx(4 * costs[0].trained / 2**30)


def test_on_this_machine_a_step_is_timed():
    assert 0 < cost_of("cityscapes_8_supervised", smoke(), RUNTIME, None).seconds < 60


def test_runs_of_one_kind_are_counted_once():
    paper = load_params(ROOT / "studies/paper.yaml")
    found = kinds(paper)
    assert sorted(key for keys in found.values() for key in keys) == sorted(paper.runs)
    stpg = next(keys for keys in found.values() if "cityscapes_8_stpg" in keys)
    assert stpg == ["cityscapes_16_stpg", "cityscapes_8_stpg", "cityscapes_4_stpg"]
    assert not any("cityscapes_8_stpg_dm" in keys and len(keys) > 1 for keys in found.values())

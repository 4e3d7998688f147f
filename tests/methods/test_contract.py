"""What the trainer relies on, for every method."""

import copy
from dataclasses import replace

import pytest
import torch

from pipeline.batch import Batch
from pipeline.config import RecipeConfig
from pipeline.methods import base
from pipeline.seeding import seed_global
from pipeline.typed import ConfigError
from tests.prepared import NETWORK

RECIPE = RecipeConfig(crop=(32, 32), batch=2, steps=8, lr=0.05, network=NETWORK)
EAGER = {"contrast": {"bank_from": 0.0, "loss_from": 0.0, "phi": 0.0, "dim": 24}}
# Every part at work from the first steps on; a mean teacher that leaves room for labels.
SECTIONS = {
    "stpg": EAGER,
    "mean_teacher": {"lambda_u": 10.0},
    "cutmix_seg": {"threshold": 0.3},
    "fixmatch": {"threshold": 0.3},
    "ctt": {"threshold": 0.0},
    "unimatch": {"threshold": 0.3},
    "ps_mt": {"threshold": 0.3, "ramp": 0.0},
    "augseg": {"threshold": 0.3},
    "stpp": {"rank_at": 0.1, "relabel_at": 0.7},
    "u2pl": {"bank_size": 32, "dim": 24, "low_rank": 1},
    "cac": {"negatives": 40, "dim": 8, "threshold": 0.0},
    "gct": {"width": 4, "blocks": 2},
    "eln": {"localize_from": 0.1, "margins": [0.5, 1.0], "restart": 2, "dim": 8},
    "ads": {"width": 4, "threshold_stable": 0.2, "threshold_st": 0.3},
    "prcl": {"threshold": 0.3, "weak_threshold": 0.3, "queries": 8, "negatives": 16, "dim": 8},
}

UNLABELED = [torch.rand(1, 3, 40, 36, generator=torch.Generator().manual_seed(k)) for k in range(4)]


@pytest.fixture(params=base.available())
def name(request):
    return request.param


def make(name, num_classes=5, recipe=RECIPE, **overrides):
    config = base.resolve(name, SECTIONS.get(name, {}), overrides, key="test")
    return base.build(name, config, base.setting_of(recipe, num_classes, 3, len(UNLABELED))).train()


def make_batch(num_classes=5, *, step=0, num=2, num_u=None, size=(32, 32)):
    draw = torch.Generator().manual_seed(100 + step)
    num_u = num_u or num

    def labels(num):
        coarse = torch.randint(num_classes, (num, 1, size[0] // 8, size[1] // 8), generator=draw)
        return torch.nn.functional.interpolate(coarse.float(), size)[:, 0].long()

    return Batch(
        image_l=torch.rand(num, 3, *size, generator=draw),
        label_l=labels(num),
        image_u=torch.rand(num_u, 3, *size, generator=draw),
        strong_u=torch.rand(2, num_u, 3, *size, generator=draw),
        valid_u=torch.ones(num_u, *size, dtype=torch.bool),
        truth_u=labels(num_u),
        index_u=torch.arange(num_u),
        seed=step,
    )


def run_steps(method, steps, optimizer=None, start=0, dtype=torch.float32):
    optimizer = optimizer or torch.optim.SGD(method.param_groups(1e-4), lr=0.05, momentum=0.9)
    totals = []
    for step in range(start, start + steps):
        seed_global(0, "step", step)
        method.before_step(step / RECIPE.steps, [image.to(dtype) for image in UNLABELED])
        batch = make_batch(step=step)
        names = ("image_l", "image_u", "strong_u")
        batch = replace(batch, **{name: getattr(batch, name).to(dtype) for name in names})
        loss = sum(method.losses(batch, step / RECIPE.steps).values())
        optimizer.zero_grad()
        loss.backward()
        method.after_backward((step + 1) / RECIPE.steps)
        optimizer.step()
        method.after_update((step + 1) / RECIPE.steps)
        totals.append(loss.item())
    return totals, optimizer


def test_where_nothing_is_logged_labels_are_not_measured_and_losses_are_the_same(name):
    logged, other = make(name), make(name)
    other.measuring = False
    assert run_steps(other, 5)[0] == run_steps(logged, 5)[0]
    assert not [key for key in other.diagnostics if key.startswith("accuracy")]


@pytest.mark.parametrize("num_classes", [2, 11, 21])
def test_losses_are_finite_scalars(name, num_classes):
    terms = make(name, num_classes).losses(make_batch(num_classes), 0.6)
    assert terms
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize(
    ("trunk", "stride"), [("test_vit", 16), ("test_convnext", 4)], ids=["vit", "convnext"]
)
def test_other_trunks_serve_too(name, trunk, stride):
    network = replace(NETWORK, trunk=trunk, trunk_stages=4, low_level_stride=stride)
    method = make(name, recipe=replace(RECIPE, network=network))
    method.before_step(0.6, UNLABELED)
    loss = sum(method.losses(make_batch(size=(64, 64)), 0.6).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in method.parameters())
    network = method.predictor().eval()
    assert network(torch.rand(1, 3, 40, 72)).logits.shape == (1, 5, 40, 72)


def test_every_trained_parameter_gets_gradient_and_no_other_has_one(name):
    method = make(name)
    run_steps(method, 2)
    sum(method.losses(make_batch(step=2), 0.6).values()).backward()
    for parameter_name, parameter in method.named_parameters():
        trained = parameter.requires_grad
        assert trained != ("teacher" in parameter_name), parameter_name
        assert (parameter.grad is not None) == trained, parameter_name


def test_the_unlabelled_images_teach_every_student(name):
    method = make(name)
    run_steps(method, 3)
    method.before_step(0.6, UNLABELED)
    terms = method.losses(make_batch(step=3), 0.6)
    taught = [term for key, term in terms.items() if key.startswith("unsupervised")]
    if not method.views.unlabeled:
        assert not taught
        return
    assert sum(taught) > 0
    method.zero_grad()
    sum(taught).backward()
    students = method.students if hasattr(method.students, "values") else method.students()
    assert all(
        any(p.grad is not None and p.grad.any() for p in student.parameters())
        for student in students.values()
    )


def test_in_mixed_precision_every_trained_parameter_gets_gradient(name):
    method = make(name)
    run_steps(method, 2)
    with torch.autocast("cpu", torch.bfloat16):
        terms = method.losses(make_batch(step=2), 0.6)
    method.zero_grad()
    torch.stack([term.float() for term in terms.values()]).sum().backward()
    trained = {key: p.grad for key, p in method.named_parameters() if p.requires_grad}
    assert all(grad is not None and torch.isfinite(grad).all() for grad in trained.values())


def test_training_lowers_the_loss_of_the_labelled_pixels(name):
    method, batch = make(name), make_batch()
    optimizer = torch.optim.SGD(method.param_groups(0.0), lr=0.05, momentum=0.9)
    history = []
    for _ in range(12):
        terms = method.losses(batch, 0.0)
        history.append(terms["supervised"].item())
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    assert history[-1] < 0.8 * history[0]


def test_interrupted_and_resumed_equals_uninterrupted(name):
    whole = make(name)
    expected, _ = run_steps(whole, 6)
    first = make(name)
    head, optimizer = run_steps(first, 3)
    states = copy.deepcopy((first.state_dict(), optimizer.state_dict()))
    second = make(name)
    second.load_state_dict(states[0])
    optimizer = torch.optim.SGD(second.param_groups(1e-4), lr=0.05, momentum=0.9)
    optimizer.load_state_dict(states[1])
    tail, _ = run_steps(second, 3, optimizer, start=3)
    assert head + tail == expected
    for key, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_the_predictor_gives_logits_of_the_images_size(name):
    with torch.no_grad():
        output = make(name).predictor().eval()(torch.rand(1, 3, 45, 70))
    assert output.logits.shape == (1, 5, 45, 70)


def test_it_never_reads_the_truth_of_the_unlabelled_images(name):
    batch = make_batch()
    hidden = replace(batch, truth_u=torch.full_like(batch.truth_u, 255))
    totals = []
    for each in (batch, hidden):
        seed_global(0, "step")
        totals.append(sum(make(name).losses(each, 0.6).values()).item())
    assert totals[0] == totals[1]


def test_a_batch_without_a_label_gives_finite_losses_and_gradients(name):
    method, batch = make(name), make_batch()
    batch = replace(batch, label_l=torch.full_like(batch.label_l, 255))
    sum(method.losses(batch, 0.6).values()).backward()
    grads = [p.grad for p in method.parameters() if p.grad is not None]
    assert all(torch.isfinite(grad).all() for grad in grads)
    method.after_backward(0.6)
    method.after_update(0.6)
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())


def test_classes_that_a_batch_lacks_do_no_harm(name):
    method, batch = make(name), make_batch()
    batch = replace(batch, label_l=torch.zeros_like(batch.label_l))
    for step in range(3):
        terms = method.losses(replace(batch, seed=step), 0.6)
        assert all(torch.isfinite(term) for term in terms.values())
        sum(terms.values()).backward()
        method.after_backward(0.6)
    method.after_update(0.6)
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())


def test_an_unlabelled_batch_of_padding_alone_adds_nothing(name):
    batch = make_batch()
    batch = replace(
        batch,
        valid_u=torch.zeros_like(batch.valid_u),
        label_l=torch.full_like(batch.label_l, 255),  # some paste labelled patches into them
    )
    terms = make(name).losses(batch, 0.6)
    assert all(torch.isfinite(term) for term in terms.values())
    assert all(term == 0 for key, term in terms.items() if key.startswith("unsupervised"))


def test_losses_change_nothing_but_batch_statistics(name):
    method = make(name)
    run_steps(method, 2)
    before = copy.deepcopy(method.state_dict())
    method.losses(make_batch(step=2), 0.6)
    changed = {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert all(key.endswith(("running_mean", "running_var", "_tracked")) for key in changed)


def test_weight_decay_spares_norms_and_biases(name):
    method = make(name)
    groups = method.param_groups(0.1)
    for group in groups:
        many_dimensions = {p.ndim > 1 for p in group["params"]}
        assert many_dimensions == {group["weight_decay"] == 0.1}
    grouped = [id(p) for group in groups for p in group["params"]]
    trained = [id(p) for p in method.parameters() if p.requires_grad]
    assert sorted(grouped) == sorted(trained)


def test_an_unknown_method_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"runs.a.method: no method 'spg'; did you mean 'stpg'"):
        base.resolve("spg", {}, key="runs.a.method")


def test_an_unknown_parameter_is_named_with_its_section():
    with pytest.raises(ConfigError, match=r"methods.stpg.contrast.taus: unknown; did you mean"):
        base.resolve("stpg", {"contrast": {"taus": 1.0}}, key="methods.stpg")


def test_a_runs_own_parameters_lie_over_the_methods_section_at_every_depth():
    config = base.resolve(
        "stpg",
        {"lambda_u": 0.7, "contrast": {"tau": 0.2}},
        {"contrast": {"bank_size": 64}},
        key="x",
    )
    assert (config.lambda_u, config.contrast.tau, config.contrast.bank_size) == (0.7, 0.2, 64)


@pytest.mark.parametrize(("batch", "parts"), [(4, 1), (8, 2)])
def test_the_hardest_pixels_are_counted_of_the_images_that_pass_at_once(batch, parts):
    recipe = replace(
        RECIPE, batch=batch, accumulate=parts, labeled_loss="ohem", ohem_min_kept=5,
        ohem_threshold=0.0,
    )  # fmt: skip
    logits = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    label = torch.zeros(4, 8, 8, dtype=torch.int64)
    pixels = torch.nn.functional.cross_entropy(logits, label, reduction="none").flatten()
    want = pixels.topk(4 * 5).values.mean()
    got = base.setting_of(recipe, 3, 0, 0).labeled_loss(logits, label)
    torch.testing.assert_close(got, want)

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.augment.warp import draw_points, sampling_grid, warp
from pipeline.methods import ads, base
from pipeline.models.deeplab import Output
from pipeline.typed import ConfigError
from tests.methods.test_contract import make, make_batch, run_steps
from tests.methods.test_field import passed, pixels, slow_distance, slow_mean

PAIRS = (("first", "second"), ("second", "first"))


def oblong_batch():
    """Not square, with padding in one image and pixels without label in another."""
    batch = make_batch(size=(24, 40))
    batch.valid_u[0, :9] = False
    batch.label_l[1, 15:] = 255
    return batch


def quiet(**parameters):
    """A method whose discriminators drop nothing."""
    method = make("ads", **parameters)
    method.discriminators.eval()
    return method


def speaking(method, batch, logits):
    """The terms where the students say this: by name, of plain and warped images."""
    seen = method.observe(batch, 1.0)
    outputs = {
        name: [Output(each, None, None) for each in (plain, plain, warped)]
        for name, (plain, warped) in logits.items()
    }
    return seen, method.unsupervised(outputs, seen)


def certain(batch, label, strength=20.0):
    """Logits of one class everywhere."""
    shape = (len(batch.valid_u), *batch.valid_u.shape[-2:])
    one_hot = F.one_hot(torch.full(shape, label), 5).movedim(-1, 1)
    return (strength * one_hot).float().requires_grad_()


def test_its_consistency_and_stabilisation_equal_a_slow_loop():
    method, batch = quiet(ramp=0.5, lambda_c=8.0, lambda_s=70.0), oblong_batch()
    method.config = replace(method.config, threshold_stable=0.9)
    with torch.no_grad():  # so that one is stable somewhere
        for student in method.students.values():
            student.classifier.weight.mul_(3)
    seen, outputs, terms = passed(method, batch)
    grid, valid = seen.target.grid, seen.target.valid
    plain, warped = {}, {}
    for name, (_, whole, moved) in outputs.items():
        plain[name], warped[name] = warp(whole.logits, grid), moved.logits
    ramp, learnt, both, unsure = math.exp(-5), 0, 0, 0
    for name, other in PAIRS:
        target = warped[name].softmax(dim=1)
        for n, y, x in pixels(valid):
            firm, change = {}, {}
            for key in (name, other):
                one, two = (logits[key][n, :, y, x].tolist() for logits in (warped, plain))
                sure = max(max(torch.tensor(z).softmax(dim=0).tolist()) for z in (one, two))
                alike = one.index(max(one)) == two.index(max(two))
                firm[key] = alike and sure > 0.9
                unsure += alike and sure <= 0.9
                change[key] = sum((a - b) ** 2 for a, b in zip(one, two, strict=True))
            if firm[other] and not (firm[name] and change[name] < change[other]):
                target[n, :, y, x] = warped[other][n, :, y, x].softmax(dim=0)
                learnt += 1
            both += firm[name] and firm[other]
        expected = 70 * ramp / 5 * slow_distance(warped[name], target, valid)
        assert terms[f"unsupervised_{name}_stable"].item() == pytest.approx(expected, rel=1e-3)
        expected = 8 * ramp / 5 * slow_distance(warped[name], plain[name].softmax(dim=1), valid)
        assert terms[f"unsupervised_{name}"].item() == pytest.approx(expected, rel=1e-3)
    assert 0 < learnt < 2 * len(pixels(valid))
    assert min(both, unsure) > 0


def test_its_adversarial_terms_equal_a_slow_loop():
    method, batch = quiet(lambda_fm=0.3, lambda_st=2.0), oblong_batch()
    seen, outputs, _ = passed(method, batch)
    true = torch.zeros(2, 5, 24, 40)
    for n, y, x in pixels(batch.label_l != 255):
        true[n, batch.label_l[n, y, x], y, x] = 1
    for name, (_, plain, _) in outputs.items():
        discriminator = method.discriminators[name]
        prob = plain.logits.softmax(dim=1)
        prob[0, :, :9] = 0  # padding
        with torch.no_grad():
            fake, fake_feature = discriminator(batch.image_u, prob)
            real, real_feature = discriminator(batch.image_l, true)
        method.config = replace(method.config, threshold_st=float(fake.sigmoid().mean()))
        best = fake.argmax()
        terms = method.unsupervised(outputs, seen)
        learnt = torch.zeros_like(batch.valid_u)
        learnt[best] = batch.valid_u[best]
        label = plain.logits.argmax(dim=1)
        expected = 2 * slow_mean(plain.logits, label, torch.ones_like(label), learnt)
        found = terms[f"unsupervised_{name}_trained"].item()
        assert found == pytest.approx(expected, rel=1e-4)
        matching = sum(
            abs(sum(real_feature[:, d].tolist()) - sum(fake_feature[:, d].tolist())) / 2
            for d in range(32)
        )
        found = terms[f"unsupervised_{name}_matched"].item()
        assert found == pytest.approx(0.3 * matching / 32, rel=1e-4)
        own = [math.log1p(math.exp(-z)) for z in real.tolist()]
        own += [math.log1p(math.exp(z)) for z in fake.tolist()]
        assert terms[f"discriminator_{name}"].item() == pytest.approx(sum(own) / 4, rel=1e-4)


class Pixelwise(nn.Module):
    """A student that sees nothing of a pixel's surroundings."""

    def __init__(self, strength):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(strength * torch.randn(5, 3, 1, 1, generator=draw))

    def forward(self, image):
        return Output(F.conv2d(image, self.weight), image, image)


def test_images_and_predictions_are_warped_alike():
    method, batch = quiet(lambda_c=1.0), oblong_batch()
    method.students = nn.ModuleDict({name: Pixelwise(9.0) for name, _ in PAIRS})
    seen, outputs, terms = passed(method, batch)
    assert terms["unsupervised_first"] < 1e-7
    plain, warped = (output.logits for output in outputs["first"][1:])
    straight = slow_distance(warped, plain.softmax(dim=1), seen.target.valid)
    assert straight > 0.1


def test_the_warp_is_of_the_step_and_one_for_all_images():
    method, batch = quiet(), make_batch(size=(24, 40))
    alike = replace(batch, image_u=batch.image_u[:1].repeat(2, 1, 1, 1))
    _, image = method.observe(alike, 0.5).images_NCHW
    assert torch.equal(image[0], image[1])
    points = draw_points(torch.Size((24, 40)), method.config.warp, batch.stream("warp"))
    expected = sampling_grid(*points, torch.Size((24, 40))).float()
    assert torch.equal(method.observe(batch, 0.5).target.grid, expected)
    other = method.observe(replace(batch, seed=1), 0.5).target.grid
    assert not torch.equal(other, expected)


def test_beyond_the_image_is_the_mean_colour_and_padding_is_not_valid(monkeypatch):
    def shifted(size, config, generator):
        source, _ = draw_points(size, config, generator)
        return source, source + torch.tensor([0, 12], dtype=torch.float64)

    monkeypatch.setattr(ads, "draw_points", shifted)
    batch = oblong_batch()
    seen = quiet().observe(batch, 0.5)
    plain, image = seen.images_NCHW
    assert torch.equal(plain, batch.image_u)
    torch.testing.assert_close(image[..., 12:], plain[..., :-12], atol=1e-4, rtol=0)
    mean = torch.tensor([124, 116, 104])[:, None, None] / 255
    torch.testing.assert_close(image[..., :12], mean.expand(2, 3, 24, 12))
    expected = torch.zeros(2, 24, 40, dtype=torch.bool)
    expected[..., 12:] = batch.valid_u[..., 12:]
    assert torch.equal(seen.target.valid, expected)
    assert torch.equal(seen.valid_NHW, batch.valid_u)


def test_the_stabler_student_teaches_and_does_not_learn():
    method, batch = quiet(threshold_stable=0.8, lambda_s=5.0), make_batch()
    firm, swayed = certain(batch, 1), [certain(batch, 2), certain(batch, 3)]
    _, terms = speaking(method, batch, {"first": (firm, firm), "second": swayed})
    assert terms["unsupervised_first_stable"] == 0
    # the whole distance of two certain predictions is 2
    assert terms["unsupervised_second_stable"].item() == pytest.approx(5 * 2 / 5, rel=1e-3)
    assert method.diagnostics["share_taught_second"] == 1
    assert method.diagnostics["share_taught_first"] == 0
    terms["unsupervised_second_stable"].backward()
    assert firm.grad is None
    assert swayed[1].grad.any()
    assert swayed[0].grad is None


def test_students_that_are_both_swayed_teach_nothing():
    method, batch = quiet(), make_batch()
    logits = {name: (certain(batch, 2), certain(batch, 3)) for name, _ in PAIRS}
    _, terms = speaking(method, batch, logits)
    assert all(terms[f"unsupervised_{name}_stable"] == 0 for name, _ in PAIRS)
    assert all(terms[f"unsupervised_{name}"] > 0 for name, _ in PAIRS)


def test_no_gradient_passes_from_student_to_student_or_through_the_warp():
    method, batch = quiet(), make_batch()
    draw = torch.Generator().manual_seed(1)
    logits = {
        name: tuple(torch.randn(2, 5, 32, 32, generator=draw).requires_grad_() for _ in range(2))
        for name, _ in PAIRS
    }
    _, terms = speaking(method, batch, logits)
    (terms["unsupervised_first"] + terms["unsupervised_first_stable"]).backward()
    assert logits["first"][1].grad.any()
    assert all(each.grad is None for each in (logits["first"][0], *logits["second"]))


def test_a_discriminator_learns_from_its_own_term_alone_and_teaches_no_weight():
    method, batch = make("ads"), make_batch()
    terms = method.losses(batch, 0.9)
    own = terms.pop("discriminator_first") + terms.pop("discriminator_second")
    sum(terms.values()).backward(retain_graph=True)
    assert all(p.grad is None for p in method.discriminators.parameters())
    method.zero_grad()
    own.backward()
    assert all(p.grad is not None for p in method.discriminators.parameters())
    assert all(p.grad is None for p in method.students.parameters())


@pytest.mark.parametrize("part", ["trained", "matched"])
def test_a_student_learns_of_its_own_discriminator(part):
    method = make("ads", threshold_st=0.0)
    method.losses(make_batch(), 0.9)[f"unsupervised_first_{part}"].backward()
    assert method.students["first"].classifier.weight.grad.any()
    assert method.students["second"].classifier.weight.grad is None


@pytest.mark.parametrize(("bias", "share"), [(-9.0, 0.0), (9.0, 1.0)])
def test_only_images_that_pass_for_truth_are_learnt(bias, share):
    method = quiet(threshold_st=0.6)
    with torch.no_grad():
        method.discriminators["first"].score.bias.fill_(bias)
    loss = method.losses(make_batch(), 0.9)["unsupervised_first_trained"]
    assert (loss > 0) == bool(share)
    assert method.diagnostics["share_passed_first"] == share


def test_an_image_of_padding_alone_has_no_say_with_a_discriminator():
    method, batch = quiet(), make_batch()
    batch.valid_u[0] = False
    batch.label_l[1] = 255
    seen, outputs, terms = passed(method, batch)
    altered = replace(batch, image_l=batch.image_l.clone(), image_u=batch.image_u.clone())
    altered.image_u[0], altered.image_l[1] = 0.5, 0.5
    seen = seen._replace(target=seen.target._replace(batch=altered))
    again = method.unsupervised(outputs, seen)
    for key in ("discriminator_first", "unsupervised_first_matched"):
        assert terms[key] == again[key] > 0


def test_what_is_said_of_padding_does_not_matter():
    method, batch = quiet(threshold_st=0.0), make_batch()
    batch.valid_u[0, :9] = False
    batch.valid_u[1, :, 20:] = False
    said = {name: (certain(batch, 1, 2.0), certain(batch, 1, 2.0)) for name, _ in PAIRS}
    _, terms = speaking(method, batch, said)
    sum(term for key, term in terms.items() if key.startswith("unsupervised")).backward()
    plain = said["first"][0].grad
    assert plain.movedim(1, -1)[batch.valid_u].any()
    assert not plain.movedim(1, -1)[~batch.valid_u].any()


def test_consistency_and_stabilisation_grow_and_the_rest_does_not():
    method, batch = quiet(ramp=0.5), make_batch()
    method.students.eval()
    early, late = (method.losses(batch, progress) for progress in (0.25, 0.5))
    for key in ("unsupervised_first", "unsupervised_first_stable"):
        assert (early[key] / late[key]).item() == pytest.approx(math.exp(-5 / 4), rel=1e-4)
    for key in ("unsupervised_first_matched", "unsupervised_first_trained", "discriminator_first"):
        assert early[key] == late[key] > 0


def test_a_discriminator_learns_to_tell_truth_from_predictions():
    method, batch = quiet(width=8), make_batch()
    optimizer = torch.optim.Adam(method.discriminators.parameters(), lr=0.01)
    history = []
    for _ in range(15):
        loss = method.losses(batch, 0.0)["discriminator_first"]
        history.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert history[-1] < 0.5 * history[0]


@pytest.mark.parametrize("weight", ["lambda_c", "lambda_s", "lambda_fm", "lambda_st"])
def test_without_a_part_it_is_another_method(weight):
    parameters = {"threshold_st": 0.0, "ramp": 0.0}
    usual = run_steps(make("ads", **parameters), 2)[0]
    assert run_steps(make("ads", **parameters, **{weight: 0.0}), 2)[0] != usual


def test_students_and_discriminators_begin_differently():
    method = make("ads")
    for pair in (method.students, method.discriminators):
        first, second = (dict(each.named_parameters()) for each in pair.values())
        assert any(not torch.equal(value, second[name]) for name, value in first.items())


def test_the_discriminators_have_a_rate_of_their_own():
    method = make("ads")
    mine = {id(p) for p in method.discriminators.parameters()}
    for group in method.param_groups(0.1):
        expected = {True: 0.4, False: 1.0}
        assert {expected[id(p) in mine] for p in group["params"]} == {group["lr_scale"]}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"threshold_st": 1.5}, r"x\.threshold_st: 1\.5; expected 0\.0 to 1\.0"),
        ({"threshold_stable": -0.1}, r"x\.threshold_stable: -0\.1; expected 0\.0 to 1\.0"),
        ({"lambda_s": -1.0}, r"x\.lambda_s: -1\.0; expected at least 0"),
        ({"width": 0}, r"x\.width: 0; expected at least 1"),
        ({"warp": {"blocks": 0}}, r"x\.warp\.blocks: 0; expected at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(section, message):
    with pytest.raises(ConfigError, match=message):
        base.resolve("ads", section, key="x")

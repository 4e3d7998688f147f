"""The methods that STPG is compared with: their terms against slow loops, and their ideas."""

import math
from dataclasses import replace

import pytest
import torch

from pipeline import unlabeled
from pipeline.losses.segmentation import PseudoLabel
from pipeline.methods import base, cpcl, cps, ctt
from pipeline.typed import ConfigError
from pipeline.unlabeled import forward_each
from tests.methods.test_contract import RECIPE, make, make_batch, run_steps

GROUP = ("mean_teacher", "cutmix_seg", "fixmatch", "cps", "cpcl", "ctt", "fpl", "unimatch")
TWINS = ("cps", "cpcl", "ctt", "fpl")


def padded_batch():
    batch = make_batch(num=2)
    valid = batch.valid_u.clone()
    valid[0, :9] = False
    return replace(batch, valid_u=valid)


def passed(method, batch):
    """What the method sees, what its students say of it, and the terms that follow."""
    with torch.no_grad():
        seen = method.observe(batch, 0.0)
        outputs = {
            name: forward_each(
                student, batch.image_l, *seen.images_NCHW, together=method.joint_pass
            )
            for name, student in method.students.items()
        }
        return seen, outputs, method.unsupervised(outputs, seen)


def pixels(valid):
    return [tuple(place) for place in valid.nonzero().tolist()]


def slow_cross_entropy(logits, n, y, x, label):
    z = logits[n, :, y, x].detach().double()
    return float(z.exp().sum().log() - z[label])


def slow_mean(logits, label, weight, valid):
    """Sum over the valid pixels of weight times cross-entropy, by their number."""
    total = 0.0
    for n, y, x in pixels(valid):
        total += float(weight[n, y, x]) * slow_cross_entropy(logits, n, y, x, label[n, y, x])
    return total / len(pixels(valid))


def slow_distance(logits, target, valid):
    total = 0.0
    for n, y, x in pixels(valid):
        mine = logits[n, :, y, x].double().softmax(dim=0)
        total += sum(float(mine[c] - target[n, c, y, x]) ** 2 for c in range(5))
    return total / len(pixels(valid))


@pytest.mark.parametrize("view", ["weak", "strong"])
def test_mean_teacher_equals_a_slow_loop(view):
    method, batch = make("mean_teacher", lambda_u=7.0, student_sees=view), padded_batch()
    batch.label_l[1, 20:] = 255
    seen, outputs, terms = passed(method, batch)
    assert torch.equal(
        *seen.images_NCHW, {"weak": batch.image_u, "strong": batch.strong_u[0]}[view]
    )
    logits = torch.cat([output.logits for output in outputs["student"]])
    teacher = method.teachers["student"]
    target = torch.cat([teacher(x).logits.softmax(dim=1) for x in (batch.image_l, batch.image_u)])
    valid = torch.cat([batch.label_l != 255, batch.valid_u])
    expected = 7 / 5 * slow_distance(logits, target, valid)
    assert terms["unsupervised"].item() == pytest.approx(expected, rel=1e-4)


def test_cutmix_seg_equals_a_slow_loop():
    method, batch = make("cutmix_seg", threshold=0.3), padded_batch()
    seen, outputs, terms = passed(method, batch)
    target, valid = seen.target, seen.valid_NHW
    sure = [max(target[n, :, y, x].tolist()) > 0.3 for n, y, x in pixels(valid)]
    share = sum(sure) / len(sure)
    assert 0 < share < 1
    expected = share * slow_distance(outputs["student"][1].logits, target, valid)
    assert terms["unsupervised"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["fixmatch", "augseg"])
def test_confident_hard_labels_equal_a_slow_loop(name):
    method, batch = make(name, threshold=0.3, lambda_u=2.0), padded_batch()
    seen, outputs, terms = passed(method, batch)
    label, confidence = seen.target
    sure = (confidence >= 0.3).float()
    assert 0 < sure.mean() < 1
    expected = 2 * slow_mean(outputs["student"][1].logits, label, sure, seen.valid_NHW)
    assert terms["unsupervised"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mixing", ["cutmix", "none"])
def test_cps_equals_a_slow_loop(mixing):
    method, batch = make("cps", mixing=mixing, lambda_u=1.5), padded_batch()
    batch.label_l[1, 20:] = 255
    seen, outputs, terms = passed(method, batch)
    for name, other in (("first", "second"), ("second", "first")):
        labeled, unlabeled = outputs[name]
        if mixing == "cutmix":
            label, valid, logits = seen.target[other].label_NHW, seen.valid_NHW, unlabeled.logits
        else:
            logits = torch.cat([labeled.logits, unlabeled.logits])
            label = torch.cat([output.logits for output in outputs[other]]).argmax(dim=1)
            valid = torch.cat([batch.label_l != 255, batch.valid_u])
        expected = 1.5 * slow_mean(logits, label, torch.ones_like(label), valid)
        assert terms[f"unsupervised_{name}"].item() == pytest.approx(expected, rel=1e-4)


def test_ctt_equals_a_slow_loop():
    method, batch = make("ctt", threshold=0.3), padded_batch()
    seen, outputs, terms = passed(method, batch)
    for name, other in (("left", "right"), ("right", "left")):
        label, confidence = seen.target[other]
        sure = [float(confidence[place]) > 0.3 for place in pixels(seen.valid_NHW)]
        mean = slow_mean(
            outputs[name][1].logits, label, torch.ones_like(confidence), seen.valid_NHW
        )
        expected = sum(sure) / len(sure) * mean
        assert terms[f"unsupervised_{name}"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("mean_over", ["agreed", "all"])
def test_cpcl_equals_a_slow_loop(mean_over):
    method, batch = make("cpcl", diagonal_prior=0, mean_over=mean_over), padded_batch()
    seen, outputs, terms = passed(method, batch)
    first, second = seen.target["conservative"], seen.target["progressive"]
    places = pixels(seen.valid_NHW)
    m = [[0] * 5 for _ in range(5)]
    for place in places:
        m[int(first.label_NHW[place])][int(second.label_NHW[place])] += 1
    score = []
    for q in range(5):
        row, column = sum(m[q]), sum(m[p][q] for p in range(5))
        score.append((row - m[q][q]) / max(row, 1) + (column - m[q][q]) / max(column, 1))
    expected, agreed = {"conservative": 0.0, "progressive": 0.0}, 0
    for n, y, x in places:
        a, b = int(first.label_NHW[n, y, x]), int(second.label_NHW[n, y, x])
        ca, cb = float(first.confidence_NHW[n, y, x]), float(second.confidence_NHW[n, y, x])
        label, weight = (a, ca) if score[a] > score[b] else (b, cb)
        if a == b:
            agreed += 1
            label, weight = a, (ca + cb) / 2
            logits = outputs["conservative"][1].logits
            expected["conservative"] += weight * slow_cross_entropy(logits, n, y, x, label)
        logits = outputs["progressive"][1].logits
        expected["progressive"] += weight * slow_cross_entropy(logits, n, y, x, label)
    counts = {
        "conservative": agreed if mean_over == "agreed" else len(places),
        "progressive": len(places),
    }
    for name, total in expected.items():
        found = terms[f"unsupervised_{name}"].item()
        assert found == pytest.approx(total / counts[name], rel=1e-4)


def test_fpl_equals_a_slow_loop():
    method, batch = make("fpl", mass=0.5, most=2), padded_batch()
    seen, outputs, terms = passed(method, batch)
    logits, sets = outputs["first"][1].logits, seen.target["second"]
    total = 0.0
    for n, y, x in pixels(seen.valid_NHW):
        z = logits[n, :, y, x].tolist()
        inside = [c for c in range(5) if sets[n, c, y, x]]
        assert 1 <= len(inside) <= 2
        others = sum(math.exp(z[c]) for c in range(5) if c not in inside)
        total += math.log(1 + others * sum(math.exp(-z[c]) for c in inside))
    expected = total / len(pixels(seen.valid_NHW))
    assert terms["unsupervised_first"].item() == pytest.approx(expected, rel=1e-4)


def test_unimatch_equals_a_slow_loop():
    method, batch = make("unimatch", threshold=0.3), padded_batch()
    seen, outputs, terms = passed(method, batch)
    label, perturbed, boxes = seen.target
    for i, mixed in enumerate(boxes):
        sure = (mixed(label.confidence_NHW) >= 0.3).float()
        logits = outputs["student"][1 + i].logits
        expected = 0.25 * slow_mean(logits, mixed(label.label_NHW), sure, mixed(batch.valid_u))
        assert terms[f"unsupervised_strong{i}"].item() == pytest.approx(expected, rel=1e-4)
    sure = (label.confidence_NHW >= 0.3).float()
    expected = 0.5 * slow_mean(perturbed.logits, label.label_NHW, sure, batch.valid_u)
    assert terms["unsupervised_features"].item() == pytest.approx(expected, rel=1e-4)


def code(image):
    """A class that a pixel's first channel stands for."""
    return (image[:, 0] * 5).long().clamp(max=4)


def read_codes(network, image, mixed=None):
    """Logits of a network that is sure of the code of each pixel."""
    return 50.0 * torch.nn.functional.one_hot(code(image), 5).movedim(-1, 1)


MIXED = {
    "cutmix_seg": lambda target: [target.argmax(dim=1)],
    "fixmatch": lambda target: [target.label_NHW],
    "cps": lambda target: [label.label_NHW for label in target.values()],
    "cpcl": lambda target: [label.label_NHW for label in target.values()],
    "ctt": lambda target: [label.label_NHW for label in target.values()],
    "fpl": lambda target: [positive.int().argmax(dim=1) for positive in target.values()],
    "u2pl": lambda target: [target.label[2:]],
}


@pytest.mark.parametrize("partner", ["next", "drawn"])
@pytest.mark.parametrize("name", MIXED)
def test_labels_are_mixed_as_the_images_are(name, partner, monkeypatch):
    """Networks that read off each pixel's class from its colour stay right about mixed images."""
    method = make(name, cutmix={"partner": partner, "prob": 1.0})
    monkeypatch.setattr(unlabeled, "look", read_codes)
    module = base.module_of(name, "")
    if hasattr(module, "look"):
        monkeypatch.setattr(module, "look", read_codes)
    batch = make_batch(num=2, num_u=2 if partner == "next" else 4)
    batch = replace(batch, strong_u=batch.image_u[None])
    seen = method.observe(batch, 0.5)
    (image,) = seen.images_NCHW
    assert not torch.equal(image, batch.image_u[:2])
    for label in MIXED[name](seen.target):
        assert torch.equal(label, code(image))


@pytest.mark.parametrize("partner", ["next", "drawn"])
def test_unimatch_mixes_labels_as_images(partner):
    method = make("unimatch", cutmix={"partner": partner, "prob": 1.0})
    batch = make_batch(num=2, num_u=2 if partner == "next" else 4)
    seen = method.observe(replace(batch, strong_u=batch.image_u.repeat(2, 1, 1, 1, 1)), 0.5)
    _, perturbed, boxes = seen.target
    assert len(perturbed.logits) == 2
    for image, mixed in zip(seen.images_NCHW, boxes, strict=True):
        assert torch.equal(code(image), mixed(code(batch.image_u)))


@pytest.mark.parametrize("name", [*GROUP, "ads", "prcl"])
def test_labelled_and_unlabelled_images_pass_apart_unless_asked(name):
    batch = make_batch()
    dark = replace(batch, image_u=batch.image_u * 0.3, strong_u=batch.strong_u * 0.3)
    for joint in (False, True):
        first, second = (
            make(name, joint_pass=joint).losses(each, 0.5)["supervised"] for each in (batch, dark)
        )
        assert (first != second) == joint


@pytest.mark.parametrize("name", GROUP)
def test_unlabelled_images_join_when_the_recipe_says(name):
    method = make(name, recipe=replace(RECIPE, unsupervised_from=0.5))
    assert set(method.losses(make_batch(), 0.49)) == {"supervised"}
    assert len(method.losses(make_batch(), 0.5)) > 1


@pytest.mark.parametrize("name", [n for n in GROUP if n != "mean_teacher"])
def test_partners_may_be_drawn_beside_the_batch(name):
    method = make(name, cutmix={"partner": "drawn"})
    assert method.views.partners
    assert all(torch.isfinite(x) for x in method.losses(make_batch(num_u=4), 0.6).values())


@pytest.mark.parametrize("name", GROUP)
def test_it_learns_from_the_unlabelled_images(name):
    with_them = run_steps(make(name), 3)[0]
    without = run_steps(make(name, recipe=replace(RECIPE, unsupervised_from=1.0)), 3)[0]
    assert with_them != without


@pytest.mark.parametrize("name", TWINS)
def test_two_networks_begin_apart(name):
    first, second = make(name).students.values()
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


@pytest.mark.parametrize("name", ["mean_teacher", "cutmix_seg", "ctt"])
def test_a_teacher_follows_its_own_student(name):
    method = make(name, teacher={"decay": 0.0})
    run_steps(method, 2)
    for key, teacher in method.teachers.items():
        pairs = zip(teacher.average.parameters(), method.students[key].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def spoil(network):
    """Makes a network see the last class everywhere, and surely."""
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor([0.0, 0, 0, 0, 50]))


@pytest.mark.parametrize("name", ["mean_teacher", "cutmix_seg"])
def test_the_teacher_teaches(name):
    overrides = {"threshold": 0.0} if name == "cutmix_seg" else {}
    plain, spoilt = make(name, **overrides), make(name, **overrides)
    spoil(spoilt.teachers["student"].average)
    before, after = (m.losses(make_batch(), 0.0)["unsupervised"] for m in (plain, spoilt))
    assert after > 1.5 * before


@pytest.mark.parametrize(("name", "module"), [("cps", cps), ("ctt", ctt)])
def test_a_network_taught_by_itself_is_another_method(name, module, monkeypatch):
    table = "OTHER" if name == "cps" else "TAUGHT_BY"
    overrides = {"threshold": 0.0} if name == "ctt" else {}
    crossed = run_steps(make(name, **overrides), 2)[0]
    monkeypatch.setattr(module, table, {key: key for key in getattr(module, table)})
    assert run_steps(make(name, **overrides), 2)[0] != crossed


def test_ctt_crosses_the_teachers():
    plain, spoilt = (make("ctt", threshold=0.0) for _ in range(2))
    spoil(spoilt.teachers["left"].average)
    before, after = (m.losses(make_batch(), 0.0) for m in (plain, spoilt))
    assert before["unsupervised_right"] != after["unsupervised_right"]
    assert before["unsupervised_left"] == after["unsupervised_left"]


def test_cutmix_seg_counts_as_much_as_its_teacher_is_sure():
    none, some, every = (make("cutmix_seg", threshold=t) for t in (1.0, 0.3, 0.0))
    found = [m.losses(make_batch(), 0.0)["unsupervised"] for m in (none, some, every)]
    assert 0 == found[0] < found[1] < found[2]


def test_fixmatch_learns_the_strong_view_and_from_confident_pixels():
    batch = make_batch()
    strict, usual, lax = (make("fixmatch", threshold=t) for t in (1.0, 0.3, 0.0))
    found = [m.losses(batch, 0.0)["unsupervised"] for m in (strict, usual, lax)]
    assert found[0] < found[1] < found[2]
    weak = replace(batch, strong_u=batch.image_u[None])
    assert make("fixmatch", threshold=0.0).losses(weak, 0.0)["unsupervised"] != found[2]


def test_fpl_with_sets_of_one_class_is_cps():
    single, fuzzy = make("fpl", mass=0.0), make("fpl", mass=0.9)
    expected = run_steps(make("cps"), 3)[0]
    assert run_steps(single, 3)[0] == pytest.approx(expected, rel=1e-4)
    assert run_steps(fuzzy, 3)[0] != pytest.approx(expected, rel=1e-3)


def test_unimatch_perturbs_features_and_boxes_of_two_views():
    seen, _, _ = passed(make("unimatch", threshold=0.0), make_batch(num=8))
    boxes = seen.target[2]
    assert not torch.equal(boxes[0].box_NHW, boxes[1].box_NHW)
    usual, without = (run_steps(make("unimatch", dropout=d), 2)[0] for d in (0.5, 0.0))
    assert usual != without


def test_cpcl_unites_labels_worked_by_hand():
    first = PseudoLabel(torch.tensor([[[0, 1, 2, 0]]]), torch.tensor([[[0.9, 0.8, 0.7, 0.6]]]))
    second = PseudoLabel(torch.tensor([[[0, 2, 1, 3]]]), torch.tensor([[[0.5, 0.4, 0.3, 0.2]]]))
    score = torch.tensor([0.5, 0.1, 0.9, 0.5])
    agreed, union = cpcl.unite(first, second, score)
    assert agreed.tolist() == [[[True, False, False, False]]]
    assert union.label_NHW.tolist() == [[[0, 2, 2, 3]]]  # a tie takes the second
    expected = torch.tensor([[[0.7, 0.4, 0.7, 0.2]]])
    torch.testing.assert_close(union.confidence_NHW, expected)


def test_cpcl_trains_its_conservative_network_where_both_agree():
    method, batch = make("cpcl"), make_batch()
    seen = method.observe(batch, 0.0)
    outputs = {
        name: forward_each(student, batch.image_l, *seen.images_NCHW)
        for name, student in method.students.items()
    }
    logits = {name: output.logits for name, (_, output) in outputs.items()}
    for value in logits.values():
        value.retain_grad()
    sum(method.unsupervised(outputs, seen).values()).backward()
    first, second = (label.label_NHW for label in seen.target.values())
    moved = {name: value.grad.abs().sum(dim=1) > 0 for name, value in logits.items()}
    assert 0.05 < (first == second).float().mean() < 0.95
    assert torch.equal(moved["conservative"], first == second)
    assert moved["progressive"].all()


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("mean_teacher", {"lambda_u": -1.0}, "lambda_u: -1.0; expected at least 0"),
        ("cutmix_seg", {"threshold": 1.5}, "threshold: 1.5; expected 0.0 to 1.0"),
        ("fixmatch", {"cutmix": {"prob": 2.0}}, "cutmix.prob: 2.0; expected 0.0 to 1.0"),
        ("cps", {"mixing": "classmix"}, "mixing: found 'classmix'; expected one of cutmix, none"),
        ("cpcl", {"diagonal_prior": -1}, "diagonal_prior: -1; expected at least 0"),
        ("ctt", {"teacher": {"decay": 2.0}}, "teacher.decay: 2.0; expected 0.0 to 1.0"),
        ("fpl", {"most": 0}, "most: 0; expected at least 1"),
        ("unimatch", {"dropout": -0.5}, "dropout: -0.5; expected 0.0 to 1.0"),
    ],
)
def test_parameters_out_of_range_are_refused(name, parameters, message):
    with pytest.raises(ConfigError, match=message):
        base.resolve(name, parameters, key="x")

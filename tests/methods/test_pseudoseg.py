import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pipeline.cells import at_cells
from pipeline.losses.image_level import sharpen
from pipeline.methods import base
from pipeline.typed import ConfigError
from tests.losses.test_image_level import grad_cam, slow_mean
from tests.methods.test_contract import RECIPE, make, make_batch, run_steps
from tests.methods.test_field import padded_batch


def network_of(method):
    return method.students["student"]


def trained_by(term, method):
    """The parts that the term has a gradient for; `images` is the classifier of images."""
    method.zero_grad()
    term.backward(retain_graph=True)
    reached = [name.split(".") for name, p in method.named_parameters() if p.grad is not None]
    parts = {name[2] if name[0] == "students" else name[0] + "s" for name in reached}
    return {{"classifiers": "images", "attentions": "attention"}.get(part, part) for part in parts}


def given_to_attention(method):
    """Features, scores and validity of each call to come."""
    calls = []
    method.attention.register_forward_pre_hook(lambda _, given: calls.append(given))
    return calls


def decoded_by(network):
    """The decoder's features in each call to come."""
    features = []
    network.register_forward_hook(lambda _, given, output: features.append(output.decoder))
    return features


def balanced(method):
    """Its classifier believes in some classes of some images."""
    with torch.no_grad():
        maps = network_of(method).trunk.eval().maps(make_batch().image_u)
        network_of(method).trunk.train()
        logits = method.classify(maps[-1])
        method.classifier.bias -= logits.mean(dim=0) + torch.tensor([1.0, -1.0, 0.0, 0.0])
    return method


def test_the_soft_labels_are_those_of_a_slow_loop_with_real_grad_cam():
    method, batch = balanced(make("pseudoseg", stages=3)), padded_batch()
    twin = copy.deepcopy(method)
    found = method.teach(batch, batch.valid_u)
    network = network_of(twin)
    decoded = network.classifier(network(batch.image_u).decoder)
    network.trunk.eval()
    maps = network.trunk.maps(batch.image_u)
    present = twin.classify(maps[-1]).sigmoid() >= 0.5
    assert 0 < present.float().mean() < 1
    weight, bias = twin.classifier.weight.flatten(1), twin.classifier.bias
    score = grad_cam(maps[-1], lambda pooled: F.linear(pooled, weight, bias), present)
    size = maps[-1].shape[-2:]
    column = [F.interpolate(m, size=size, mode="bilinear", align_corners=True) for m in maps]
    valid = at_cells(batch.valid_u, size, align_corners=True)
    attended = twin.attention(torch.cat(column, dim=1), score, valid)
    attended = F.interpolate(attended, decoded.shape[-2:], mode="bilinear", align_corners=True)
    mean = slow_mean(*(x.detach().double().numpy() for x in (decoded, attended)))
    expected = mean**2 / (mean**2).sum(axis=1, keepdims=True)
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), atol=1e-5, rtol=1e-4)


def test_consistency_equals_a_slow_loop_over_the_decoders_cells():
    parameters = {"lambda_u": 2.0, "threshold": 0.4, "cutout": {"ratio": [0.3, 0.3]}}
    method, batch = balanced(make("pseudoseg", **parameters)), padded_batch()
    twin = copy.deepcopy(method)
    images = []
    network_of(method).register_forward_pre_hook(lambda _, given: images.append(given[0]))
    term = method.losses(batch, 0.5)["unsupervised"].item()
    weak, strong = images
    assert torch.equal(weak, batch.image_u)
    network = network_of(twin)
    erased = (strong == network.trunk.mean).all(dim=1)
    assert erased.float().mean() == pytest.approx(0.3, abs=0.05)
    assert torch.equal(strong[:, 0][~erased], batch.strong_u[0][:, 0][~erased])
    with torch.no_grad():
        # the labelled images come first, and move the statistics that Grad-CAM sees
        network.trunk.maps(batch.image_l)
        target = twin.teach(batch, batch.valid_u & ~erased)
        log_prob = network.classifier(network(strong).decoder).log_softmax(dim=1)
    valid = at_cells(batch.valid_u & ~erased, (8, 8), align_corners=True)
    total, learnt = 0.0, 0
    for n, y, x in valid.nonzero().tolist():
        if target[n, :, y, x].max() >= 0.4:
            learnt += 1
            total -= float(target[n, :, y, x] @ log_prob[n, :, y, x])
    assert 0 < learnt < valid.sum()
    assert term == pytest.approx(2 * total / int(valid.sum()), rel=1e-4)


def test_each_term_teaches_its_own_part():
    method = make("pseudoseg")
    terms = method.losses(make_batch(), 0.5)
    decoder = {"trunk", "aspp", "low_level", "decoder", "classifier"}
    assert trained_by(terms["supervised"], method) == decoder
    assert trained_by(terms["unsupervised"], method) == decoder
    assert trained_by(terms["attention"], method) == {"attention"}
    assert trained_by(terms["classification"], method) == {"trunk", "images"}
    assert method.classifier.weight.grad.any()


def test_one_pass_serves_all_that_labelled_images_teach():
    method, batch = make("pseudoseg"), make_batch()
    logits = network_of(copy.deepcopy(method))(batch.image_l).logits
    found = method.losses(batch, 0.0)["supervised"]
    torch.testing.assert_close(found, F.cross_entropy(logits, batch.label_l, ignore_index=255))


def test_the_image_level_loss_worked_by_hand():
    method, batch = make("pseudoseg"), make_batch()
    batch.label_l[0] = 2
    batch.label_l[1] = torch.where(batch.label_l[1] == 3, 255, 3)
    twin = copy.deepcopy(method)
    found = method.losses(batch, 0.0)["classification"].item()
    with torch.no_grad():
        mean = network_of(twin).trunk.maps(batch.image_l)[-1].mean(dim=(2, 3))
        logits = (mean @ twin.classifier.weight.flatten(1).T + twin.classifier.bias).tolist()
    shown = [{2}, {3}]
    total = 0.0
    for n in range(2):
        for c in range(1, 5):  # class 0 is the background
            probability = 1 / (1 + math.exp(-logits[n][c - 1]))
            total -= math.log(probability if c in shown[n] else 1 - probability)
    assert found == pytest.approx(total / 8, rel=1e-4)


def test_labelled_images_show_what_their_labels_say_whatever_the_classifier_believes():
    terms = []
    for bias in (-9.0, 9.0):
        method = make("pseudoseg")
        method.classifier.bias.data.fill_(bias)
        terms.append(method.losses(make_batch(), 0.0)["attention"])
    assert terms[0] == terms[1]


def test_the_attention_learns_labelled_pixels_at_the_images_size():
    method, batch = make("pseudoseg"), make_batch()
    batch.label_l[0, 20:] = 255
    twin = copy.deepcopy(method)
    found = method.losses(batch, 0.0)["attention"]
    maps = network_of(twin).trunk.maps(batch.image_l)
    present = torch.stack([(batch.label_l == c).flatten(1).any(dim=1) for c in range(1, 5)], dim=1)
    logits = twin.attend(maps, present, batch.label_l != 255)
    assert logits.shape[-2:] == maps[-1].shape[-2:]
    logits = F.interpolate(logits, (32, 32), mode="bilinear", align_corners=True)
    expected = F.cross_entropy(logits, batch.label_l, ignore_index=255)
    torch.testing.assert_close(found, expected)


def test_attention_and_decoder_both_have_a_say():
    batch = make_batch()
    usual = make("pseudoseg").teach(batch, batch.valid_u)
    moved = {}
    for name in ("attention", "decoder"):
        method = make("pseudoseg")
        part = method.attention if name == "attention" else network_of(method).classifier
        part.bias.data[3] += 5
        moved[name] = method.teach(batch, batch.valid_u)
        assert (moved[name][:, 3] > usual[:, 3]).all()
    assert not torch.equal(moved["attention"], moved["decoder"])


def test_classes_that_the_classifier_does_not_see_are_not_shown():
    batch = make_batch()
    targets = []
    for bias in (-9.0, 9.0):
        method = make("pseudoseg")
        method.classifier.bias.data.fill_(bias)
        calls = given_to_attention(method)
        targets.append(method.teach(batch, batch.valid_u))
        assert calls[0][1].any() == (bias > 0)
    assert not torch.equal(*targets)


def test_grad_cam_sees_running_statistics_and_the_decoder_those_of_the_batch():
    batch = make_batch()
    usual, moved = make("pseudoseg"), make("pseudoseg")
    for norm in network_of(moved).trunk.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_var.mul_(0.1)
    columns, features = [], []
    for method in (usual, moved):
        method.classifier.bias.data.fill_(9.0)
        calls, decoded = given_to_attention(method), decoded_by(network_of(method))
        method.teach(batch, batch.valid_u)
        columns.append(calls[0][0])
        features.append(decoded[0])
        assert all(module.training for module in method.modules())
    assert not torch.equal(*columns)
    assert torch.equal(*features)


def test_what_the_weak_view_says_has_no_gradient_and_is_sharp():
    batch, method = make_batch(), make("pseudoseg")
    features = decoded_by(network_of(method))
    sharp = method.teach(batch, batch.valid_u)
    assert not features[0].requires_grad
    soft = make("pseudoseg", temperature=1.0).teach(batch, batch.valid_u)
    torch.testing.assert_close(sharpen(soft, temperature=0.5), sharp)
    assert (sharp.amax(dim=1) > soft.amax(dim=1)).all()


def test_without_unlabelled_images_attention_and_classifier_learn_already():
    method = make("pseudoseg", recipe=replace(RECIPE, unsupervised_from=0.5))
    assert set(method.losses(make_batch(), 0.4)) == {"supervised", "attention", "classification"}
    assert "unsupervised" in method.losses(make_batch(), 0.5)


def test_without_soft_labels_of_its_own_kind_it_is_another_method():
    usual = run_steps(make("pseudoseg"), 3)[0]
    for changes in ({"temperature": 1.0}, {"lambda_u": 0.0}, {"stages": 1}, {"threshold": 0.6}):
        assert run_steps(make("pseudoseg", **changes), 3)[0] != usual


@pytest.mark.parametrize(("background", "num_shown"), [(True, 4), (False, 5)])
def test_the_background_is_what_no_class_is_or_there_is_none(background, num_shown):
    method = make("pseudoseg", background=background)
    assert method.classifier.out_channels == num_shown
    batch = make_batch(size=(48, 64))
    calls = given_to_attention(method)
    terms = method.losses(batch, 0.5)
    assert all(torch.isfinite(term) for term in terms.values())
    assert [score.shape for _, score, _ in calls] == 2 * [(2, num_shown, 6, 8)]


def test_the_log_says_how_right_each_source_is():
    method, batch = make("pseudoseg", cutout={"prob": 0.0}), make_batch()
    method.attention.bias.data[3] += 99
    network_of(method).classifier.bias.data[2] += 99
    method.losses(batch, 0.5)
    truth = at_cells(batch.truth_u, (8, 8), align_corners=True)
    for who, label in (("attention", 3), ("decoder", 2)):
        assert method.diagnostics[f"accuracy_{who}"] == (truth == label).float().mean()
        assert method.diagnostics[f"confidence_{who}"] > 0.99
    assert method.diagnostics["confidence_teacher"] < 0.9


def test_the_network_is_evaluated_alone():
    method = make("pseudoseg")
    assert method.predictor() is network_of(method)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": 0.0}, r"x\.temperature: 0\.0; expected at least 0\.01"),
        ({"threshold": 1.5}, r"x\.threshold: 1\.5; expected 0\.0 to 1\.0"),
        ({"lambda_u": -1.0}, r"x\.lambda_u: -1\.0; expected at least 0"),
        ({"dim": 0}, r"x\.dim: 0; expected at least 1"),
        ({"stages": 0}, r"x\.stages: 0; expected at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        base.resolve("pseudoseg", parameters, key="x")


def test_a_trunk_has_to_have_the_stages():
    with pytest.raises(ConfigError, match=r"stages: 4 with network\.trunk_stages 3; expected at"):
        make("pseudoseg", stages=4)


def test_nothing_is_pasted_so_no_partner_is_drawn():
    with pytest.raises(ConfigError, match=r"^test\.cutout\.partner: 'drawn'; expected 'next'"):
        make("pseudoseg", cutout={"partner": "drawn"})

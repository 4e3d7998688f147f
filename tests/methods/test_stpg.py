"""What makes STPG STPG: each idea, removed or reversed, must show."""

from dataclasses import replace

import pytest
import torch

from pipeline.cells import at_cells
from pipeline.dual_contrast import true_class_prob
from pipeline.losses.anchors import unit
from pipeline.losses.segmentation import PseudoLabel
from pipeline.methods import base
from pipeline.methods.stpg import Mixed
from pipeline.typed import ConfigError
from tests.methods.test_contract import RECIPE, make, make_batch, run_steps


def same(first, second):
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_students_start_apart_and_each_teacher_as_its_own_student():
    method = make("stpg")
    assert not torch.equal(
        method.gen_student.network.classifier.weight, method.pro_student.network.classifier.weight
    )
    assert same(method.gen_teacher.average, method.gen_student)
    assert not same(method.gen_teacher.average.network, method.pro_teacher.average.network)


def test_each_teacher_follows_the_student_of_its_name():
    method = make("stpg", teacher={"decay": 0.0})
    run_steps(method, 2)
    assert same(method.gen_teacher.average, method.gen_student)
    assert same(method.pro_teacher.average, method.pro_student)


def spoil(teacher):
    """Makes a teacher see the last class everywhere, and surely."""
    with torch.no_grad():
        teacher.average.network.classifier.weight.zero_()
        teacher.average.network.classifier.bias.copy_(torch.tensor([0.0, 0, 0, 0, 50]))


@pytest.mark.parametrize(
    ("teacher", "taught", "spared"),
    [
        ("pro_teacher", "unsupervised_gen", "unsupervised_pro"),
        ("gen_teacher", "unsupervised_pro", "unsupervised_gen"),
    ],
)
def test_each_student_is_taught_by_the_other_modules_teacher(teacher, taught, spared):
    plain, spoilt = make("stpg", selection="all"), make("stpg", selection="all")
    spoil(getattr(spoilt, teacher))
    before, after = (m.losses(make_batch(), 0.0) for m in (plain, spoilt))
    assert before[taught] != after[taught]
    assert before[spared] == after[spared]


def test_only_selected_pixels_inside_the_images_train_the_professional_student():
    method = make("stpg")
    logits = torch.randn(2, 5, 32, 32, requires_grad=True)
    label = torch.randint(5, (2, 32, 32))
    valid = torch.ones(2, 32, 32, dtype=torch.bool)
    valid[:, :8] = False
    by_gen = PseudoLabel(label, torch.full((2, 32, 32), 0.5))
    mixed = Mixed(torch.empty(0), valid, label, by_gen, by_gen)
    method.professional(logits, mixed).backward()
    trained = logits.grad.abs().sum(dim=1) > 0
    assert not trained[:, :8].any()
    share = trained.sum() / valid.sum()
    assert share == pytest.approx(method.diagnostics["share_selected"].item())
    assert 0.2 < share < 1


@pytest.mark.parametrize("selection", ["all", "consistent", "consistent+low"])
def test_the_selection_matters(selection):
    usual, other = (run_steps(make("stpg", **o), 3)[0] for o in ({}, {"selection": selection}))
    assert usual != other


@pytest.mark.parametrize("loss", ["anchor", "similarity", "both", "none"])
def test_the_contrast_has_the_terms_that_were_asked_for(loss):
    method = make("stpg", contrast={"loss": loss})
    run_steps(method, 3)
    terms = method.losses(make_batch(step=3), 0.4)
    assert (terms["anchor"] > 0) == (loss in ("anchor", "both"))
    assert (terms["similarity"] > 0) == (loss in ("similarity", "both"))
    assert (method.contrast is None) == (loss == "none")


def test_the_bank_is_filled_from_the_general_teacher():
    method = make("stpg")
    batch = make_batch()
    features = []
    method.gen_teacher.average.projection.register_forward_hook(lambda *a: features.append(a[-1]))
    method.losses(batch, 0.2)
    method.after_backward(0.2)
    assert len(features) == 1
    flat = unit(features[0].movedim(1, -1).reshape(-1, 24))
    kept = method.contrast.bank.bank_CQD[method.contrast.bank.filled_CQ]
    assert len(kept) > 0
    assert all((flat == row).all(dim=1).any() for row in kept)


def test_the_projection_heads_learn():
    method = make("stpg")
    before = method.gen_student.projection[0].weight.clone()
    run_steps(method, 3)
    assert not torch.equal(before, method.gen_student.projection[0].weight)


def test_warm_ups_hold_their_terms_back():
    late = {"bank_from": 0.4, "loss_from": 0.5, "assign_until": 0.9}
    method = make("stpg", recipe=replace(RECIPE, unsupervised_from=0.5), contrast=late)
    early, later = method.losses(make_batch(), 0.3), method.losses(make_batch(), 0.6)
    for term in ("unsupervised_gen", "unsupervised_pro", "anchor"):
        assert early[term] == 0 < later[term]
    method.after_backward(0.3)


def test_without_unlabelled_weight_only_the_supervised_loss_remains():
    terms = make("stpg", lambda_u=0.0, contrast={"loss": "none"}).losses(make_batch(), 0.6)
    assert terms["supervised"] > 0
    assert all(value == 0 for key, value in terms.items() if key != "supervised")


def test_without_unlabelled_weight_the_contrast_still_has_unlabelled_pixels():
    """Equation 17 weights it by lambda_ctr alone."""
    contrast = {"bank_from": 0.0, "loss_from": 0.0, "assign_until": 1.0}
    found = {}
    for pixels in (["labeled"], ["labeled", "unlabeled"]):
        method = make("stpg", lambda_u=0.0, contrast=contrast | {"pixels": pixels})
        found[len(pixels)] = method.losses(make_batch(), 0.6)
    assert found[2]["unsupervised_gen"] == found[2]["unsupervised_pro"] == 0
    assert found[2]["anchor"] > found[1]["anchor"] > 0


def test_without_any_unlabelled_weight_no_teacher_looks_at_an_image(monkeypatch):
    method = make("stpg", lambda_u=0.0, lambda_ctr=0.0)
    monkeypatch.setattr(method, "mix_unlabeled", None)  # a call of it fails
    terms = method.losses(make_batch(), 0.6)
    assert method.contrast is None
    assert method.gen_student.projection is None
    assert terms.pop("supervised") > 0
    assert all(value == 0 for value in terms.values())


def test_one_module_is_a_mean_teacher():
    method = make("stpg", dual=False, selection="all", contrast={"loss": "none"})
    terms = method.losses(make_batch(), 0.0)
    assert method.pro_student is None
    assert terms["unsupervised_gen"] > 0 == terms["unsupervised_pro"]


def test_labels_are_mixed_as_the_images_are():
    """Teachers that read off each pixel's class from its colour stay right about mixed images."""
    method, batch = make("stpg"), make_batch()
    mixed = method.mix_unlabeled(batch)
    own = (mixed.image == batch.image_u).all(dim=1)
    partner = (mixed.image == batch.image_u.roll(-1, 0)).all(dim=1)
    assert (own | partner).all()
    assert 0.1 < partner.float().mean() < 0.6
    expected = torch.where(own, batch.truth_u, batch.truth_u.roll(-1, 0))
    assert torch.equal(mixed.truth_NHW, expected)


@pytest.mark.parametrize("align_corners", [True, False])
def test_a_sure_teacher_is_sure_at_every_cell_however_thin_the_classes(align_corners):
    """Labels and probabilities are read at one pixel, that of the feature's cell."""
    draw = torch.Generator().manual_seed(0)
    label = torch.randint(5, (2, 64, 96), generator=draw)
    label[:, :3] = 255
    logits = 50.0 * torch.nn.functional.one_hot(label % 5, 5).movedim(-1, 1)
    prob = true_class_prob(logits, label)
    size = torch.Size((8, 12))
    cell_label, cell_prob = (
        at_cells(value, size, align_corners=align_corners) for value in (label, prob)
    )
    assert (cell_prob[cell_label != 255] > 0.999).all()
    # 64 pixels in 8 cells: the middles 4, 12 ..., or with the corners on the border 0, 9 ...
    places = [0, 9, 18, 27, 36, 45, 54, 63] if align_corners else [4, 12, 20, 28, 36, 44, 52, 60]
    column = 0 if align_corners else 4
    assert cell_label[0, :, 0].tolist() == [label[0, y, column].item() for y in places]


def test_the_predictor_is_the_general_student():
    method = make("stpg")
    assert method.predictor() is method.gen_student.network


def test_padding_is_learnt_only_where_asked_for():
    batch = replace(make_batch(), valid_u=torch.zeros(2, 32, 32, dtype=torch.bool))
    usual, official = (make("stpg", count_padding=count) for count in (False, True))
    assert usual.losses(batch, 0.0)["unsupervised_gen"] == 0
    assert official.losses(batch, 0.0)["unsupervised_gen"] > 0


def test_passes_apart_share_no_batch_statistics():
    for joint, changes in ((True, True), (False, False)):
        method = make("stpg", joint_pass=joint, contrast={"loss": "none"})
        batch = make_batch()
        other = replace(batch, image_u=batch.image_u.flip(0) * 0.5)
        first, second = (method.losses(b, 0.0)["supervised"] for b in (batch, other))
        assert (first != second) == changes


def test_a_partner_may_be_drawn_beside_the_batch():
    method, batch = make("stpg", cutmix={"partner": "drawn"}), make_batch(num_u=4)
    assert method.views.partners
    mixed = method.mix_unlabeled(batch)
    own = (mixed.image == batch.image_u[:2]).all(dim=1)
    partner = (mixed.image == batch.image_u[2:]).all(dim=1)
    assert (own | partner).all()
    assert 0.1 < partner.float().mean() < 0.6
    assert torch.equal(mixed.truth_NHW, torch.where(own, batch.truth_u[:2], batch.truth_u[2:]))
    assert all(torch.isfinite(term) for term in method.losses(batch, 0.6).values())


def test_a_class_with_too_few_pixels_is_not_contrasted():
    contrast = make("stpg", contrast={"loss": "anchor", "min_pixels": 2}).contrast
    feature, label = torch.randn(5, 24), torch.tensor([0, 0, 0, 1, 1])
    draw = torch.Generator().manual_seed(0)
    expected = contrast.losses(feature, label, draw)
    feature, label = torch.cat([feature, torch.randn(1, 24)]), torch.tensor([0, 0, 0, 1, 1, 4])
    assert contrast.losses(feature, label, draw)["anchor"] == pytest.approx(expected["anchor"])


@pytest.mark.parametrize(
    "change",
    [{"normalize_prototypes": True}, {"reduction": "every_class"}, {"head_norm": True}],
)
def test_the_readings_of_the_contrast_reach_it(change):
    usual, other = make("stpg"), make("stpg", contrast=change)
    for method in (usual, other):
        run_steps(method, 4)
    assert not torch.equal(usual.contrast.prototype_CD, other.contrast.prototype_CD)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dual": False}, "selection: 'consistent\\+high' with x.dual false; expected 'all'"),
        ({"contrast": {"bank_size": 0}}, "bank_size: 0 with x.contrast.loss 'both'"),
        ({"contrast": {"bank_from": 0.6}}, "bank_from: 0.6; expected at most"),
        ({"contrast": {"students": ["pro"]}}, "students: \\['pro'\\]; expected 'gen' among them"),
        ({"selection": "high"}, "selection: found 'high'; expected one of all, consistent"),
        ({"lambda_u": -1.0}, "lambda_u: -1.0; expected at least 0"),
        ({"teacher": {"decay": 2.0}}, "teacher.decay: 2.0; expected 0.0 to 1.0"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        base.resolve("stpg", parameters, key="x")

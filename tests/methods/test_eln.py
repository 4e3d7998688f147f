import copy
from dataclasses import replace

import pytest
import torch

from pipeline.cells import at_cells
from pipeline.losses.error_localization import localization_loss
from pipeline.losses.segmentation import cross_entropy
from pipeline.methods import base
from pipeline.typed import ConfigError
from tests.losses.test_error_localization import slow_contrast
from tests.methods.test_contract import RECIPE, UNLABELED, make, make_batch, run_steps
from tests.methods.test_field import slow_mean, spoil


def same(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def believe(method, right):
    """Lets the method find these pixels right; bool [N, H, W] or one bool for all."""
    method.localizer.forward = lambda image, logits, **_: torch.where(
        torch.as_tensor(right), 1.0, -1.0
    ).expand(len(image), *image.shape[-2:])


def unsupervised(method, batch):
    terms = method.losses(batch, 0.9)
    return {k: v for k, v in terms.items() if k.startswith(("unsupervised", "contrast"))}


def test_the_phases_follow_each_other():
    method = make("eln", localize_from=0.25, teach_from=0.5)
    begun = []
    for step in range(4):
        method.before_step(step / 4, UNLABELED)
        begun.append(set(method.losses(make_batch(step=step), step / 4)))
    errors = {"supervised", "auxiliary", "localization"}
    taught = {
        f"{kind}_{view}" for kind in ("unsupervised", "contrast") for view in ("weak", "strong")
    }
    assert begun == [{"supervised"}, errors, errors | taught, errors | taught]


def test_the_teacher_begins_as_the_student_and_then_follows():
    slow = {"decay": 0.75, "warm_up": False}
    method = make("eln", localize_from=0.25, teach_from=0.5, teacher=slow)
    student, teacher = method.student, method.teacher
    first = copy.deepcopy(student)
    run_steps(method, 4)
    assert same(teacher.average, first)  # does not follow yet
    assert not same(student, first)
    method.before_step(0.5, UNLABELED)
    assert same(teacher.average, student)
    weight, old = student.network.classifier.weight, copy.deepcopy(student)
    with torch.no_grad():
        weight.add_(1)
    method.after_update(0.6)
    expected = old.network.classifier.weight + 0.25
    torch.testing.assert_close(teacher.average.network.classifier.weight, expected)


def test_the_student_starts_anew_from_the_teacher_after_so_many_steps():
    method = make("eln", localize_from=0.0, teach_from=0.0, restart=3)
    anew = []
    for step in range(8):
        before = copy.deepcopy(method.student)
        method.before_step(step / 8, UNLABELED)
        anew.append(not same(method.student, before))
        if step:
            assert same(method.student, method.teacher.average) == anew[-1]
        with torch.no_grad():
            method.student.network.classifier.weight.add_(1)
        method.after_update((step + 1) / 8)
    assert anew == [False, False, False, True, False, False, True, False]


def test_pixels_found_right_are_learnt_and_equal_a_slow_loop():
    method, batch = make("eln", lambda_u=2.0), make_batch()
    right = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(5)) < 0.6
    valid = batch.valid_u.clone()
    valid[0, :9] = False
    believe(method, right)
    batch = replace(batch, valid_u=valid)
    label = method.teacher(batch.image_u).logits.argmax(dim=1)
    network = copy.deepcopy(method.student)
    terms = unsupervised(method, batch)
    for view, image in (("weak", batch.image_u), ("strong", batch.strong_u[0])):
        logits = network(image).logits
        expected = 2 * slow_mean(logits, label, torch.ones_like(label), right & valid)
        assert terms[f"unsupervised_{view}"].item() == pytest.approx(expected, rel=1e-4)
    share = (right & valid).sum() / valid.sum()
    assert method.diagnostics["share_kept"] == share
    kept = right & valid
    expected = (label == batch.truth_u)[kept].float().mean()
    assert method.diagnostics["accuracy_kept"] == expected


def test_what_is_found_wrong_teaches_nothing():
    method, batch = make("eln"), make_batch()
    believe(method, False)
    assert all(term == 0 for term in unsupervised(method, batch).values())
    believe(method, True)
    assert all(term > 0 for term in unsupervised(method, batch).values())


def test_the_contrast_of_whole_images_equals_a_slow_loop():
    method, batch = make("eln", lambda_c=3.0), make_batch()
    right = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(5)) < 0.6
    believe(method, right)
    method.student.projection.eval()  # drops nothing
    told = method.teacher(batch.image_u)
    label = told.logits.argmax(dim=1).masked_fill(~right, 255)
    cells = at_cells(label, told.decoder.shape[-2:], align_corners=True)
    with torch.no_grad():
        query = method.teacher.average.project(told)
        key = method.student.project(copy.deepcopy(method.student)(batch.strong_u[0]))
    query, key = (value.movedim(1, -1).flatten(0, 2) for value in (query, key))
    expected = 3 * slow_contrast(query, key, cells.flatten(), 0.5)
    found = unsupervised(method, batch)["contrast_strong"]
    assert found.item() == pytest.approx(expected, rel=1e-3)
    found.backward()
    assert method.student.projection[0].weight.grad.any()


def test_each_view_is_seen_through_windows_of_its_own():
    method, batch = make("eln", windows=1, side=2), make_batch()
    believe(method, True)
    method.student.projection.eval()  # drops nothing
    terms = unsupervised(method, replace(batch, strong_u=batch.image_u[None]))
    torch.testing.assert_close(terms["unsupervised_weak"], terms["unsupervised_strong"])
    assert terms["contrast_weak"] != terms["contrast_strong"]


def test_labels_found_wrong_do_not_matter():
    """Where the teacher is found wrong, another label leads to the same step."""
    totals = {}
    for blind in (False, True):
        for spoilt in (False, True):
            method, batch = make("eln", lambda_c=0.0), make_batch()
            half = torch.zeros(2, 32, 32, dtype=torch.bool)
            half[:, :16] = True
            believe(method, half if blind else True)
            teach = method.teacher.forward

            def tell(image, teach=teach, spoilt=spoilt):
                output = teach(image)
                output.logits[:, 0, 16:] += 50.0 * spoilt
                return output

            method.teacher.forward = tell
            totals[blind, spoilt] = sum(unsupervised(method, batch).values()).item()
    assert totals[True, False] == totals[True, True]
    assert totals[False, False] != totals[False, True]


def test_the_localizer_judges_the_teachers_prediction_and_is_not_taught_by_it():
    method, batch, asked = make("eln"), make_batch(), []
    told = method.teacher(batch.image_u).logits
    judge = method.localizer.forward
    method.localizer.forward = lambda image, logits, **how: (
        asked.append((image, logits, how | {"train": method.localizer.training}))
        or judge(image, logits, **how)
    )
    terms = unsupervised(method, batch)
    image, logits, how = asked[-1]
    assert image is batch.image_u
    assert torch.equal(logits, told)
    assert how == {"dropout": False, "train": True}  # statistics of the batch, as in the code
    sum(terms.values()).backward()
    assert all(p.grad is None for p in method.localizer.parameters())
    assert all(p.grad is None for p in method.auxiliary.parameters())


def test_the_localizer_learns_the_errors_of_all_decoders():
    method, batch, asked = make("eln"), make_batch(), []
    batch.label_l[:, :5] = 255
    judge = method.localizer.forward
    method.localizer.forward = lambda image, logits, **how: (
        asked.append((image, logits, how)) or judge(image, logits, **how)
    )
    student = copy.deepcopy(method.student)
    scores = []
    method.localizer.register_forward_hook(lambda _, __, score: scores.append(score))
    terms = method.losses(batch, 0.2)
    assert len(asked) == 3
    expected = sum(
        localization_loss(score, logits.argmax(dim=1) == batch.label_l, batch.label_l != 255)
        for score, (_, logits, _) in zip(scores, asked, strict=True)
    )
    torch.testing.assert_close(terms["localization"], expected)
    assert all(image is batch.image_l and how == {} for image, _, how in asked)
    torch.testing.assert_close(asked[0][1], student(batch.image_l).logits)
    low, high = copy.deepcopy(student).network.trunk(batch.image_l)
    for part, (_, logits, _) in zip(method.auxiliary, asked[1:], strict=True):
        torch.testing.assert_close(logits, part.decode(low, high, (32, 32)).logits)
    terms["localization"].backward()
    assert all(p.grad is not None for p in method.localizer.parameters())
    assert all(p.grad is None for p in method.student.parameters())
    assert all(p.grad is None for p in method.auxiliary.parameters())


def test_the_localizer_comes_to_find_the_errors():
    method, batch = make("eln"), make_batch()
    optimizer = torch.optim.Adam(method.localizer.parameters(), lr=0.01)
    for _ in range(25):
        loss = method.losses(batch, 0.2)["localization"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = method.student(batch.image_l).logits
        found = method.localizer(batch.image_l, logits, dropout=False) > 0
    right = logits.argmax(dim=1) == batch.label_l
    assert found[right].float().mean() > 0.2 + found[~right].float().mean()


@pytest.mark.parametrize(("margin", "learns"), [(0.01, True), (50.0, False)])
def test_an_auxiliary_decoder_learns_only_while_it_is_bad_enough(margin, learns):
    method, batch = make("eln", margins=[margin]), make_batch()
    terms = method.losses(batch, 0.2)
    loss = method.diagnostics["loss_auxiliary0"]
    assert (loss >= margin * terms["supervised"]) == learns
    assert terms["auxiliary"] == (loss if learns else 0)
    terms["auxiliary"].backward()
    moved = any(p.grad.any() for p in method.auxiliary.parameters())
    assert moved == learns
    assert all(p.grad is None for p in method.student.parameters())


def test_decoders_stay_as_bad_as_their_margins_say():
    method, batch = make("eln", margins=[2.0, 8.0]), make_batch()
    spoil_not(method, batch)
    optimizer = torch.optim.Adam(method.auxiliary.parameters(), lr=0.01)
    for _ in range(30):
        terms = method.losses(batch, 0.2)
        optimizer.zero_grad()
        terms["auxiliary"].backward()
        optimizer.step()
    supervised = terms["supervised"].item()
    losses = [method.diagnostics[f"loss_auxiliary{i}"].item() for i in range(2)]
    assert supervised < losses[0] < losses[1]


def spoil_not(method, batch):
    """Trains the student on the labelled images alone."""
    optimizer = torch.optim.Adam(method.student.parameters(), lr=0.01)
    for _ in range(15):
        loss = method.losses(batch, 0.0)["supervised"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_decoders_begin_apart():
    first, second = make("eln").auxiliary
    assert not torch.equal(first.classifier.weight, second.classifier.weight)


def test_the_teacher_teaches():
    plain, spoilt = make("eln"), make("eln")
    spoil(spoilt.teacher.average.network)
    for method in (plain, spoilt):
        believe(method, True)
    before, after = (unsupervised(m, make_batch())["unsupervised_weak"] for m in (plain, spoilt))
    assert before != after


def test_without_errors_made_or_contrast_it_is_another_method():
    eager = {"localize_from": 0.0, "teach_from": 0.0}
    usual = run_steps(make("eln", **eager), 3)[0]
    for change in ({"margins": []}, {"lambda_c": 0.0}, {"lambda_u": 0.0}, {"restart": 1}):
        assert run_steps(make("eln", **eager | change), 3)[0] != usual, change


def test_the_localizer_may_have_a_trunk_of_its_own():
    usual, other = make("eln"), make("eln", trunk="resnet18")
    mine, its = (len(list(m.localizer.network.trunk.parameters())) for m in (usual, other))
    assert mine == len(list(usual.student.network.trunk.parameters())) != its
    assert torch.isfinite(other.losses(make_batch(), 0.2)["localization"])


def test_the_teacher_keeps_its_decay_from_its_first_step_on():
    config = base.resolve("eln", {}, key="x").teacher
    assert (config.decay, config.warm_up) == (0.995, False)


def test_the_student_is_evaluated():
    method = make("eln")
    assert method.predictor() is method.student.network


def test_the_labelled_loss_of_the_recipe_is_that_of_auxiliary_decoders_too():
    method, batch = make("eln", margins=[0.0]), make_batch()
    method.labeled_loss = lambda logits, label: 7 * cross_entropy(logits, label)
    seven = method.losses(batch, 0.2)["auxiliary"]
    one = make("eln", margins=[0.0]).losses(batch, 0.2)["auxiliary"]
    torch.testing.assert_close(seven, 7 * one)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"teach_from": 0.1}, r"x\.teach_from: 0\.1; expected at least x\.localize_from \(0\.14\)"),
        ({"margins": [20, -1]}, r"x\.margins\[1\]: -1\.0; expected at least 0"),
        ({"tau": 0.01}, r"x\.tau: 0\.01; expected 0\.05 to 100"),
        ({"restart": 0}, r"x\.restart: 0; expected at least 1"),
        ({"lambda_u": -1.0}, r"x\.lambda_u: -1\.0; expected at least 0"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        base.resolve("eln", parameters, key="x")


def test_a_trunk_that_the_weights_are_not_of_is_refused():
    network = replace(RECIPE.network, weights="file:resnet18.pth")
    with pytest.raises(
        ConfigError, match=r"^methods\.eln\.trunk: resnet34, for which network\.weigh"
    ):
        make("eln", recipe=replace(RECIPE, network=network), trunk="resnet34")

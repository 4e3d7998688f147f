from dataclasses import replace

import pytest
import torch

from pipeline.augment.cutmix import CutMixConfig
from pipeline.teaching import Thresholded, Weighted, frozen, mixed_lesson, with_own_rate
from pipeline.typed import ConfigError, from_mapping
from pipeline.unlabeled import boxes_of
from tests.methods.test_contract import make, make_batch


def test_a_lesson_is_mixed_by_one_set_of_boxes():
    batch, students = make_batch(num=3), make("cps").eval().students
    noted = {}
    lesson = mixed_lesson(
        batch,
        CutMixConfig(),
        students,
        batch.strong_u[0],
        measure=lambda *what, teacher: noted.update({teacher: what}),
        called="{}_net",
    )
    mixed = boxes_of(batch, CutMixConfig())
    assert torch.equal(lesson.image, mixed(batch.strong_u[0]))
    assert torch.equal(lesson.valid, mixed(batch.valid_u))
    assert list(lesson.labels) == ["first", "second"]
    for name, student in students.items():
        with torch.no_grad():
            label = student(batch.image_u).logits.argmax(dim=1)
        assert torch.equal(lesson.labels[name].label_NHW, mixed(label))
        taught, truth, valid = noted[f"{name}_net"]
        assert taught is lesson.labels[name]
        assert torch.equal(truth, mixed(batch.truth_u))
        assert torch.equal(valid, lesson.valid)


def test_a_lesson_needs_no_truth():
    batch = make_batch()
    hidden = replace(batch, truth_u=torch.full_like(batch.truth_u, 255))
    first, second = (
        mixed_lesson(
            each, CutMixConfig(), make("cps").students, each.image_u, measure=lambda *_, **__: None
        )
        for each in (batch, hidden)
    )
    for name, label in first.labels.items():
        assert torch.equal(label.label_NHW, second.labels[name].label_NHW)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (Weighted, {"lambda_u": -1.0}, r"x\.lambda_u: -1\.0; expected at least 0"),
        (Thresholded, {"lambda_u": -1.0}, r"x\.lambda_u: -1\.0; expected at least 0"),
        (Thresholded, {"threshold": 1.5}, r"x\.threshold: 1\.5; expected 0\.0 to 1\.0"),
    ],
)
def test_shared_parameters_are_checked(kind, value, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(kind, value, "x")


def test_a_frozen_module_passes_the_gradient_on_and_takes_none():
    module, value = torch.nn.Linear(3, 2), torch.rand(4, 3, requires_grad=True)
    found = frozen(module, value)
    assert torch.equal(found, module(value))
    found.sum().backward()
    torch.testing.assert_close(value.grad, module.weight.sum(dim=0).expand(4, 3))
    assert module.weight.grad is None


def test_a_part_may_learn_at_a_rate_of_its_own():
    whole = torch.nn.ModuleList([torch.nn.Linear(3, 2), torch.nn.Linear(2, 1)])
    groups = [
        {"params": [whole[0].weight, whole[1].weight], "weight_decay": 0.1},
        {"params": [whole[0].bias, whole[1].bias], "weight_decay": 0.0},
    ]
    found = with_own_rate(groups, whole[1], 0.5)
    got = [(g["params"], g["weight_decay"], g["lr_scale"]) for g in found]
    assert [[id(p) for p in params] for params, _, _ in got] == [
        [id(p)] for p in (whole[0].weight, whole[1].weight, whole[0].bias, whole[1].bias)
    ]
    assert [rest for _, *rest in got] == [[0.1, 1.0], [0.1, 0.5], [0.0, 1.0], [0.0, 0.5]]

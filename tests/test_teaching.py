from dataclasses import replace

import pytest
import torch

from pipeline.augment.cutmix import CutMixConfig
from pipeline.teaching import Thresholded, Weighted, mixed_lesson
from pipeline.typed import ConfigError, from_mapping
from pipeline.unlabeled import boxes_of
from tests.methods.test_contract import make, make_batch


def test_a_lesson_is_mixed_by_one_set_of_boxes():
    batch, students = make_batch(num=3), make("cps").eval().students
    lesson = mixed_lesson(batch, CutMixConfig(), students, batch.strong_u[0], called="{}_net")
    mixed = boxes_of(batch, CutMixConfig())
    assert torch.equal(lesson.image, mixed(batch.strong_u[0]))
    assert torch.equal(lesson.valid, mixed(batch.valid_u))
    assert list(lesson.labels) == ["first", "second"]
    for name, student in students.items():
        with torch.no_grad():
            label = student(batch.image_u).logits.argmax(dim=1)
        assert torch.equal(lesson.labels[name].label_NHW, mixed(label))
        right = lesson.labels[name].label_NHW == mixed(batch.truth_u)
        found = lesson.measured[f"accuracy_{name}_net"]
        assert found == pytest.approx(right.float().mean().item())


def test_a_lesson_needs_no_truth():
    batch = make_batch()
    hidden = replace(batch, truth_u=torch.full_like(batch.truth_u, 255))
    first, second = (
        mixed_lesson(each, CutMixConfig(), make("cps").students, each.image_u)
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

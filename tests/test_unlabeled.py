import math

import pytest
import torch
from torch import nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.losses.segmentation import PseudoLabel
from pipeline.models.deeplab import Output
from pipeline.unlabeled import accuracy, boxes_of, forward_each, look, measured, valid_pixels
from tests.methods.test_contract import make_batch


class Norm(nn.Module):
    """A network of one batch norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, image):
        value = self.norm(image)
        return Output(value, value + 1, value + 2)


@pytest.mark.parametrize(("partner", "num_u"), [("next", 4), ("drawn", 8)])
def test_the_boxes_fit_the_batch(partner, num_u):
    batch, config = make_batch(num=4, num_u=num_u), CutMixConfig(partner=partner)
    boxes = boxes_of(batch, config)
    assert boxes.box_NHW.shape == (4, 32, 32)
    assert boxes(batch.image_u).shape == (4, 3, 32, 32)
    assert torch.equal(boxes.box_NHW, boxes_of(batch, config).box_NHW)
    assert not torch.equal(boxes.box_NHW, boxes_of(batch, config, name="other").box_NHW)


def test_images_passed_together_share_their_statistics():
    images = torch.rand(2, 3, 8, 8), torch.rand(3, 3, 8, 8) + 5
    joint = forward_each(Norm(), *images)
    whole = Norm()(torch.cat(images))
    assert [len(output.logits) for output in joint] == [2, 3]
    for got, expected in zip(zip(*joint, strict=True), whole, strict=True):
        torch.testing.assert_close(torch.cat(got), expected)
    apart = forward_each(Norm(), *images, together=False)
    for output in apart:
        torch.testing.assert_close(output.logits.mean(dim=(0, 2, 3)), torch.zeros(3))
    assert joint[1].logits.mean() > 0.5


def test_images_of_another_size_have_a_pass_of_their_own():
    first, small, second = (
        torch.rand(2, 3, 8, 8),
        torch.rand(1, 3, 4, 4) + 9,
        torch.rand(1, 3, 8, 8),
    )
    found = forward_each(Norm(), first, small, second)
    expected = forward_each(Norm(), first, second)
    torch.testing.assert_close(found[0].logits, expected[0].logits)
    torch.testing.assert_close(found[2].logits, expected[1].logits)
    torch.testing.assert_close(found[1].logits.mean(dim=(0, 2, 3)), torch.zeros(3))


def test_drawn_partners_pass_a_network_apart():
    batch, network = make_batch(num=2, num_u=4), Norm()
    drawn, following = (
        look(network, batch.image_u, boxes_of(batch, CutMixConfig(partner=partner)))
        for partner in ("drawn", "next")
    )
    halves = [Norm()(half).logits for half in batch.image_u.chunk(2)]
    torch.testing.assert_close(drawn, torch.cat(halves))
    torch.testing.assert_close(following, Norm()(batch.image_u).logits)
    assert not drawn.requires_grad


def test_drawn_partners_have_to_be_there():
    with pytest.raises(AssertionError, match=r"Views\.partners"):
        boxes_of(make_batch(num=4), CutMixConfig(partner="drawn"))


def test_accuracy_counts_known_pixels_only():
    label = torch.tensor([[1, 1, 2, 3]])
    truth = torch.tensor([[1, 2, 255, 3]])
    among = torch.tensor([[True, True, True, False]])
    assert accuracy(label, truth, among) == 0.5
    assert math.isnan(accuracy(label, truth, torch.zeros_like(among)))


def test_what_is_measured_bears_the_teachers_name():
    label = PseudoLabel(torch.tensor([[1, 2, 2, 0]]), torch.tensor([[0.5, 1.0, 0.52, 0.9]]))
    truth, valid = torch.tensor([[1, 1, 2, 255]]), torch.tensor([[True, True, False, True]])
    found = measured(label, truth, valid, num_classes=3, teacher="gen_teacher")
    found = {name: value.tolist() for name, value in found.items()}
    bins = [[int(k in counted) for k in range(20)] for counted in ([10, 19], [10])]
    assert found == {
        "accuracy_gen_teacher": 0.5,
        "confidence_gen_teacher": pytest.approx(0.8),
        "labels_gen_teacher_by_class": [0, 1, 1],
        "right_gen_teacher_by_class": [0, 1, 0],
        "labels_gen_teacher_by_confidence": bins[0],
        "right_gen_teacher_by_confidence": bins[1],
    }


def test_pixels_with_a_label_count_and_pixels_that_are_no_padding():
    batch = make_batch(num=2)
    batch.label_l[1, 4:] = 255
    batch.valid_u[0, :7] = False
    found = valid_pixels(batch)
    assert torch.equal(found[:2], batch.label_l != 255)
    assert torch.equal(found[2:], batch.valid_u)

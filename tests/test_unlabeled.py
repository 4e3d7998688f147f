import math

import pytest
import torch
from torch import nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.losses.segmentation import PseudoLabel
from pipeline.models.deeplab import Output
from pipeline.unlabeled import accuracy, boxes_of, forward_each, look, measured
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
    label = PseudoLabel(torch.tensor([[1, 2]]), torch.tensor([[0.5, 0.9]]))
    valid = torch.tensor([[True, False]])
    found = measured(label, torch.tensor([[1, 1]]), valid, teacher="gen_teacher")
    assert found == {"accuracy_gen_teacher": 1.0, "confidence_gen_teacher": 0.5}

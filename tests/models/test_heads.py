import torch

from pipeline.models.heads import ProjectionHead
from pipeline.seeding import drawn_from, stream


def test_the_head_maps_features_of_any_size_to_the_space_of_the_anchors():
    head = ProjectionHead(6, 10)
    assert head(torch.zeros(2, 6, 5, 7)).shape == (2, 10, 5, 7)
    layers = [type(layer).__name__ for layer in head]
    assert layers == ["Conv2d", "ReLU", "Dropout2d", "Conv2d"]


def test_the_head_of_the_official_code_has_a_norm():
    layers = [type(layer).__name__ for layer in ProjectionHead(6, 10, norm=True)]
    assert layers == ["Conv2d", "BatchNorm2d", "ReLU", "Dropout2d", "Conv2d"]


def test_dropout_is_drawn_in_training_only():
    feature = torch.rand(4, 64, 3, 3, generator=stream(0, "feature"))
    with drawn_from(0, "head"):
        head = ProjectionHead(64, 8)
        assert not torch.equal(head(feature), head(feature))
        head.eval()
        assert torch.equal(head(feature), head(feature))

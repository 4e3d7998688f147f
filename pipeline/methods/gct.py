"""Guided collaborative training (Ke et al., ECCV 2020; arXiv:2008.05258).

Two networks and a flaw detector, which learns on labelled images where a prediction is wrong. Where
the one network's prediction is less flawed, the other learns it (dynamic consistency, the squared
distance); where both are flawed, each changes its prediction so that the detector finds no flaw
(flaw correction). Both terms take labelled and unlabelled images, as in its code.

Deviations: both networks have the same architecture, and begin with other heads; the detector
learns with the recipe's optimiser at a rate of its own (there: Adam), and its convolutions of
stride 1 have kernels of 3 (there: 4), so that small images pass.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.batch import Batch
from pipeline.losses.consistency import squared_difference
from pipeline.losses.flaw import flaw_target, less_flawed, readable
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.models.flaw import FlawDetector
from pipeline.precision import wide
from pipeline.ramps import sigmoid_ramp
from pipeline.seeding import drawn_from
from pipeline.teaching import OTHER, frozen, with_own_rate
from pipeline.typed import at_least, within
from pipeline.unlabeled import valid_pixels


@dataclass(frozen=True)
class Config:
    """Parameters of GCT."""

    lambda_dc: float = 100.0
    """Of the dynamic consistency, averaged over pixels and classes."""
    lambda_fc: float = 1.0
    """Of the flaw correction."""
    ramp: float = 0.1
    """Share of training in which the dynamic consistency grows."""
    threshold: float = 0.6
    """A flaw above it is as bad as any."""
    mu: float = 0.5
    nu: int = 1
    """Of the detector's target: factor of the distance, and how often it is dilated."""
    width: int = 64
    """Channels of the detector's first convolution."""
    blocks: int = 4
    """Of the detector, at strides 2 to 16; its last convolution has stride 32 then."""
    detector_lr_scale: float = 0.02
    """The detector's learning rate by the recipe's; published: 1e-4 where that is 5e-3."""

    def check(self, key: str) -> None:
        """Weights, shares, sizes."""
        for name in ("lambda_dc", "lambda_fc", "mu", "nu", "detector_lr_scale"):
            at_least(key, name, getattr(self, name), 0)
        for name in ("ramp", "threshold"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        at_least(key, "width", self.width, 2)
        at_least(key, "blocks", self.blocks, 1)


class Both(NamedTuple):
    """Labelled and unlabelled images together."""

    image: Tensor
    label_l: Tensor
    valid: Tensor
    """bool [N, H, W]: what counts; of labelled images, what has a label."""
    ramp: float


class Method(Consistency):
    """Two networks and a flaw detector."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        networks = setting.networks
        self.students = nn.ModuleDict({name: networks.network(name) for name in OTHER})
        with drawn_from(networks.seed, "detector"):
            self.detector = FlawDetector(self.num_classes, config.width, config.blocks)

    def observe(self, batch: Batch, progress: float) -> Seen:
        """The images as they are."""
        both = Both(
            image=torch.cat([batch.image_l, batch.image_u]),
            label_l=batch.label_l,
            valid=valid_pixels(batch),
            ramp=sigmoid_ramp(progress, self.config.ramp),
        )
        return Seen((batch.image_u,), batch.valid_u, both)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Both networks' two terms, and the detector's own."""
        config, both = self.config, seen.target
        logits = {name: torch.cat([x.logits for x in pair]) for name, pair in outputs.items()}
        probs = {name: wide(value).softmax(dim=1) for name, value in logits.items()}
        flaws = {name: frozen(self.detector, both.image, prob) for name, prob in probs.items()}
        maps = {name: readable(flaw.detach()) for name, flaw in flaws.items()}
        terms = {}
        for name, other in OTHER.items():
            own, bad = less_flawed(maps[name], maps[other], threshold=config.threshold)
            target = probs[name].detach().where(own[:, None], probs[other].detach())
            distance = squared_difference(logits[name], target, both.valid)
            terms[f"unsupervised_{name}"] = (
                config.lambda_dc * both.ramp / self.num_classes * distance
            )
            corrected = (wide(flaws[name]).square() * bad * both.valid).sum()
            terms[f"unsupervised_{name}_flaws"] = (
                config.lambda_fc * corrected / both.valid.sum().clamp(min=1)
            )
            self.diagnostics[f"share_taught_{name}"] = 1 - own[both.valid].float().mean()
        return terms | {"detector": self.detector_loss(both, probs)}

    def detector_loss(self, both: Both, probs: dict[str, Tensor]) -> Tensor:
        """Mean over the networks of the squared error on labelled images."""
        num_l = len(both.label_l)
        image, counted = both.image[:num_l], both.valid[:num_l]
        losses = []
        for prob in probs.values():
            prob = prob[:num_l].detach()
            target = flaw_target(prob, both.label_l, counted, mu=self.config.mu, nu=self.config.nu)
            losses.append((self.detector(image, prob) - target).square().mean())
        return torch.stack(losses).mean()

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The detector's parameters in groups of their own."""
        groups = super().param_groups(weight_decay)
        return with_own_rate(groups, self.detector, self.config.detector_lr_scale)

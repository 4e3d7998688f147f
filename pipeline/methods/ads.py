"""ADS-SemiSeg (Cao et al., IEEE TCSVT 2022; arXiv:2203.02792): adversarial dual student.

Two students. Of a warped image each is to say what it says of the plain one, warped alike
(consistency), and what the other says, where that one is the stabler (stabilisation). Each has a
discriminator of ground truth and predictions: it learns its own hard labels of images that pass for
truth there (self-training), and to give them truth's features (feature matching), as in s4GAN.

As in its code, no gradient passes the warp. That evaluates one student, and is silent on which.
Deviations: the discriminators learn with the recipe's optimiser and weight decay, at a rate of
their own (there: Adam, no decay). Predictions of padding are zero to a discriminator, as its truth
is, and not learnt, nor is what a warp brings from beyond the image; an image of padding alone does
not count (there: all are predictions like others). Ground truth is the batch's labelled images
(there: a further draw). A warp moves each point along its own way, in the image's own proportions
(there: with the axes exchanged, both scaled by the width, which on squares is alike), and has a
solution where points meet. Truth's features are those of the discriminator's own pass (there: of a
second). Images are not stretched for the discriminators. Self-training begins
with the first step (there: the second).
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.augment.geometric import FILL
from pipeline.augment.warp import WarpConfig, draw_points, sampling_grid, warp, warp_mask
from pipeline.batch import Batch, Views
from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.adversarial import feature_matching, real_or_fake
from pipeline.losses.consistency import probabilities, squared_difference
from pipeline.losses.segmentation import hard_cross_entropy, pseudo_label
from pipeline.losses.stability import change, stable, taught
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.models.discriminator import Discriminator
from pipeline.precision import wide
from pipeline.ramps import sigmoid_ramp
from pipeline.seeding import drawn_from
from pipeline.teaching import OTHER, frozen, with_own_rate
from pipeline.typed import at_least, within


@dataclass(frozen=True)
class Config:
    """Parameters of ADS-SemiSeg."""

    lambda_c: float = 10.0
    """Of the consistency, averaged over pixels and classes."""
    lambda_s: float = 100.0
    """Of the stabilisation, averaged alike."""
    ramp: float = 0.009
    """Share of training in which both grow: 800 of 90,000 steps (of 80,000 on Cityscapes)."""
    threshold_stable: float = 0.8
    """Confidence above which a student that does not change its mind is stable."""
    lambda_fm: float = 0.1
    """Of the feature matching."""
    lambda_st: float = 1.0
    """Of the self-training."""
    threshold_st: float = 0.6
    """Discriminator's score above which an image is learnt; published: 0.9 on Cityscapes."""
    width: int = 64
    """Channels of a discriminator's first convolution."""
    discriminator_lr_scale: float = 0.4
    """Its learning rate by the recipe's; published: 1e-4, on Cityscapes 1e-5, where that is
    2.5e-4."""
    joint_pass: bool = False
    """Labelled and unlabelled images pass a network together; apart in the original."""
    warp: WarpConfig = field(default_factory=WarpConfig)

    def check(self, key: str) -> None:
        """Weights, shares, sizes."""
        weights = ("lambda_c", "lambda_s", "lambda_fm", "lambda_st", "discriminator_lr_scale")
        for name in weights:
            at_least(key, name, getattr(self, name), 0)
        for name in ("ramp", "threshold_stable", "threshold_st"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        at_least(key, "width", self.width, 1)


class Scene(NamedTuple):
    """What belongs to the plain and the warped images."""

    batch: Batch
    grid: Tensor
    """[H, W, 2]: where a warped pixel was before."""
    valid: Tensor
    """bool [N, H, W], of the warped images."""
    ramp: float


class Method(Consistency):
    """Two students and their discriminators."""

    views = Views(unlabeled=True)

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        networks = setting.networks
        self.students = nn.ModuleDict({name: networks.network(name) for name in OTHER})
        self.discriminators = nn.ModuleDict()
        for name in OTHER:
            with drawn_from(networks.seed, "discriminator", name):
                self.discriminators[name] = Discriminator(self.num_classes, config.width)

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Plain images, and the same in one random warp."""
        size = batch.image_u.shape[-2:]
        points = draw_points(size, self.config.warp, batch.stream("warp"))
        grid = sampling_grid(*points, size).float().to(batch.image_u.device)
        beyond = torch.tensor(FILL, device=batch.image_u.device)[:, None, None] / 255
        warped = warp(batch.image_u - beyond, grid) + beyond
        valid = warp_mask(batch.valid_u, grid)
        ramp = sigmoid_ramp(progress, self.config.ramp)
        return Seen((batch.image_u, warped), batch.valid_u, Scene(batch, grid, valid, ramp))

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Both students' terms, and those of their discriminators."""
        config, scene = self.config, seen.target
        warped = {name: output.logits for name, (*_, output) in outputs.items()}
        plain = {name: warp(output.logits, scene.grid) for name, (_, output, _) in outputs.items()}
        firm = {
            name: stable(warped[name], plain[name], threshold=config.threshold_stable)
            for name in OTHER
        }
        changes = {name: change(warped[name], plain[name]) for name in OTHER}
        probs = {name: probabilities(logits) for name, logits in warped.items()}
        weight = scene.ramp / self.num_classes
        terms = {}
        for name, other in OTHER.items():
            consistency = squared_difference(warped[name], probabilities(plain[name]), scene.valid)
            learns = taught(firm[name], firm[other], changes[name], changes[other])
            target = probs[other].where(learns[:, None], probs[name])
            stabilisation = squared_difference(warped[name], target, scene.valid)
            terms[f"unsupervised_{name}"] = config.lambda_c * weight * consistency
            terms[f"unsupervised_{name}_stable"] = config.lambda_s * weight * stabilisation
            self.diagnostics[f"share_taught_{name}"] = learns[scene.valid].float().mean()
            terms |= self.adversarial(name, outputs[name][1].logits, scene.batch)
        return terms

    def adversarial(self, name: str, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Self-training and feature matching of a student, and its discriminator's own loss.

        Args:
          logits: the student's, of the plain images.
        """
        config, discriminator = self.config, self.discriminators[name]
        prob, true = wide(logits).softmax(dim=1) * batch.valid_u[:, None], self.truth(batch)
        fake = batch.valid_u.flatten(1).any(dim=1)
        real = (batch.label_l != IGNORE_INDEX).flatten(1).any(dim=1)
        score, feature = frozen(discriminator, batch.image_u, prob)
        fake_score, _ = discriminator(batch.image_u, prob.detach())
        real_score, real_feature = discriminator(batch.image_l, true)
        passes = score.detach().float().sigmoid() > config.threshold_st
        said = pseudo_label(logits)
        learnt = batch.valid_u & passes[:, None, None]
        training = hard_cross_entropy(logits, said.label_NHW, learnt)
        matching = feature_matching(real_feature, feature, real, fake)
        self.measure(said, batch.truth_u, batch.valid_u, teacher=name)
        self.diagnostics[f"share_passed_{name}"] = passes[fake].float().mean()
        return {
            f"unsupervised_{name}_trained": config.lambda_st * training,
            f"unsupervised_{name}_matched": config.lambda_fm * matching,
            f"discriminator_{name}": real_or_fake(real_score, fake_score, real, fake),
        }

    def truth(self, batch: Batch) -> Tensor:
        """The labelled images' classes, one-hot; zeros where there is no label."""
        known = batch.label_l != IGNORE_INDEX
        one_hot = F.one_hot(batch.label_l.where(known, 0), self.num_classes).movedim(-1, 1)
        return (one_hot * known[:, None]).float()

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The discriminators' parameters in groups of their own."""
        groups = super().param_groups(weight_decay)
        return with_own_rate(groups, self.discriminators, self.config.discriminator_lr_scale)

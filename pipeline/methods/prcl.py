"""PRCL (Xie et al., AAAI 2023; arXiv:2210.14670): contrast with probabilistic representations.

Mean teacher with ClassMix. The student learns the teacher's hard labels, each image as much as its
share of confident pixels. A contrast pulls pixels to their class's prototype and away from pixels
of other classes, where each is a Gaussian: the similarity is the likelihood that two are one point,
and an ambiguous pixel, which has a large variance, moves prototypes and others less. The variance
head learns slowly, and the contrast's weight falls. The teacher is evaluated.

This is the version of 2023, whose results are cited, as its released code has it: prototypes are
those of the batch. Global prototypes and virtual negatives came with arXiv:2402.18117 (IJCV 2024).

Deviations: the strong view is the weak one in FixMatch's colours, mixed afterwards (there: rescaled
and cropped anew, mixed, then jittered less and flipped), and labelled images keep their colours;
padding is no class of ClassMix's; a confidence is not rounded to 8 bits on the way; the network's
own decoder has one convolution more than theirs, beside which the heads stand; queries and
negatives are of the whole batch (there: of each card's part, against prototypes of the whole);
pixels with a loss of exactly 0 count; a cell has the label at its own place (there: the nearest
above and left of it); the contrast's weight falls step by step (there: by epochs).
"""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.augment.classmix import class_mask
from pipeline.augment.cutmix import mix
from pipeline.batch import Batch, Views
from pipeline.cells import cells_of
from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.consistency import probabilities
from pipeline.losses.probabilistic import (
    Gaussians,
    probabilistic_contrast,
    share_weighted_cross_entropy,
)
from pipeline.losses.segmentation import PseudoLabel, pseudo_label
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.models.gaussian import Fused, FusedOutput, MeanHead, VarianceHead
from pipeline.seeding import drawn_from
from pipeline.teaching import with_own_rate
from pipeline.typed import at_least, within


@dataclass(frozen=True)
class Config:
    """Parameters of PRCL."""

    lambda_u: float = 1.0
    lambda_c: float = 1.0
    """Of the contrast, at the beginning."""
    fall: float = 5.0
    """After a share p of training the contrast's weight is exp(-fall p^2) of that."""
    threshold: float = 0.97
    """Confidence from which on a pixel adds to its image's weight."""
    weak_threshold: float = 0.7
    """Confidence from which on an unlabelled pixel takes part in the contrast."""
    strong_threshold: float = 0.8
    """The student's probability of its class below which a pixel may be a query."""
    queries: int = 256
    """Of each class and step."""
    negatives: int = 512
    """Of each query."""
    tau: float = 100.0
    """Of a score averaged over dimensions: the contrast stays near log(1 + negatives)."""
    dim: int = 256
    variance_lr_scale: float = 0.015625
    """The variance head's learning rate by the recipe's; published: 5e-5 where that is 3.2e-3."""
    joint_pass: bool = False
    """Labelled and unlabelled images pass a network together; apart in the original."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)

    def check(self, key: str) -> None:
        """Weights, probabilities, numbers."""
        for name in ("lambda_u", "lambda_c", "fall", "variance_lr_scale"):
            at_least(key, name, getattr(self, name), 0)
        for name in ("threshold", "weak_threshold", "strong_threshold"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        within(key, "tau", self.tau, 1e-3, 1e6)
        for name in ("queries", "negatives", "dim"):
            at_least(key, name, getattr(self, name), 1)


class Lesson(NamedTuple):
    """What is known of labelled and mixed images, and how much the contrast counts."""

    label_l: Tensor
    taught: PseudoLabel
    weight: float
    generator: torch.Generator


class Method(Consistency):
    """One student and its own teacher; two heads, which no teacher averages."""

    views = Views(unlabeled=True, strong=1)

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        networks = setting.networks
        self.align_corners = networks.config.align_corners
        student = Fused(networks.network("student"))
        self.students = nn.ModuleDict({"student": student})
        self.teachers["student"] = Teacher(student, config.teacher)
        inputs = networks.config.aspp_channels + networks.config.low_level_channels
        with drawn_from(networks.seed, "mean head"):
            self.mean_head = MeanHead(inputs, config.dim)
        with drawn_from(networks.seed, "variance head"):
            self.variance_head = VarianceHead(inputs, config.dim)

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Strong views and the teacher's labels of the weak ones, mixed by its classes."""
        config = self.config
        taught = pseudo_label(self.teachers["student"](batch.image_u).logits)
        partner_NHW = class_mask(
            taught.label_NHW,
            batch.valid_u,
            num_classes=self.num_classes,
            generator=batch.stream("classmix"),
        )

        def mixed(value: Tensor) -> Tensor:
            return mix(value, value.roll(-1, dims=0), partner_NHW)

        taught, valid = PseudoLabel(*map(mixed, taught)), mixed(batch.valid_u)
        self.measure(taught, mixed(batch.truth_u), valid)
        weight = config.lambda_c * math.exp(-config.fall * progress**2)
        lesson = Lesson(batch.label_l, taught, weight, batch.stream("contrast"))
        return Seen((mixed(batch.strong_u[0]),), valid, lesson)

    def unsupervised(self, outputs: dict[str, list[FusedOutput]], seen: Seen) -> dict[str, Tensor]:
        """Cross-entropy of all pixels, and a contrast of those that have a sure label."""
        labeled, unlabeled = outputs["student"]
        lesson, valid = seen.target, seen.valid_NHW
        loss, share_N = share_weighted_cross_entropy(
            unlabeled.logits, lesson.taught, valid, threshold=self.config.threshold
        )
        sure = valid & (lesson.taught.confidence_NHW >= self.config.weak_threshold)
        label_u = lesson.taught.label_NHW.masked_fill(~sure, IGNORE_INDEX)
        label = torch.cat([lesson.label_l, label_u])
        self.diagnostics["share_confident"] = share_N.mean()
        self.diagnostics["share_sure"] = sure.sum() / valid.sum().clamp(min=1)
        contrast = self.contrast(labeled, unlabeled, label, lesson.generator)
        return {
            "unsupervised": self.config.lambda_u * loss,
            "contrast": lesson.weight * contrast,
        }

    def contrast(
        self,
        labeled: FusedOutput,
        unlabeled: FusedOutput,
        label_NHW: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """Of the cells that have a label, among which the hard ones are queries.

        Args:
          label_NHW: of both, labelled images first; 255 for what takes no part.
        """
        config, both = self.config, (labeled, unlabeled)
        mean = torch.cat([self.mean_head(each.fused) for each in both])
        variance = self.variance_head(torch.cat([each.fused for each in both]))
        prob = probabilities(torch.cat([each.coarse for each in both]))
        cells = [
            cells_of(each, label_NHW, align_corners=self.align_corners)
            for each in (mean.float(), variance, prob)
        ]
        label_P = cells[0][1]
        counted_P = label_P != IGNORE_INDEX
        mean_PD, variance_PD, prob_PC = (each_PD[counted_P] for each_PD, _ in cells)
        label_P = label_P[counted_P]
        hard_P = prob_PC.gather(1, label_P[:, None]).squeeze(1) < config.strong_threshold
        self.diagnostics["share_hard"] = hard_P.float().mean()
        self.diagnostics["variance"] = variance_PD.detach().mean()
        return probabilistic_contrast(
            Gaussians(mean_PD, variance_PD),
            label_P,
            hard_P,
            num_classes=self.num_classes,
            queries=config.queries,
            negatives=config.negatives,
            tau=config.tau,
            generator=generator,
        )

    def predictor(self) -> nn.Module:
        """The teacher."""
        return self.teachers["student"].average.network

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The variance head's parameters in groups of their own."""
        groups = super().param_groups(weight_decay)
        return with_own_rate(groups, self.variance_head, self.config.variance_lr_scale)

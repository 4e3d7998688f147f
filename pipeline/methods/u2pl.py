"""U2PL (Wang et al., CVPR 2022; arXiv:2203.03884): using unreliable pseudo-labels.

Mean teacher with CutMix. A student learns the teacher's hard labels but of the pixels of highest
entropy, whose share falls from 20 % to 0. Those are not wasted: they are certain of what they are
not, and become negatives, in a queue of each class, for a contrast of the student's features with
their class's prototype. The teacher is evaluated.

Where the code keeps as a class's negatives only pixels that are labelled with it (and so none of
the labelled ones), this follows the paper's equations. Deviations: no auxiliary head; the queues
are equally long and take a step's negatives after its loss; each image is mixed or not (there: the
whole batch); the second look is in the teacher's usual mode (there: train mode); the mean is over
the classes that have queries and negatives (there: over those that are present).
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.cells import at_cells
from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.anchors import class_mean
from pipeline.losses.consistency import probabilities
from pipeline.losses.unreliable import (
    certain_part,
    contrast_with_negatives,
    entropy,
    negative_keys,
    reliable_cross_entropy,
)
from pipeline.memory import FeatureBank
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output, Projected
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.ramps import linear_ramp
from pipeline.teaching import mixed_lesson
from pipeline.typed import ConfigError, at_least, within


@dataclass(frozen=True)
class Config:
    """Parameters of U2PL."""

    lambda_u: float = 1.0
    lambda_c: float = 1.0
    """Of the contrast."""
    unreliable: float = 0.2
    """Share of the pixels that is unreliable at the beginning; falls to 0."""
    low_rank: int = 3
    high_rank: int = 20
    """A class of a rank from the one to below the other is one that a pixel is not."""
    query_threshold: float = 0.3
    """Probability of its class above which a pixel may be a query."""
    queries: int = 256
    """Of each class and step."""
    negatives: int = 50
    """Of each query."""
    tau: float = 0.5
    dim: int = 256
    bank_size: int = 30000
    """Negatives kept for each class; published: 30,000, and 50,000 for VOC's background."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    cutmix: CutMixConfig = field(
        default_factory=lambda: CutMixConfig(num_boxes=1, ratio=(0.5, 0.5), prob=0.5)
    )

    def check(self, key: str) -> None:
        """Weights, shares, numbers, and ranks in order."""
        for name in ("lambda_u", "lambda_c", "low_rank"):
            at_least(key, name, getattr(self, name), 0)
        for name in ("unreliable", "query_threshold"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        for name in ("queries", "negatives", "dim", "bank_size"):
            at_least(key, name, getattr(self, name), 1)
        if not self.low_rank < self.high_rank:
            raise ConfigError(
                f"{key}.high_rank: {self.high_rank}; expected more than {key}.low_rank "
                f"({self.low_rank})"
            )


class Method(Consistency):
    """One student and its own teacher, both with a projection head, and the negatives."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        networks = setting.networks
        if config.low_rank >= self.num_classes:
            raise ConfigError(
                f"methods.u2pl.low_rank: {config.low_rank} with {self.num_classes} classes; "
                "expected less than their number: else no pixel is a negative"
            )
        self.views = Views(unlabeled=True, partners=config.cutmix.partner == "drawn")
        self.align_corners = networks.config.align_corners
        student = Projected(
            networks.network("student"),
            networks.projection("student", "decoder", config.dim, norm=True),
            "decoder",
        )
        self.students = nn.ModuleDict({"student": student})
        self.teachers["student"] = Teacher(student, config.teacher)
        self.bank = FeatureBank(self.num_classes, config.bank_size, config.dim)
        self.observed: tuple[Tensor, Tensor] | None = None
        """Negatives and their classes, until `after_backward`."""

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Mixed images, the teacher's labels, and its second look at labelled and mixed ones."""
        lesson = mixed_lesson(
            batch, self.config.cutmix, self.teachers, batch.image_u, measure=self.measure
        )
        image, valid, label = lesson.image, lesson.valid, lesson.labels["student"]
        teacher = self.teachers["student"]
        output = teacher(torch.cat([batch.image_l, image]))
        with torch.no_grad():
            feature = teacher.average.project(output)
        look = Look(
            label=torch.cat([batch.label_l, label.label_NHW.masked_fill(~valid, IGNORE_INDEX)]),
            prob=probabilities(output.logits),
            feature=feature,
            share=linear_ramp(progress, self.config.unreliable, 0.0),
            generator=batch.stream("contrast"),
        )
        return Seen((image,), valid, look)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Cross-entropy of reliable pixels, and a contrast that unreliable ones serve."""
        labeled, unlabeled = outputs["student"]
        look, valid = seen.target, seen.valid_NHW
        num_l = len(labeled.logits)
        entropy_u = entropy(look.prob[num_l:])
        reliable = certain_part(entropy_u, valid, share=1 - look.share)
        label_u = look.label[num_l:]
        loss = reliable_cross_entropy(unlabeled.logits, label_u, reliable, valid.sum())
        student = self.students["student"]
        feature = torch.cat([student.project(labeled), student.project(unlabeled)])
        certain = certain_part(entropy_u, valid, share=look.share)
        contrast = self.contrast(feature, look, certain, valid & ~reliable)
        self.diagnostics["share_reliable"] = reliable.sum() / valid.sum().clamp(min=1)
        return {
            "unsupervised": self.config.lambda_u * loss,
            "contrast": self.config.lambda_c * contrast,
        }

    def contrast(
        self, feature: Tensor, look: "Look", certain_u: Tensor, unreliable_u: Tensor
    ) -> Tensor:
        """Queries against prototypes and negatives; keeps new negatives for `after_backward`.

        Args:
          feature: the student's projections [N, D, h, w] of labelled and mixed images.
          certain_u: bool [N_u, H, W], the unlabelled pixels that may be queries.
          unreliable_u: bool [N_u, H, W], those that may be negatives.
        """
        config = self.config
        true_l = look.label[: -len(certain_u)] != IGNORE_INDEX
        none_l = torch.zeros_like(true_l)

        def cells(value_NHW: Tensor) -> Tensor:
            size = feature.shape[-2:]
            return at_cells(value_NHW, size, align_corners=self.align_corners).flatten()

        label_P = cells(look.label)
        true_P = cells(torch.cat([true_l, torch.zeros_like(certain_u)]))
        low_P = cells(torch.cat([true_l, certain_u]))
        unreliable_P = cells(torch.cat([none_l, unreliable_u]))
        prob_PC = torch.stack([cells(each) for each in look.prob.unbind(dim=1)], dim=1)
        mine_PD, keys_PD = (
            value.movedim(1, -1).flatten(0, 2).float() for value in (feature, look.feature)
        )
        belief_P = prob_PC.gather(1, label_P.where(low_P, 0)[:, None]).squeeze(1)
        query_P = low_P & (belief_P > config.query_threshold)
        positive_CD, _ = class_mean(keys_PD[low_P], label_P[low_P], num_classes=self.num_classes)
        negative_PC = negative_keys(
            prob_PC,
            label_P,
            true_P,
            unreliable_P,
            low_rank=config.low_rank,
            high_rank=config.high_rank,
        )
        pixel_K, class_K = negative_PC.nonzero().unbind(dim=1)
        self.observed = keys_PD[pixel_K], class_K
        return contrast_with_negatives(
            mine_PD[query_P],
            label_P[query_P],
            positive_CD,
            self.bank.bank_CQD,
            self.bank.filled_CQ.sum(dim=1),
            queries=config.queries,
            negatives=config.negatives,
            tau=config.tau,
            generator=look.generator,
        )

    def after_backward(self, progress: float) -> None:
        """The negatives join the queues."""
        if self.observed is not None:
            self.bank.push(*self.observed)
            self.observed = None

    def predictor(self) -> nn.Module:
        """The teacher."""
        return self.teachers["student"].average.network


class Look(NamedTuple):
    """The teacher's second look, at labelled and then at mixed images."""

    label: Tensor
    """int64 [N, H, W]: true, or the teacher's first; 255 for padding and what has no label."""
    prob: Tensor
    """[N, C, H, W]."""
    feature: Tensor
    """Its projections [N, D, h, w]."""
    share: float
    """Of the pixels, at this step, that are unreliable; as many are certain."""
    generator: torch.Generator

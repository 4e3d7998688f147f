"""Dual contrastive learning with anchors (the paper, section 3.3): state and schedule.

The equations are in `pipeline.losses.anchors` and `pipeline.losses.contrast`, the queue in
`pipeline.memory`; here they become one module whose buffers survive an interruption.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.anchors import (
    assign_anchors,
    batch_prototypes,
    optimize_anchors,
    simplex_anchors,
    unit,
    update_prototypes,
)
from pipeline.losses.contrast import (
    Reduction,
    anchor_contrast,
    counted_or_0,
    sample_per_class,
    similarity,
)
from pipeline.memory import FeatureBank, closest_to_anchor
from pipeline.precision import wide
from pipeline.typed import ConfigError, at_least, within
from pipeline.waiting import counts, keep


@dataclass(frozen=True)
class ContrastConfig:
    """Parameters of the dual contrastive loss; shares of training where a time is meant."""

    loss: Literal["none", "anchor", "similarity", "both"] = "both"
    students: tuple[Literal["gen", "pro"], ...] = ("gen",)
    """Whose features it trains; gen always, whose projection head the teacher's follows."""
    pixels: tuple[Literal["labeled", "unlabeled"], ...] = ("labeled", "unlabeled")
    source: Literal["aspp", "decoder"] = "aspp"
    """What the projection head projects; the official code takes the decoder's features."""
    dim: int = 256
    head_norm: bool = False
    """A batch norm in the head, as in the official code."""
    tau: float = 0.5
    anchors: Literal["optimized", "simplex"] = "optimized"
    """Equation 12 minimised, or its closed form."""
    count_positive_twice: bool = False
    """Equation 15 to the letter: the sum runs over all anchors."""
    alpha: float = 0.99
    """EMA rate of the prototypes."""
    normalize_prototypes: bool = False
    """Bring them back to length 1 whenever they move."""
    reduction: Reduction = "class"
    """Mean of the means of the classes present, their sum over all C, or the mean of the pixels."""
    min_pixels: int = 1
    """A class with fewer in the batch is left out of the loss; the official code asks for 2."""
    bank_size: int = 256
    """N: features kept for each class."""
    phi: float = 0.95
    """The teacher's probability of the true class above which a feature may enter the bank."""
    top_k: int = 16
    """Features that enter the bank for each class and step, the closest to its anchor."""
    max_pixels_per_class: int = 1024
    """Drawn for the loss from each class and batch."""
    bank_from: float = 0.15
    """Prototypes, assignment and bank begin."""
    loss_from: float = 0.3
    assign_until: float = 0.5
    """Prototypes move and anchors are reassigned until then."""

    def check(self, key: str) -> None:
        """Shares, and a bank where the loss needs one."""
        for name in ("phi", "alpha", "bank_from", "loss_from", "assign_until"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        for name in ("dim", "top_k", "max_pixels_per_class", "min_pixels"):
            at_least(key, name, getattr(self, name), 1)
        at_least(key, "bank_size", self.bank_size, 0)
        if self.loss != "none" and "gen" not in self.students:
            raise ConfigError(
                f"{key}.students: {list(self.students)}; expected 'gen' among them: prototypes and "
                "bank are of its teacher's projection head, which nothing else trains"
            )
        if self.bank_size == 0 and self.loss in ("similarity", "both"):
            raise ConfigError(
                f"{key}.bank_size: 0 with {key}.loss {self.loss!r}; "
                "expected loss 'none' or 'anchor': similarity compares with the bank"
            )
        if not self.bank_from <= self.loss_from or not self.bank_from < self.assign_until:
            raise ConfigError(
                f"{key}.bank_from: {self.bank_from}; expected at most {key}.loss_from "
                f"({self.loss_from}) and less than {key}.assign_until ({self.assign_until})"
            )


class DualContrast(nn.Module):
    """Anchors, prototypes, their assignment, and the bank of representative features."""

    def __init__(
        self, config: ContrastConfig, num_classes: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        if config.anchors == "simplex":
            anchor_CD = simplex_anchors(num_classes, config.dim, generator=generator)
        else:
            anchor_CD = optimize_anchors(
                num_classes, config.dim, tau=config.tau, generator=generator
            )
        self.register_buffer("anchor_CD", anchor_CD)
        self.register_buffer("prototype_CD", torch.zeros_like(anchor_CD))
        self.register_buffer("seen_C", torch.zeros(num_classes, dtype=torch.bool))
        self.register_buffer("assignment_C", torch.arange(num_classes))
        self.bank = FeatureBank(num_classes, config.bank_size, config.dim)
        """Of features at length 1."""
        self.register_buffer("centre_CD", torch.zeros_like(anchor_CD))

    @property
    def class_anchor_CD(self) -> Tensor:
        """v_sigma(c): the anchor of each class, in class order."""
        return self.anchor_CD[self.assignment_C]

    @torch.no_grad()
    def observe(self, feature_PD: Tensor, label_P: Tensor, prob_P: Tensor, progress: float) -> None:
        """Moves the prototypes, reassigns the anchors and fills the bank.

        Args:
          feature_PD: Gen-Teacher's projections of the labelled images' pixels.
          label_P: their true classes, or 255.
          prob_P: the teacher's probability of the true class.
          progress: share of training done.
        """
        counted_P = label_P != IGNORE_INDEX
        label_P, feature_PD, prob_P = keep(counted_P, label_P, feature_PD, prob_P)
        if progress < self.config.bank_from or not len(label_P):
            return
        if progress < self.config.assign_until:
            mean_CD, present_C = batch_prototypes(feature_PD, label_P, num_classes=self.num_classes)
            prototype_CD, seen_C = update_prototypes(
                self.prototype_CD,
                self.seen_C,
                mean_CD,
                present_C,
                alpha=self.config.alpha,
                normalize=self.config.normalize_prototypes,
            )
            self.prototype_CD.copy_(prototype_CD)
            self.seen_C.copy_(seen_C)
            self.assignment_C.copy_(assign_anchors(self.anchor_CD, prototype_CD, seen_C))
        confident_P = (prob_P > self.config.phi) & (label_P != IGNORE_INDEX)
        label_P, feature_PD = keep(confident_P, label_P, feature_PD)
        index_K, label_K = closest_to_anchor(
            feature_PD, label_P, self.class_anchor_CD, k=self.config.top_k
        )
        self.bank.push(unit(feature_PD[index_K]), label_K)
        self.centre_CD.copy_(self.bank.mean_CD)

    def losses(
        self, feature_PD: Tensor, label_P: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Equations 15 and 16, unweighted, those that `config.loss` asks for.

        A class gives at most `max_pixels_per_class` pixels, drawn by `generator`.
        """
        common_C = counts(label_P, self.num_classes) >= self.config.min_pixels
        common_P = common_C[counted_or_0(label_P)] & (label_P != IGNORE_INDEX)
        label_P, feature_PD = keep(common_P, label_P, feature_PD)
        index_P, label_P = sample_per_class(
            label_P,
            max_per_class=self.config.max_pixels_per_class,
            num_classes=self.num_classes,
            generator=generator,
        )
        feature_PD = feature_PD[index_P]
        terms = {}
        if self.config.loss in ("anchor", "both"):
            terms["anchor"] = anchor_contrast(
                feature_PD,
                label_P,
                self.class_anchor_CD,
                tau=self.config.tau,
                count_positive_twice=self.config.count_positive_twice,
                reduction=self.config.reduction,
            )
        if self.config.loss in ("similarity", "both"):
            terms["similarity"] = similarity(
                feature_PD,
                label_P,
                self.centre_CD,
                self.bank.pushed_C > 0,
                reduction=self.config.reduction,
            )
        return terms


def true_class_prob(logits_NCHW: Tensor, label_NHW: Tensor) -> Tensor:
    """Float32 or wider [N, H, W]: of the true class; anything where that is ignored."""
    label_NHW = label_NHW.where(label_NHW != IGNORE_INDEX, 0)
    return wide(logits_NCHW).softmax(dim=1).gather(1, label_NHW[:, None]).squeeze(1)

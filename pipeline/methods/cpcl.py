"""Conservative-progressive collaborative learning (Fan et al., TIP 2022; arXiv:2211.16701).

Two networks say labels of unmixed images. Of the mixed ones, the conservative network learns only
where the two agree; the progressive one learns everywhere, and where they differ the label of the
class about which they disagree more, by STPG's mismatch score. A label counts as much as it is
believed: by the mean of both confidences, or where they differ by its own network's.

Where two scores tie, the progressive network's label is taken, as in the code. The conservative
network is evaluated. Deviation: confidences are those of the pixels (in the code, the maximum of a
softmax over the image's width, one number a batch).
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.losses.mismatch import class_mismatch_score, confusion_matrix
from pipeline.losses.segmentation import PseudoLabel, weighted_cross_entropy
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.teaching import Weighted, mixed_lesson
from pipeline.typed import at_least

NETWORKS = ("conservative", "progressive")


@dataclass(frozen=True)
class Config(Weighted):
    """Parameters of CPCL."""

    lambda_u: float = 1.0
    """Published: 1 on VOC, 5 on Cityscapes."""
    mean_over: Literal["agreed", "all"] = "agreed"
    """Pixels over which the conservative loss is averaged; published: all on Cityscapes."""
    diagonal_prior: int = 1
    """Added to each class's count of agreed pixels, as in its code."""
    joint_pass: bool = False
    """Labelled and unlabelled images pass a network together; apart in the original."""
    cutmix: CutMixConfig = field(default_factory=CutMixConfig)

    def check(self, key: str) -> None:
        """A weight and a count."""
        super().check(key)
        at_least(key, "diagonal_prior", self.diagonal_prior, 0)


class Method(Consistency):
    """Two networks that label together."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.views = Views(unlabeled=True, partners=config.cutmix.partner == "drawn")
        self.students = nn.ModuleDict({name: setting.networks.network(name) for name in NETWORKS})

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Mixed images, and what both networks say of the unmixed ones."""
        lesson = mixed_lesson(
            batch, self.config.cutmix, self.students, batch.image_u, measure=self.measure
        )
        return Seen((lesson.image,), lesson.valid, lesson.labels)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Intersection and union supervision."""
        first, second = (seen.target[name] for name in NETWORKS)
        confusion_CC = confusion_matrix(
            first.label_NHW, second.label_NHW, seen.valid_NHW, num_classes=self.num_classes
        )
        score_C = class_mismatch_score(confusion_CC, diagonal_prior=self.config.diagonal_prior)
        agreed_NHW, union = unite(first, second, score_C)
        self.diagnostics["share_agreed"] = agreed_NHW[seen.valid_NHW].float().mean()
        learnt = {"conservative": seen.valid_NHW & agreed_NHW, "progressive": seen.valid_NHW}
        terms = {}
        for name, learnt_NHW in learnt.items():
            over_NHW = learnt_NHW if self.config.mean_over == "agreed" else seen.valid_NHW
            loss = weighted_cross_entropy(
                outputs[name][1].logits,
                union.label_NHW,
                union.confidence_NHW * learnt_NHW,
                over_NHW,
            )
            terms[f"unsupervised_{name}"] = self.config.lambda_u * loss
        return terms


def unite(first: PseudoLabel, second: PseudoLabel, score_C: Tensor) -> tuple[Tensor, PseudoLabel]:
    """Where two networks agree, and one label for every pixel with its weight.

    Args:
      score_C: each class's mismatch score.

    Returns:
      bool [N, H, W]; the label of the class with the higher score (the second where they tie), with
      its own confidence, or where they agree the mean of both.
    """
    agreed_NHW = first.label_NHW == second.label_NHW
    first_NHW = score_C[first.label_NHW] > score_C[second.label_NHW]
    label_NHW = torch.where(first_NHW, first.label_NHW, second.label_NHW)
    own_NHW = torch.where(first_NHW, first.confidence_NHW, second.confidence_NHW)
    both_NHW = (first.confidence_NHW + second.confidence_NHW) / 2
    return agreed_NHW, PseudoLabel(label_NHW, torch.where(agreed_NHW, both_NHW, own_NHW))

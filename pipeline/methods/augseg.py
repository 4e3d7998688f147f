"""AugSeg (Zhao et al., CVPR 2023; arXiv:2212.04976): mean teacher with simple augmentations.

A student learns the confident hard labels of its EMA teacher on strong views: a random number of
random changes of intensity, then CutMix in which the pasted image may itself carry a patch of a
labelled image with its true labels; the less the teacher is sure of an image, the likelier.
The loss of the confident pixels is divided by the number of all. The teacher is evaluated.

Deviations: boxes have a random shape and a uniform share of the area, of about the mean that the
original's squares of Beta-distributed size have after being cut at the border; partners are the
next images of the batch.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig, mix
from pipeline.batch import Batch, Views
from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.consistency import confident_cross_entropy, probabilities
from pipeline.losses.segmentation import PseudoLabel
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.teaching import Thresholded
from pipeline.typed import ConfigError
from pipeline.unlabeled import boxes_of


@dataclass(frozen=True)
class Config(Thresholded):
    """Parameters of AugSeg."""

    lambda_u: float = 1.0
    """Published: 1, and 2 for one of the Cityscapes splits (1/4 with ResNet-50)."""
    threshold: float = 0.95
    """Confidence from which on a pixel is learnt; published: 0.95 on VOC, 0 on Cityscapes."""
    teacher: TeacherConfig = field(default_factory=lambda: TeacherConfig(decay=0.999))
    """Published: 0.999 on VOC, 0.996 on Cityscapes."""
    patch: CutMixConfig = field(
        default_factory=lambda: CutMixConfig(num_boxes=1, ratio=(0.05, 0.29))
    )
    """Of labelled images."""
    cutmix: CutMixConfig = field(
        default_factory=lambda: CutMixConfig(num_boxes=1, ratio=(0.15, 0.57))
    )
    """Of unlabelled images."""

    def check(self, key: str) -> None:
        """A weight, a probability, partners of the batch."""
        super().check(key)
        for name in ("patch", "cutmix"):
            if getattr(self, name).partner != "next":
                raise ConfigError(f"{key}.{name}.partner: 'drawn'; expected 'next'")


class Method(Consistency):
    """One student and its own teacher."""

    views = Views(unlabeled=True, strong=1, strong_kind="intensity")

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.students = nn.ModuleDict({"student": setting.networks.network("student")})
        self.teachers["student"] = Teacher(self.students["student"], config.teacher)

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Strong views in two layers of patches, and the labels that belong to them."""
        prob = probabilities(self.teachers["student"](batch.image_u).logits)
        confidence, label = prob.max(dim=1)
        taught = PseudoLabel(label, confidence)
        self.measure(taught, batch.truth_u, batch.valid_u)
        patch_NHW = boxes_of(batch, self.config.patch, name="patch").box_NHW
        drawn_N = torch.rand(len(label), generator=batch.stream("adaptive")).to(prob)
        patch_NHW &= (drawn_N > sureness(prob, batch.valid_u))[:, None, None]
        self.diagnostics["share_patched"] = patch_NHW.float().mean()
        box_NHW = boxes_of(batch, self.config.cutmix).box_NHW
        own = (batch.strong_u[0], label, confidence, batch.valid_u)
        true = (
            batch.image_l,
            batch.label_l,
            torch.ones_like(confidence),
            batch.label_l != IGNORE_INDEX,
        )
        image, label, confidence, valid = (
            mix(mine, mix(mine, theirs, patch_NHW).roll(-1, dims=0), box_NHW)
            for mine, theirs in zip(own, true, strict=True)
        )
        return Seen((image,), valid, PseudoLabel(label, confidence))

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Cross-entropy of the confident pixels."""
        _, output = outputs["student"]
        loss, self.diagnostics["share_confident"] = confident_cross_entropy(
            output.logits, seen.target, seen.valid_NHW, threshold=self.config.threshold
        )
        return {"unsupervised": self.config.lambda_u * loss}

    def predictor(self) -> nn.Module:
        """The teacher."""
        return self.teachers["student"].average


def sureness(prob_NCHW: Tensor, valid_NHW: Tensor) -> Tensor:
    """How sure a teacher is of each image: [N], in [0, 1]; 0 for one without a valid pixel.

    The mean over its pixels of the confidence times one minus the entropy, in units of log C.
    """
    entropy_NHW = -(prob_NCHW * prob_NCHW.clamp(min=1e-10).log()).sum(dim=1)
    sure_NHW = (1 - entropy_NHW / math.log(prob_NCHW.shape[1])) * prob_NCHW.amax(dim=1)
    return (sure_NHW * valid_NHW).sum(dim=(1, 2)) / valid_NHW.sum(dim=(1, 2)).clamp(min=1)

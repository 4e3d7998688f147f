"""Cross pseudo supervision (Chen et al., CVPR 2021; arXiv:2106.01226), plain and with CutMix.

Two networks that begin differently learn each other's hard labels, without threshold, teacher or
weights. Plain, of labelled and unlabelled images as they are; with CutMix, each says its labels of
unmixed unlabelled images, and the other learns them of the mixed ones.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.losses.segmentation import hard_cross_entropy, pseudo_label
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.teaching import OTHER, Weighted, mixed_lesson
from pipeline.unlabeled import valid_pixels


@dataclass(frozen=True)
class Config(Weighted):
    """Parameters of CPS."""

    lambda_u: float = 1.0
    """Published: with CutMix 1 on VOC and 5 on Cityscapes; plain 1.5 and 6."""
    mixing: Literal["cutmix", "none"] = "cutmix"
    joint_pass: bool = False
    """Labelled and unlabelled images pass a network together; apart in the original."""
    cutmix: CutMixConfig = field(default_factory=CutMixConfig)


class Method(Consistency):
    """Two networks, each the other's teacher."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        partners = config.mixing == "cutmix" and config.cutmix.partner == "drawn"
        self.views = Views(unlabeled=True, partners=partners)
        self.students = nn.ModuleDict({name: setting.networks.network(name) for name in OTHER})

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Mixed images and both networks' labels, or the images alone."""
        if self.config.mixing == "none":
            return Seen((batch.image_u,), batch.valid_u, valid_pixels(batch))
        lesson = mixed_lesson(
            batch, self.config.cutmix, self.students, batch.image_u, measure=self.measure
        )
        return Seen((lesson.image,), lesson.valid, lesson.labels)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Each network learns what the other says."""
        if self.config.mixing == "none":
            logits = {n: torch.cat([x.logits for x in both]) for n, both in outputs.items()}
            labels = {name: pseudo_label(value) for name, value in logits.items()}
            valid = seen.target
        else:
            logits = {name: output.logits for name, (_, output) in outputs.items()}
            labels, valid = seen.target, seen.valid_NHW
        return {
            f"unsupervised_{name}": self.config.lambda_u
            * hard_cross_entropy(value, labels[OTHER[name]].label_NHW, valid)
            for name, value in logits.items()
        }

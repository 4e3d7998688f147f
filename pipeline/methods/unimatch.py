"""UniMatch (Yang et al., CVPR 2023; arXiv:2208.09910).

One network: what it says of the weak view, where it is confident, is learnt by two strong views
(colour jitter, grey, blur, and CutMix with boxes of their own) and by a third stream, the weak view
with half of the trunk's channels dropped. The sum of the confident pixels' losses is divided by the
number of all pixels.

Deviations: labelled, weak and each kind of strong images have a pass each (there: the first two
together, and both strong ones), and weak features are decoded apart from those with dropped
channels (there: together); what is pasted is labelled in train mode (there: in eval mode).
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.losses.consistency import confident_cross_entropy
from pipeline.losses.segmentation import PseudoLabel, pseudo_label
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.typed import at_least, within
from pipeline.unlabeled import boxes_of

STREAMS = ("strong0", "strong1")


@dataclass(frozen=True)
class Config:
    """Parameters of UniMatch."""

    threshold: float = 0.95
    """Confidence from which on a pixel is learnt; published: 0.95 on VOC, 0 on Cityscapes."""
    lambda_s: float = 0.5
    """Of both strong streams together."""
    lambda_fp: float = 0.5
    """Of the stream of perturbed features."""
    dropout: float = 0.5
    """Share of the channels that the third stream loses."""
    joint_pass: bool = False
    """Labelled and strong images pass a network together; apart in the original."""
    cutmix: CutMixConfig = field(
        default_factory=lambda: CutMixConfig(num_boxes=1, ratio=(0.02, 0.4), prob=0.5)
    )

    def check(self, key: str) -> None:
        """Weights and probabilities."""
        for name in ("lambda_s", "lambda_fp"):
            at_least(key, name, getattr(self, name), 0)
        for name in ("threshold", "dropout"):
            within(key, name, getattr(self, name), 0.0, 1.0)


class Method(Consistency):
    """One network, which teaches itself three times."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.views = Views(
            unlabeled=True, partners=config.cutmix.partner == "drawn", strong=len(STREAMS)
        )
        self.students = nn.ModuleDict({"student": setting.networks.network("student")})

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Two strong views; and of the weak view its labels and its perturbed prediction."""
        network = self.students["student"]
        low, high = network.trunk(batch.image_u)
        size, num = batch.image_u.shape[-2:], len(batch.image_l)
        with torch.no_grad():
            label = pseudo_label(network.decode(low, high, size).logits)
        own = (low[:num], high[:num])  # drawn partners, which follow, are pasted only
        dropped = (F.dropout2d(feature, self.config.dropout) for feature in own)
        perturbed = network.decode(*dropped, size)
        self.measure(label, batch.truth_u, batch.valid_u)
        boxes = [boxes_of(batch, self.config.cutmix, name=f"cutmix{s}") for s in STREAMS]
        images = tuple(mixed(view) for mixed, view in zip(boxes, batch.strong_u, strict=True))
        return Seen(images, batch.valid_u, (label, perturbed, boxes))

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Three times the cross-entropy of the confident pixels."""
        label, perturbed, boxes = seen.target
        threshold, terms = self.config.threshold, {}
        _, *strong = outputs["student"]
        for name, mixed, output in zip(STREAMS, boxes, strong, strict=True):
            taught = PseudoLabel(*map(mixed, label))
            valid = mixed(seen.valid_NHW)
            loss, _ = confident_cross_entropy(output.logits, taught, valid, threshold=threshold)
            terms[f"unsupervised_{name}"] = self.config.lambda_s / len(STREAMS) * loss
        num = len(perturbed.logits)
        own, valid = PseudoLabel(*(value[:num] for value in label)), seen.valid_NHW[:num]
        loss, self.diagnostics["share_confident"] = confident_cross_entropy(
            perturbed.logits, own, valid, threshold=threshold
        )
        return terms | {"unsupervised_features": self.config.lambda_fp * loss}

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Half of the sum, as in its code."""
        return {name: term / 2 for name, term in super().losses(batch, progress).items()}

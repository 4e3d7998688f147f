"""FixMatch (Sohn et al., NeurIPS 2020; arXiv:2001.07685), on pixels, as UniMatch's authors do it.

One network: what it says of the weak view, where it is confident, is the hard label of the strong
view (colour jitter, grey, blur, and CutMix in half of the images). The sum of the confident pixels'
losses is divided by the number of all pixels.

Deviation: the labels come from a pass of their own, without graph, rather than from one with the
labelled images.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.config import at_least, within
from pipeline.losses.segmentation import weighted_cross_entropy
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.unlabeled import boxes_of, labels_of, measured


@dataclass(frozen=True)
class Config:
    """Parameters of FixMatch."""

    lambda_u: float = 1.0
    threshold: float = 0.95
    """Confidence from which on a pixel is learnt."""
    cutmix: CutMixConfig = field(
        default_factory=lambda: CutMixConfig(num_boxes=1, ratio=(0.02, 0.4), prob=0.5)
    )

    def check(self, key: str) -> None:
        """A weight and a probability."""
        at_least(key, "lambda_u", self.lambda_u, 0)
        within(key, "threshold", self.threshold, 0.0, 1.0)


class Method(Consistency):
    """One network, which teaches itself."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.views = Views(unlabeled=True, partners=config.cutmix.partner == "drawn", strong=1)
        self.students = nn.ModuleDict({"student": setting.networks.network("student")})

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Labels of the weak view for the mixed strong one."""
        mixed = boxes_of(batch, self.config.cutmix)
        label = labels_of(self.students, batch.image_u, mixed)["student"]
        valid = mixed(batch.valid_u)
        self.diagnostics |= measured(label, mixed(batch.truth_u), valid)
        return Seen((mixed(batch.strong_u[0]),), valid, label)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Cross-entropy of the confident pixels."""
        _, output = outputs["student"]
        label, confidence = seen.target
        confident = confidence >= self.config.threshold
        self.diagnostics["share_confident"] = confident[seen.valid_NHW].float().mean()
        loss = weighted_cross_entropy(output.logits, label, confident, seen.valid_NHW)
        return {"unsupervised": self.config.lambda_u * loss}

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Half of the sum, as UniMatch's code has it."""
        return {name: term / 2 for name, term in super().losses(batch, progress).items()}

"""FixMatch (Sohn et al., NeurIPS 2020; arXiv:2001.07685), on pixels, as UniMatch's authors do it.

One network: what it says of the weak view, where it is confident, is the hard label of the strong
view (colour jitter, grey, blur, and CutMix in half of the images). The sum of the confident pixels'
losses is divided by the number of all pixels.

Deviations: labelled, weak and strong images have a pass each, the weak one without graph (there:
the first two together); what is pasted is labelled in train mode (there: in eval mode).
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.losses.consistency import confident_cross_entropy
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.teaching import Thresholded, mixed_lesson


@dataclass(frozen=True)
class Config(Thresholded):
    """Parameters of FixMatch."""

    joint_pass: bool = False
    """Labelled and strong images pass a network together; apart in the original."""
    cutmix: CutMixConfig = field(
        default_factory=lambda: CutMixConfig(num_boxes=1, ratio=(0.02, 0.4), prob=0.5)
    )


class Method(Consistency):
    """One network, which teaches itself."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.views = Views(unlabeled=True, partners=config.cutmix.partner == "drawn", strong=1)
        self.students = nn.ModuleDict({"student": setting.networks.network("student")})

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Labels of the weak view for the mixed strong one."""
        lesson = mixed_lesson(
            batch, self.config.cutmix, self.students, batch.strong_u[0], measure=self.measure
        )
        return Seen((lesson.image,), lesson.valid, lesson.labels["student"])

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Cross-entropy of the confident pixels."""
        _, output = outputs["student"]
        loss, self.diagnostics["share_confident"] = confident_cross_entropy(
            output.logits, seen.target, seen.valid_NHW, threshold=self.config.threshold
        )
        return {"unsupervised": self.config.lambda_u * loss}

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Half of the sum, as UniMatch's code has it."""
        return {name: term / 2 for name, term in super().losses(batch, progress).items()}

"""Mean teacher (Tarvainen and Valpola, NeurIPS 2017; arXiv:1703.01780), on pixels.

A student sees noisy unlabelled images and is to predict what its EMA teacher predicts of the plain
ones: the squared distance of the two distributions. Soft labels, every pixel, no threshold.

Deviations: the noise is colour jitter, grey and blur, the field's strong view, where the paper has
Gaussian noise and translations of small images. The weight does not ramp up; 100 is that of the
segmentation code published with CPS, where both networks see the same images, labelled ones too.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from pipeline.batch import Batch, Views
from pipeline.losses.consistency import probabilities, squared_difference
from pipeline.losses.segmentation import pseudo_label
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.teaching import Weighted
from pipeline.unlabeled import measured


@dataclass(frozen=True)
class Config(Weighted):
    """Parameters of mean teacher."""

    lambda_u: float = 100.0
    """Of the squared difference averaged over pixels and classes."""
    joint_pass: bool = False
    """Labelled and unlabelled images pass a network together; apart in the original."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)


class Method(Consistency):
    """One student and its own teacher."""

    views = Views(unlabeled=True, strong=1)

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.students = nn.ModuleDict({"student": setting.networks.network("student")})
        self.teachers["student"] = Teacher(self.students["student"], config.teacher)

    def observe(self, batch: Batch, progress: float) -> Seen:
        """The student sees strong views, the teacher weak ones."""
        logits = self.teachers["student"](batch.image_u).logits
        self.diagnostics |= measured(pseudo_label(logits), batch.truth_u, batch.valid_u)
        return Seen((batch.strong_u[0],), batch.valid_u, probabilities(logits))

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """The two agree."""
        _, output = outputs["student"]
        distance = squared_difference(output.logits, seen.target, seen.valid_NHW)
        return {"unsupervised": self.config.lambda_u / self.num_classes * distance}

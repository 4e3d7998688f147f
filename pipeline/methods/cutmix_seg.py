"""CutMix-Seg (French et al., BMVC 2020; arXiv:1906.01916).

Mean teacher on CutMixed images: the student is to predict, of a mixed image, the mixture of what
the EMA teacher predicts of the two plain ones. The squared distance counts as much as the teacher
is confident: by the share of the batch's pixels above a threshold. The teacher is evaluated.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.losses.consistency import confident_share, probabilities, squared_difference
from pipeline.losses.segmentation import pseudo_label
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.teaching import Thresholded
from pipeline.unlabeled import boxes_of, look


@dataclass(frozen=True)
class Config(Thresholded):
    """Parameters of CutMix-Seg."""

    threshold: float = 0.97
    """Confidence above which a pixel raises the weight of all."""
    joint_pass: bool = False
    """Labelled and unlabelled images pass a network together; apart in the original."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    cutmix: CutMixConfig = field(
        default_factory=lambda: CutMixConfig(num_boxes=1, ratio=(0.5, 0.5))
    )


class Method(Consistency):
    """One student and its own teacher."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.views = Views(unlabeled=True, partners=config.cutmix.partner == "drawn")
        self.students = nn.ModuleDict({"student": setting.networks.network("student")})
        self.teachers["student"] = Teacher(self.students["student"], config.teacher)

    def observe(self, batch: Batch, progress: float) -> Seen:
        """The student sees mixed images, the teacher unmixed ones."""
        mixed = boxes_of(batch, self.config.cutmix)
        prob = mixed(probabilities(look(self.teachers["student"], batch.image_u, mixed)))
        valid = mixed(batch.valid_u)
        self.measure(pseudo_label(prob.log()), mixed(batch.truth_u), valid)
        return Seen((mixed(batch.image_u),), valid, prob)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """The two agree, as far as the teacher is sure."""
        _, output = outputs["student"]
        distance = squared_difference(output.logits, seen.target, seen.valid_NHW)
        confidence = seen.target.amax(dim=1)
        share = confident_share(confidence, seen.valid_NHW, threshold=self.config.threshold)
        self.diagnostics["share_confident"] = share
        return {"unsupervised": self.config.lambda_u * share * distance}

    def predictor(self) -> nn.Module:
        """The teacher."""
        return self.teachers["student"].average

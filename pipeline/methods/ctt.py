"""Cross teacher training (Xiao et al., 2022; arXiv:2209.01327), without its contrastive terms.

Two students and their EMA teachers: each student learns, of mixed and jittered images, the hard
labels that the other student's teacher gives to the plain ones, weighted by the share of pixels of
which that teacher is sure.

Both released scripts leave the contrastive terms out of the loss that they minimise; so does this.
Deviation: images are mixed by CutMix (there: by ClassMix or CutMix, or not at all in one script).
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.losses.consistency import confident_share
from pipeline.losses.segmentation import hard_cross_entropy
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.teaching import Thresholded, mixed_lesson

TAUGHT_BY = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Config(Thresholded):
    """Parameters of CTT."""

    threshold: float = 0.968
    """Confidence above which a pixel raises the weight of all."""
    joint_pass: bool = False
    """Labelled and unlabelled images pass a network together; apart in the original."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    cutmix: CutMixConfig = field(default_factory=CutMixConfig)


class Method(Consistency):
    """Two students, each taught by the other's teacher."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        partners = config.cutmix.partner == "drawn"
        self.views = Views(unlabeled=True, partners=partners, strong=1)
        self.students = nn.ModuleDict({name: setting.networks.network(name) for name in TAUGHT_BY})
        for name, student in self.students.items():
            self.teachers[name] = Teacher(student, config.teacher)

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Mixed strong images, and the teachers' labels of plain ones."""
        view = batch.strong_u[0]
        lesson = mixed_lesson(
            batch,
            self.config.cutmix,
            self.teachers,
            view,
            measure=self.measure,
            called="{}_teacher",
        )
        return Seen((lesson.image,), lesson.valid, lesson.labels)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Each student learns from the other's teacher."""
        terms = {}
        for name, (_, output) in outputs.items():
            label_NHW, confidence_NHW = seen.target[TAUGHT_BY[name]]
            share = confident_share(confidence_NHW, seen.valid_NHW, threshold=self.config.threshold)
            loss = hard_cross_entropy(output.logits, label_NHW, seen.valid_NHW)
            terms[f"unsupervised_{name}"] = self.config.lambda_u * share * loss
        return terms

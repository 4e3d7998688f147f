"""Mean teacher (Tarvainen and Valpola, NeurIPS 2017; arXiv:1703.01780), on pixels.

A student is to predict what its EMA teacher predicts: the squared distance of the two
distributions, on labelled and unlabelled images. Soft labels, every pixel, no threshold.

As in the segmentation code published with CPS, whose results the field's tables quote, both
networks see the same images, and the weight is 100 from the start. In the paper both see noisy
ones and the weight grows; `student_sees: strong` gives the student other colours and blur, which
asks for a far smaller weight. Deviation from that code: padding and pixels whose label is ignored
do not count.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.batch import Batch, Views
from pipeline.losses.consistency import probabilities, squared_difference
from pipeline.losses.segmentation import pseudo_label
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.teaching import Weighted
from pipeline.unlabeled import valid_pixels


@dataclass(frozen=True)
class Config(Weighted):
    """Parameters of mean teacher."""

    lambda_u: float = 100.0
    """Of the squared difference averaged over pixels and classes."""
    student_sees: Literal["weak", "strong"] = "weak"
    """The teacher's view of the unlabelled images, or another one."""
    joint_pass: bool = False
    """Labelled and unlabelled images pass a network together; apart in the original."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)


class Method(Consistency):
    """One student and its own teacher."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.views = Views(unlabeled=True, strong=int(config.student_sees == "strong"))
        self.students = nn.ModuleDict({"student": setting.networks.network("student")})
        self.teachers["student"] = Teacher(self.students["student"], config.teacher)

    def observe(self, batch: Batch, progress: float) -> Seen:
        """The teacher's opinion of the weak views; one pass for labelled, one for the others."""
        logits = [self.teachers["student"](x).logits for x in (batch.image_l, batch.image_u)]
        self.measure(pseudo_label(logits[1]), batch.truth_u, batch.valid_u)
        image = batch.strong_u[0] if self.config.student_sees == "strong" else batch.image_u
        target = probabilities(torch.cat(logits)), valid_pixels(batch)
        return Seen((image,), batch.valid_u, target)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """The two agree."""
        logits = torch.cat([output.logits for output in outputs["student"]])
        distance = squared_difference(logits, *seen.target)
        return {"unsupervised": self.config.lambda_u / self.num_classes * distance}

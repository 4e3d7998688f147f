"""Perturbed and strict mean teachers (Liu et al., CVPR 2022; arXiv:2111.12903).

One student and two teachers that take turns in following it: their mean prediction of the plain
image is the label of the CutMixed one. A pixel counts if they are confident, and as much as they
are, in a mean over the confident ones. The student's features are perturbed by the noise that the
teachers themselves would mind most (T-VAT). A further term, off in the published runs, pushes down
the classes that the teachers are sure a pixel has not.

Deviations: the strong view is CutMix and jitter, the same for all data sets, and labelled images
have neither it nor noise; both teachers begin as the student and follow it until the first turn is
over (there: each is trained for five epochs); no further mask of the seven likeliest classes; the
adversary's probe is 1 (there: 1e-6, at which float32 rounds the divergence away). The first teacher
is evaluated, as on Cityscapes (there, on VOC: the mean of both).
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.augment.features import adversarial_noise
from pipeline.batch import Batch, Views
from pipeline.losses.consistency import negative_loss, probabilities
from pipeline.losses.segmentation import pseudo_label, weighted_cross_entropy
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.ramps import cosine_ramp
from pipeline.typed import at_least, within
from pipeline.unlabeled import boxes_of, look


@dataclass(frozen=True)
class Config:
    """Parameters of PS-MT."""

    lambda_u: float = 1.5
    """Published: 1.5 on blender VOC, 0.6 on classic (0.06 with 92 labels), 3 on Cityscapes."""
    ramp: float = 0.15
    """Share of training in which the weight grows: 12 of 80 epochs (12 of 320 on Cityscapes)."""
    threshold: float = 0.6
    """Confidence from which on a pixel is learnt."""
    threshold_negative: float = 0.0
    """Probability below which a class is taken to be absent; 0, as published: there is no term."""
    turn: float = 0.0125
    """Share of training after which the other teacher follows: 1 of 80 epochs."""
    probe: float = 1.0
    adversarial_size: float = 2.0
    """Length of the noise in the decoder's fused input."""
    teacher: TeacherConfig = field(default_factory=lambda: TeacherConfig(decay=0.996))
    cutmix: CutMixConfig = field(default_factory=CutMixConfig)

    def check(self, key: str) -> None:
        """Weights, probabilities, shares; a turn takes some time."""
        for name in ("lambda_u", "probe", "adversarial_size"):
            at_least(key, name, getattr(self, name), 0)
        for name in ("ramp", "threshold", "threshold_negative"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        within(key, "turn", self.turn, 1e-6, 1.0)


class Method(Consistency):
    """One student, two teachers."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        partners = config.cutmix.partner == "drawn"
        self.views = Views(unlabeled=True, partners=partners, strong=1)
        student = setting.networks.network("student")
        self.students = nn.ModuleDict({"student": student})
        self.teachers = nn.ModuleDict(
            {name: Teacher(student, config.teacher) for name in ("even", "odd")}
        )

    def observe(self, batch: Batch, progress: float) -> Seen:
        """The mean of the teachers, and the student's prediction of perturbed features."""
        mixed = boxes_of(batch, self.config.cutmix)
        logits = [look(teacher, batch.image_u, mixed) for teacher in self.teachers.values()]
        prob = mixed(probabilities(torch.stack(logits).mean(dim=0)))
        image, valid = mixed(batch.strong_u[0]), mixed(batch.valid_u)
        self.measure(pseudo_label(prob.log()), mixed(batch.truth_u), valid)
        student, size = self.students["student"], image.shape[-2:]
        low, high = student.trunk(image)
        fused = student.fuse(student.aspp(high), low)
        noise = self.noise_against_the_teachers(fused, batch)
        weight = self.config.lambda_u * cosine_ramp(progress, self.config.ramp)
        return Seen((), valid, (prob, student.classify(fused + noise, size)[0], weight))

    def noise_against_the_teachers(self, fused: Tensor, batch: Batch) -> Tensor:
        """T-VAT: found on the teachers' decoders, of the student's features and for them."""
        networks = [teacher.average for teacher in self.teachers.values()]
        size = batch.image_u.shape[-2:]

        def predict(feature: Tensor) -> Tensor:
            return torch.stack([each.classify(feature, size)[0] for each in networks]).mean(dim=0)

        return adversarial_noise(
            predict,
            fused,
            batch.stream("noise"),
            probe=self.config.probe,
            size=self.config.adversarial_size,
        )

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Confident pixels' weighted cross-entropy, and absent classes pushed down."""
        prob, logits, weight = seen.target
        confidence, label = prob.max(dim=1)
        learnt = seen.valid_NHW & (confidence >= self.config.threshold)
        absent = prob < self.config.threshold_negative
        return {
            "unsupervised": weight * weighted_cross_entropy(logits, label, confidence, learnt),
            "unsupervised_negative": weight * negative_loss(logits, absent, seen.valid_NHW),
        }

    def after_update(self, progress: float) -> None:
        """The teachers take turns, from the time that there is something to teach."""
        turn = "even" if int(progress / self.config.turn) % 2 == 0 else "odd"
        begun = progress >= max(self.unsupervised_from, self.config.turn)
        for name, teacher in self.teachers.items():
            if name == turn or not begun:
                teacher.follow(self.students["student"])

    def predictor(self) -> nn.Module:
        """The first teacher."""
        return self.teachers["even"].average

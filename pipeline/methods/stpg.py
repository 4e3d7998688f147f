"""STPG: synergistic training with professional and general training (the paper, section 3).

Two students and their EMA teachers. The professional module trains Pro-Student on those of
Gen-Teacher's pseudo-labels that the two agree on or that are of the more mismatched class; the
general module trains Gen-Student on all of Pro-Teacher's. A dual contrastive loss pulls
Gen-Student's features to fixed anchors and to a bank of good features. Gen-Student is evaluated.
Readings of what the paper leaves open: docs/paper.md; every ablation of Tables 4 and 5 is a
parameter.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.cells import at_cells, cells_of
from pipeline.data.base import IGNORE_INDEX
from pipeline.dual_contrast import ContrastConfig, DualContrast, true_class_prob
from pipeline.losses.mismatch import (
    class_mismatch_score,
    confusion_matrix,
    partition_pseudo_labels,
    select,
)
from pipeline.losses.segmentation import (
    PseudoLabel,
    supervised_loss,
    weighted_cross_entropy,
    weighted_terms,
)
from pipeline.methods.base import MethodBase, Setting
from pipeline.models.deeplab import DeepLabV3Plus, Output, Projected
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.selection import selection_diagnostics, selection_pictures
from pipeline.typed import ConfigError, at_least
from pipeline.unlabeled import boxes_of, forward_each, look, mixed_label


@dataclass(frozen=True)
class Config:
    """Parameters of STPG; the defaults are the paper's, where it says."""

    lambda_u: float = 1.0
    lambda_ctr: float = 0.1
    dual: bool = True
    """False: one student taught by its own teacher (Table 4, row 2)."""
    selection: Literal["all", "consistent", "consistent+low", "consistent+high"] = "consistent+high"
    """Which pseudo-labels train Pro-Student (Table 5)."""
    diagonal_prior: int = 0
    """Added to each m_qq of equation 5; the official code adds 1."""
    joint_pass: bool = True
    """Labelled and mixed images pass a student together; the official code passes them apart."""
    count_padding: bool = False
    """Learn the teachers' labels of padding too, as the official code does."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    cutmix: CutMixConfig = field(default_factory=CutMixConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)

    @property
    def contrasts(self) -> bool:
        """Whether features are contrasted: with a weight of 0 it would cost time alone."""
        return self.contrast.loss != "none" and self.lambda_ctr > 0

    def check(self, key: str) -> None:
        """A selection compares two students' modules, so it needs both."""
        at_least(key, "lambda_u", self.lambda_u, 0)
        at_least(key, "lambda_ctr", self.lambda_ctr, 0)
        if not self.dual and self.selection != "all":
            raise ConfigError(
                f"{key}.selection: {self.selection!r} with {key}.dual false; expected 'all': "
                "the selection compares the two modules"
            )


class Mixed(NamedTuple):
    """CutMixed unlabelled images and what the teachers say of them."""

    image: Tensor
    valid_NHW: Tensor
    truth_NHW: Tensor
    by_gen: PseudoLabel
    """Of Gen-Teacher, equations 3 and 4."""
    by_pro: PseudoLabel
    """Of Pro-Teacher, equations 9 and 10; of Gen-Teacher where there is one module only."""


def student_of(name: str, config: Config, setting: Setting) -> Projected:
    """A network, with a projection head where the contrast trains it."""
    networks, contrast, head = setting.networks, config.contrast, None
    if config.contrasts and name in contrast.students:
        head = networks.projection(name, contrast.source, contrast.dim, norm=contrast.head_norm)
    return Projected(networks.network(name), head, contrast.source)


class Method(MethodBase):
    """Pro-Student learns from Gen-Teacher, Gen-Student from Pro-Teacher."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.views = Views(unlabeled=True, partners=config.cutmix.partner == "drawn")
        self.align_corners = setting.networks.config.align_corners
        self.gen_student = student_of("gen", config, setting)
        self.gen_teacher = Teacher(self.gen_student, config.teacher)
        self.pro_student = student_of("pro", config, setting) if config.dual else None
        self.pro_teacher = Teacher(self.pro_student, config.teacher) if config.dual else None
        self.contrast = (
            DualContrast(config.contrast, self.num_classes, setting.networks.stream("anchors"))
            if config.contrasts
            else None
        )
        self.observed: tuple[Tensor, Tensor, Tensor] | None = None
        """What `losses` saw for the bank, until `after_backward`."""

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Equation 17, term by term; a term that plays no part (yet) is 0."""
        config = self.config
        self.diagnostics = {}
        wanted = config.lambda_u > 0 or (
            self.contrast is not None and "unlabeled" in config.contrast.pixels
        )
        use_unlabeled = wanted and progress >= self.unsupervised_from
        observes = self.contrast is not None and progress >= config.contrast.bank_from
        shown = self.show_both(batch) if use_unlabeled and observes else (None, None)
        mixed = self.mix_unlabeled(batch, shown[1]) if use_unlabeled else None
        outputs = {
            name: self.forward_both(student, batch, mixed)
            for name, student in self.students().items()
        }
        logits_l = [labeled.logits for labeled, _ in outputs.values()]
        nothing = logits_l[0].new_zeros(())
        general = professional = nothing
        if mixed is not None:
            general = weighted_cross_entropy(
                outputs["gen"][1].logits, *mixed.by_pro, mixed.valid_NHW
            )
            if "pro" in outputs:
                professional = self.professional(outputs["pro"][1].logits, mixed)
        if observes:
            self.observed = self.observe(batch, shown[0])
        contrast = self.contrast_losses(batch, mixed, outputs, progress)
        return weighted_terms(
            supervised_loss(logits_l, batch.label_l, pixel_loss=self.labeled_loss),
            general,
            professional,
            contrast.get("anchor", nothing),
            contrast.get("similarity", nothing),
            lambda_u=config.lambda_u,
            lambda_ctr=config.lambda_ctr,
        )

    def students(self) -> dict[str, Projected]:
        """By name: both, or Gen-Student alone."""
        both = {"gen": self.gen_student, "pro": self.pro_student}
        return {name: student for name, student in both.items() if student is not None}

    @torch.no_grad()
    def show_both(self, batch: Batch) -> tuple[Output | None, Output | None]:
        """Gen-Teacher's outputs for labelled and unlabelled images, if one pass may do for both.

        It may unless their batch statistics count.
        """
        if self.config.teacher.mode == "train":
            return None, None
        output_l, output_u = forward_each(self.gen_teacher, batch.image_l, batch.image_u)
        return output_l, output_u

    @torch.no_grad()
    def mix_unlabeled(self, batch: Batch, shown: Output | None = None) -> Mixed:
        """CutMixes each unlabelled image with its partner, and their labels alike.

        The teachers see the unmixed weak images; Gen-Teacher has `shown` them, if given.
        """
        mixed = boxes_of(batch, self.config.cutmix)
        by_gen = look(self.gen_teacher, batch.image_u, mixed) if shown is None else shown.logits
        logits = {"gen": by_gen}
        if self.pro_teacher is not None:
            logits["pro"] = look(self.pro_teacher, batch.image_u, mixed)
        labels = {name: mixed_label(value, mixed) for name, value in logits.items()}
        valid = mixed(batch.valid_u | self.config.count_padding)
        truth = mixed(batch.truth_u)
        for name, label in labels.items():
            self.measure(label, truth, valid, teacher=f"{name}_teacher")
        by_pro = labels.get("pro", labels["gen"])
        return Mixed(mixed(batch.image_u), valid, truth, labels["gen"], by_pro)

    def forward_both(
        self, student: Projected, batch: Batch, mixed: Mixed | None
    ) -> tuple[Output, Output | None]:
        """The student's outputs for the labelled and the mixed images."""
        if mixed is None:
            return student(batch.image_l), None
        images = (batch.image_l, mixed.image)
        output_l, output_u = forward_each(student, *images, together=self.config.joint_pass)
        return output_l, output_u

    def professional(self, logits_NCHW: Tensor, mixed: Mixed) -> Tensor:
        """Equation 7: Gen-Teacher's selected pseudo-labels, weighted by its confidence."""
        student_NHW = logits_NCHW.detach().argmax(dim=1)
        label_NHW, confidence_NHW = mixed.by_gen
        confusion_CC = confusion_matrix(
            student_NHW, label_NHW, mixed.valid_NHW, num_classes=self.num_classes
        )
        score_C = class_mismatch_score(confusion_CC, diagonal_prior=self.config.diagonal_prior)
        parts = partition_pseudo_labels(student_NHW, label_NHW, score_C, mixed.valid_NHW)
        selected_NHW = select(parts, self.config.selection)
        if self.measuring:
            truth_NHW, valid_NHW = mixed.truth_NHW, mixed.valid_NHW
            self.diagnostics |= selection_diagnostics(
                label_NHW, truth_NHW, valid_NHW, parts, selected_NHW, num_classes=self.num_classes
            )
            self.snapshot = selection_pictures(
                mixed.image, valid_NHW, truth_NHW, student_NHW, label_NHW, parts, selected_NHW
            )
            self.snapshot |= {"confusion_CC": confusion_CC, "score_C": score_C}
        return weighted_cross_entropy(
            logits_NCHW, label_NHW, confidence_NHW * selected_NHW, mixed.valid_NHW
        )

    def contrast_losses(
        self,
        batch: Batch,
        mixed: Mixed | None,
        outputs: dict[str, tuple[Output, Output | None]],
        progress: float,
    ) -> dict[str, Tensor]:
        """Equations 15 and 16, summed over the students and kinds of pixels they train."""
        config = self.config.contrast
        totals: dict[str, Tensor] = {}
        if self.contrast is None or progress < config.loss_from:
            return totals
        groups = self.contrasted_pixels(batch, mixed, outputs)
        for i, (feature_PD, label_P) in enumerate(groups):
            losses = self.contrast.losses(feature_PD, label_P, batch.stream(f"contrast{i}"))
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value
        return totals

    def contrasted_pixels(
        self,
        batch: Batch,
        mixed: Mixed | None,
        outputs: dict[str, tuple[Output, Output | None]],
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Projections [P, D] and classes [P]: true ones, or of the teacher that teaches."""
        config = self.config.contrast
        students, where = self.students(), {"align_corners": self.align_corners}
        for name in filter(students.__contains__, config.students):
            output_l, output_u = outputs[name]
            if "labeled" in config.pixels:
                yield cells_of(students[name].project(output_l), batch.label_l, **where)
            if "unlabeled" in config.pixels and mixed is not None:
                taught = mixed.by_pro if name == "gen" else mixed.by_gen
                label_NHW = taught.label_NHW.masked_fill(~mixed.valid_NHW, IGNORE_INDEX)
                yield cells_of(students[name].project(output_u), label_NHW, **where)

    @torch.no_grad()
    def observe(self, batch: Batch, shown: Output | None) -> tuple[Tensor, Tensor, Tensor]:
        """Gen-Teacher's projections of the labelled pixels, their classes and its belief in them.

        Args:
          shown: its outputs for the labelled images, if it has seen them already.

        Returns:
          [P, D], [P], and the probability of the true class [P].
        """
        output = self.gen_teacher(batch.image_l) if shown is None else shown
        feature = self.gen_teacher.average.project(output)
        where = {"align_corners": self.align_corners}
        prob_NHW = true_class_prob(
            *(at_cells(x, feature.shape[-2:], **where) for x in (output.logits, batch.label_l))
        )
        return cells_of(feature, batch.label_l, prob_NHW, **where)

    def after_backward(self, progress: float) -> None:
        """The bank takes what was observed."""
        if self.observed is not None:
            self.contrast.observe(*self.observed, progress)
            self.observed = None

    def after_update(self, progress: float) -> None:
        """Gen-Teacher follows Gen-Student, Pro the Pro."""
        for teacher, student in (
            (self.gen_teacher, self.gen_student),
            (self.pro_teacher, self.pro_student),
        ):
            if student is not None:
                teacher.follow(student)

    def predictor(self) -> DeepLabV3Plus:
        """Gen-Student (section 4.1)."""
        return self.gen_student.network

"""ELN (Kwon and Kwak, CVPR 2022; arXiv:2204.02078): error localisation.

A mean teacher whose errors a further network finds, so that the student does without them. That
network learns on labelled images which pixels of a prediction are right: the student's own, and
those of auxiliary decoders that are kept bad enough to err in many ways: one learns only while its
loss is at least 20 times the student's, the other 50 times.

Three phases, with the shares of training that they have in the code: the student learns labels;
auxiliary decoders and error localisation learn beside it; the teacher, which begins as the
student's copy, labels the unlabelled images. From the pixels that are found right the student
learns, of the weak and of the strong view: cross-entropy, and a contrast of features in random
windows. Every 266 steps it starts anew from the teacher. The student is evaluated.

In the contrast the teacher's features are the queries and the student's the keys, as in the code,
whatever the paper calls them. Deviations: pixels without a label are no errors to be found
(there they are); labels and found errors have the image's resolution (there: a quarter); the
teacher is in eval mode (there: train mode); colours change as in FixMatch; decoders have no dropout
(error localisation has) and all networks one convolution as classifier (there some have two), the
projection head is that of STPG; the network that finds errors has the students' trunk unless
`trunk` says another (there: ResNet-34); it judges what the losses see (there: a second pass).
The recipe's optimiser and rate are those of all parts, and its `unsupervised_from` has no say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from pipeline.batch import Batch, Views
from pipeline.cells import at_cells
from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.error_localization import localization_loss, window_contrast
from pipeline.losses.segmentation import hard_cross_entropy, pseudo_label
from pipeline.methods.base import MethodBase, Setting
from pipeline.models.deeplab import DeepLabV3Plus, NetworkFactory, Projected
from pipeline.models.ema import Teacher, TeacherConfig
from pipeline.models.localizer import ErrorLocalizer
from pipeline.seeding import drawn_from
from pipeline.typed import ConfigError, at_least, within
from pipeline.unlabeled import accuracy


@dataclass(frozen=True)
class Config:
    """Parameters of ELN."""

    lambda_u: float = 1.0
    lambda_c: float = 1.0
    """Of the contrast."""
    localize_from: float = 0.14
    """Share of training after which errors are made and found: 70 of 500 epochs; Cityscapes 100."""
    teach_from: float = 0.24
    """Share after which the teacher teaches: 120 of 500 epochs; Cityscapes 158."""
    margins: tuple[float, ...] = (20.0, 50.0)
    """An auxiliary decoder each: by how many times its loss has to exceed the student's."""
    restart: int = 266
    """Steps after which the student starts anew from the teacher: an epoch of the code."""
    trunk: str | None = None
    """Of the network that finds errors, as timm calls it; null: that of the students."""
    tau: float = 0.5
    windows: int = 8
    """Of each view and step, at the same place in all images, for the contrast."""
    side: int = 32
    """Of a window, in feature cells; what it costs grows with the fourth power."""
    dim: int = 128
    teacher: TeacherConfig = field(default_factory=lambda: TeacherConfig(0.995, warm_up=False))

    def check(self, key: str) -> None:
        """Weights, numbers, and phases in order."""
        for name in ("lambda_u", "lambda_c"):
            at_least(key, name, getattr(self, name), 0)
        for name in ("restart", "windows", "side", "dim"):
            at_least(key, name, getattr(self, name), 1)
        for i, margin in enumerate(self.margins):
            at_least(key, f"margins[{i}]", margin, 0)
        for name in ("localize_from", "teach_from"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        within(key, "tau", self.tau, 0.05, 100.0)
        if not self.localize_from <= self.teach_from:
            raise ConfigError(
                f"{key}.teach_from: {self.teach_from}; expected at least {key}.localize_from "
                f"({self.localize_from})"
            )


class Method(MethodBase):
    """A student, its teacher, auxiliary decoders, and the network that finds errors."""

    views = Views(unlabeled=True, strong=1)

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        networks = setting.networks
        trunk = config.trunk or networks.config.trunk
        kind = networks.config.weights.partition(":")[0]
        if trunk != networks.config.trunk and kind not in ("timm", "none"):
            raise ConfigError(
                f"methods.eln.trunk: {trunk}, for which network.weights "
                f"({networks.config.weights!r}, of {networks.config.trunk}) has nothing; expected "
                "null, or weights timm or none"
            )
        self.align_corners = networks.config.align_corners
        head = networks.projection("student", "decoder", config.dim)
        self.student = Projected(networks.network("student"), head, "decoder")
        self.teacher = Teacher(self.student, config.teacher)
        self.auxiliary = nn.ModuleList(
            decoder(networks, f"auxiliary{i}") for i in range(len(config.margins))
        )
        localizers = NetworkFactory(replace(networks.config, trunk=trunk), 1, networks.seed)
        with drawn_from(networks.seed, "localizer"):
            self.localizer = ErrorLocalizer(localizers.network("localizer"), self.num_classes)
        self.teaching = False  # said anew before each step

    def students(self) -> dict[str, nn.Module]:
        """The one that learns from unlabelled images."""
        return {"student": self.student}

    def before_step(self, progress: float, unlabeled: Sequence[Tensor]) -> None:
        """The teacher begins as the student, which later starts anew from it."""
        self.teaching = progress >= self.config.teach_from
        average, num_updates = self.teacher.average, self.teacher.num_updates
        if self.teaching and num_updates == 0:
            average.load_state_dict(self.student.state_dict())
        elif self.teaching and num_updates % self.config.restart == 0:
            self.student.load_state_dict(average.state_dict())

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The terms of all phases that have begun."""
        self.diagnostics = {}
        network, size = self.student.network, batch.image_l.shape[-2:]
        low, high = network.trunk(batch.image_l)
        logits = network.decode(low, high, size).logits
        supervised = self.labeled_loss(logits, batch.label_l)
        terms = {"supervised": supervised}
        if progress >= self.config.localize_from:
            others = [part.decode(low.detach(), high.detach(), size) for part in self.auxiliary]
            wrong = [output.logits for output in others]
            terms["auxiliary"] = self.auxiliary_loss(wrong, batch.label_l, supervised.detach())
            terms["localization"] = self.localization([logits, *wrong], batch)
        if progress >= self.config.teach_from:
            terms |= self.unsupervised_terms(batch)
        return terms

    def auxiliary_loss(self, wrong: list[Tensor], label_l: Tensor, supervised: Tensor) -> Tensor:
        """The sum over the decoders whose loss is so many times that of the student, or more."""
        total = torch.zeros_like(supervised)
        for i, (margin, logits) in enumerate(zip(self.config.margins, wrong, strict=True)):
            loss = self.labeled_loss(logits, label_l)
            total = total + loss * (loss.detach() >= margin * supervised)
            self.diagnostics[f"loss_auxiliary{i}"] = loss.detach()
        return total

    def localization(self, predictions: list[Tensor], batch: Batch) -> Tensor:
        """The sum over predictions of labelled images of how badly their errors are found."""
        label, losses = batch.label_l, []
        for logits in predictions:
            score = self.localizer(batch.image_l, logits)
            right = logits.argmax(dim=1) == label
            losses.append(localization_loss(score, right, label != IGNORE_INDEX))
        return torch.stack(losses).sum()

    def unsupervised_terms(self, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy and contrast of both views where the teacher is found right."""
        config, told = self.config, self.teacher(batch.image_u)
        with torch.no_grad():
            target = self.teacher.average.project(told)
            right = self.localizer(batch.image_u, told.logits, dropout=False) > 0
        taught, kept = pseudo_label(told.logits), batch.valid_u & right
        self.measure(taught, batch.truth_u, batch.valid_u)
        if self.measuring:
            self.diagnostics["accuracy_kept"] = accuracy(taught.label_NHW, batch.truth_u, kept)
        self.diagnostics["share_kept"] = kept.sum() / batch.valid_u.sum().clamp(min=1)
        label = taught.label_NHW.masked_fill(~kept, IGNORE_INDEX)
        cells = at_cells(label, target.shape[-2:], align_corners=self.align_corners)
        terms = {}
        for view, image in (("weak", batch.image_u), ("strong", batch.strong_u[0])):
            output = self.student(image)
            loss = hard_cross_entropy(output.logits, label, kept)
            contrast = window_contrast(
                target,
                self.student.project(output),
                cells,
                num_classes=self.num_classes,
                tau=config.tau,
                windows=config.windows,
                side=config.side,
                generator=batch.stream(f"windows {view}"),
            )
            terms[f"unsupervised_{view}"] = config.lambda_u * loss
            terms[f"contrast_{view}"] = config.lambda_c * contrast
        return terms

    def after_update(self, progress: float) -> None:
        """The teacher follows once it teaches."""
        if self.teaching:
            self.teacher.follow(self.student)

    def predictor(self) -> nn.Module:
        """The student without its head."""
        return self.student.network


def decoder(networks: NetworkFactory, name: str) -> DeepLabV3Plus:
    """What follows the trunk of a network: only its `decode` works."""
    network = networks.network(name)
    del network.trunk
    return network

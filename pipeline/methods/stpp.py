"""ST++ (Yang et al., CVPR 2022; arXiv:2106.05095): self-training in phases.

Phase 0: a student learns the labelled images, and is kept three times on the way. Then each
unlabelled image is ranked by how alike the two earlier ones and the last one predict it. Phase 1:
the student also learns the hard labels that the last one gives to the stabler half of the images,
on strong views. Phase 2: the student of phase 1 labels all images anew, and all are learnt.

Deviations: the phases are thirds of one training, with one schedule of the learning rate, and the
student goes on from phase to phase (there: three trainings from ImageNet weights); labels are those
of the weak view of the step, without test-time augmentation; an image that is not of the stabler
half takes its place in a batch, but teaches nothing. The recipe's `unsupervised_from` has no say.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.losses.segmentation import hard_cross_entropy, pseudo_label
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.teaching import Weighted
from pipeline.typed import ConfigError, within
from pipeline.unlabeled import boxes_of

KEPT = ("early", "middle", "last")


@dataclass(frozen=True)
class Config(Weighted):
    """Parameters of ST++."""

    rank_at: float = 1 / 3
    """Share of training after which images are ranked and phase 1 begins."""
    relabel_at: float = 2 / 3
    """Share of training after which the student labels anew and phase 2 begins."""
    stable: float = 0.5
    """Share of the unlabelled images that phase 1 learns."""
    cutout: CutMixConfig = field(
        default_factory=lambda: CutMixConfig(num_boxes=1, ratio=(0.02, 0.4), prob=0.5)
    )
    """Boxes of the strong view that are erased and not learnt."""

    def check(self, key: str) -> None:
        """Phases in order."""
        super().check(key)
        for name in ("rank_at", "relabel_at", "stable"):
            within(key, name, getattr(self, name), 0.0, 1.0)
        if not self.rank_at < self.relabel_at:
            raise ConfigError(
                f"{key}.relabel_at: {self.relabel_at}; expected more than {key}.rank_at "
                f"({self.rank_at})"
            )


class Method(Consistency):
    """One student, and what it was before."""

    views = Views(unlabeled=True, strong=1)

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        student = setting.networks.network("student")
        self.students = nn.ModuleDict({"student": student})
        self.former_teachers = nn.ModuleDict(
            {name: copy.deepcopy(student).requires_grad_(False) for name in KEPT}
        )
        self.register_buffer("num_kept", torch.zeros((), dtype=torch.int64))
        self.register_buffer("phase", torch.zeros((), dtype=torch.int64))
        self.register_buffer("stability_K", torch.zeros(setting.num_unlabeled))
        self.register_buffer("learnt_K", torch.zeros(setting.num_unlabeled, dtype=torch.bool))
        self.unsupervised_from = 0.0

    def train(self, mode: bool = True) -> "Method":
        """As nn.Module's, but former networks stay in eval mode."""
        super().train(mode)
        self.former_teachers.eval()
        return self

    def before_step(self, progress: float, unlabeled: Sequence[Tensor]) -> None:
        """Keeps the student, ranks and relabels when it is time."""
        config, student = self.config, self.students["student"]
        while self.num_kept < len(KEPT) and progress >= config.rank_at * (
            (self.num_kept + 1) / len(KEPT)
        ):
            self.former_teachers[KEPT[self.num_kept]].load_state_dict(student.state_dict())
            self.num_kept += 1
        if self.phase == 0 and progress >= config.rank_at:
            self.rank(unlabeled)
            self.phase.fill_(1)
        if self.phase == 1 and progress >= config.relabel_at:
            self.former_teachers["last"].load_state_dict(student.state_dict())
            self.learnt_K.fill_(True)
            self.phase.fill_(2)

    @torch.no_grad()
    def rank(self, unlabeled: Sequence[Tensor]) -> None:
        """Chooses the images of which the kept networks say most alike."""
        for number, image in enumerate(unlabeled):
            early, middle, last = (
                self.former_teachers[name](image).logits.argmax(dim=1) for name in KEPT
            )
            alike = [
                agreement(each, last, num_classes=self.num_classes) for each in (early, middle)
            ]
            self.stability_K[number] = torch.stack(alike).mean()
        num_stable = round(self.config.stable * len(unlabeled))
        self.learnt_K[self.stability_K.argsort(descending=True, stable=True)[:num_stable]] = True

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Strong views with erased boxes, and the last kept network's labels."""
        self.diagnostics["phase"] = self.phase
        self.diagnostics["stability"] = self.stability_K.mean()
        if self.phase == 0:
            return Seen((), batch.valid_u, None)
        with torch.no_grad():
            label = pseudo_label(self.former_teachers["last"](batch.image_u).logits)
        self.measure(label, batch.truth_u, batch.valid_u)
        learnt_N = self.learnt_K[batch.index_u]
        self.diagnostics["share_learnt"] = learnt_N.float().mean()
        erased_NHW = boxes_of(batch, self.config.cutout).box_NHW
        image = batch.strong_u[0].masked_fill(erased_NHW[:, None], 0.5)
        valid_NHW = batch.valid_u & ~erased_NHW & learnt_N[:, None, None]
        return Seen((image,), valid_NHW, label.label_NHW)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Cross-entropy of the hard labels, from phase 1 on."""
        labeled, *rest = outputs["student"]
        if not rest:
            return {"unsupervised": labeled.logits.new_zeros(())}
        loss = hard_cross_entropy(rest[0].logits, seen.target, seen.valid_NHW)
        return {"unsupervised": self.config.lambda_u * loss}


def agreement(first_NHW: Tensor, second_NHW: Tensor, *, num_classes: int) -> Tensor:
    """Mean intersection over union of two label maps, over the classes that either has."""
    one, two = (
        torch.nn.functional.one_hot(label.flatten(), num_classes).bool()
        for label in (first_NHW, second_NHW)
    )
    both_C, either_C = (one & two).sum(dim=0), (one | two).sum(dim=0)
    return (both_C / either_C.clamp(min=1)).sum() / (either_C > 0).sum()

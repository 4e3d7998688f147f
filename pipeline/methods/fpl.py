"""Fuzzy positive learning (Qiao et al., CVPR 2023; arXiv:2210.08519), on CPS with CutMix.

As in CPS two networks teach each other, but a label is a set: the likeliest classes whose
probabilities reach a mass together. The learner is to put every class of the set above every
other, and may order the set as it likes. Where the set has one class this is CPS.

The most classes of a set is not among the published values that we know; here 3.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.config import at_least, within
from pipeline.losses.consistency import fuzzy_positive_loss, fuzzy_positives, probabilities
from pipeline.losses.segmentation import PseudoLabel
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.unlabeled import boxes_of, look, measured

OTHER = {"first": "second", "second": "first"}


@dataclass(frozen=True)
class Config:
    """Parameters of FPL."""

    lambda_u: float = 1.0
    mass: float = 0.9
    """Probability that the classes of a set reach together."""
    most: int = 3
    """Classes in a set at most."""
    cutmix: CutMixConfig = field(default_factory=CutMixConfig)

    def check(self, key: str) -> None:
        """A weight, a probability, a number of classes."""
        at_least(key, "lambda_u", self.lambda_u, 0)
        within(key, "mass", self.mass, 0.0, 1.0)
        at_least(key, "most", self.most, 1)


class Method(Consistency):
    """Two networks, each the other's teacher."""

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.views = Views(unlabeled=True, partners=config.cutmix.partner == "drawn")
        self.students = nn.ModuleDict({name: setting.networks.network(name) for name in OTHER})

    def observe(self, batch: Batch, progress: float) -> Seen:
        """Mixed images, and the classes that each network allows."""
        mixed = boxes_of(batch, self.config.cutmix)
        valid, truth = mixed(batch.valid_u), mixed(batch.truth_u)
        positives = {}
        for name, student in self.students.items():
            prob = mixed(probabilities(look(student, batch.image_u, mixed)))
            positives[name] = fuzzy_positives(prob, mass=self.config.mass, most=self.config.most)
            confidence, label = prob.max(dim=1)
            self.diagnostics |= measured(PseudoLabel(label, confidence), truth, valid, teacher=name)
            size = positives[name].sum(dim=1)[valid].float().mean()
            self.diagnostics[f"classes_{name}"] = size
        return Seen((mixed(batch.image_u),), valid, positives)

    def unsupervised(self, outputs: dict[str, list[Output]], seen: Seen) -> dict[str, Tensor]:
        """Each network learns the other's sets."""
        return {
            f"unsupervised_{name}": self.config.lambda_u
            * fuzzy_positive_loss(output.logits, seen.target[OTHER[name]], seen.valid_NHW)
            for name, (_, output) in outputs.items()
        }

"""Fuzzy positive learning (Qiao et al., CVPR 2023; arXiv:2210.08519), on CPS with CutMix.

As in CPS two networks teach each other, but a label is a set: the likeliest class, and those after
it as long as the set's probabilities stay below a mass. The learner is to put every class of the
set above every other, and may order the set as it likes. Where the set has one class this is CPS.

Deviation: the code scales the loss of each step to the value that CPS's would have; this does not.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn

from pipeline.augment.cutmix import CutMixConfig
from pipeline.batch import Batch, Views
from pipeline.losses.consistency import fuzzy_positive_loss, fuzzy_positives, probabilities
from pipeline.losses.segmentation import PseudoLabel
from pipeline.methods.base import Consistency, Seen, Setting
from pipeline.models.deeplab import Output
from pipeline.teaching import Weighted
from pipeline.typed import at_least, within
from pipeline.unlabeled import boxes_of, look

OTHER = {"first": "second", "second": "first"}


@dataclass(frozen=True)
class Config(Weighted):
    """Parameters of FPL."""

    mass: float = 0.9
    """Probability that the classes of a set do not reach together."""
    most: int = 3
    """Classes in a set at most."""
    joint_pass: bool = False
    """Labelled and unlabelled images pass a network together; apart in the original."""
    cutmix: CutMixConfig = field(default_factory=CutMixConfig)

    def check(self, key: str) -> None:
        """A weight, a probability, a number of classes."""
        super().check(key)
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
            self.measure(PseudoLabel(label, confidence), truth, valid, teacher=name)
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

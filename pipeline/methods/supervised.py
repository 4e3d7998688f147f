"""The supervised baseline: cross-entropy on the labelled images alone.

Row "Sup. baseline" of the paper's tables. A step sees as many labelled images as a step of the
semi-supervised methods, so it makes the same number of updates on them.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.batch import Batch, Views
from pipeline.methods.base import MethodBase, Setting


@dataclass(frozen=True)
class Config:
    """The baseline has no parameters of its own."""


class Method(MethodBase):
    """One network, labelled images only."""

    views: Views = Views()

    def __init__(self, config: Config, setting: Setting) -> None:
        super().__init__(config, setting)
        self.student = setting.networks.network("student")

    def losses(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The loss of the labelled pixels."""
        return {"supervised": self.labeled_loss(self.student(batch.image_l).logits, batch.label_l)}

    def predictor(self) -> nn.Module:
        """The only network."""
        return self.student

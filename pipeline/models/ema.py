"""Teachers: exponential moving averages of students."""

import copy
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from pipeline.typed import ConfigError, within


@dataclass(frozen=True)
class TeacherConfig:
    """How the teachers follow their students, and predict."""

    decay: float = 0.99
    warm_up: bool = True
    """min(1 - 1 / (i + 1), decay) rather than `decay` from the first step."""
    average_buffers: bool = True
    """Average the batch-norm statistics too."""
    mode: Literal["eval", "train"] = "eval"
    """In `train` mode a teacher normalises with the statistics of its own batch."""

    def check(self, key: str) -> None:
        """A decay is a share; statistics that are used have to follow the student's."""
        within(key, "decay", self.decay, 0.0, 1.0)
        if self.mode == "eval" and not self.average_buffers:
            raise ConfigError(
                f"{key}.average_buffers: false with {key}.mode eval; expected true, or mode train: "
                "else the teacher normalises with the statistics that it began with"
            )


class Teacher(nn.Module):
    """The moving average of a student; begins as its copy, and no gradient reaches it."""

    def __init__(self, student: nn.Module, config: TeacherConfig) -> None:
        super().__init__()
        self.config = config
        self.average = copy.deepcopy(student).requires_grad_(False)
        self.num_updates = 0
        self.train()

    def train(self, mode: bool = True) -> Self:
        """As nn.Module's, but the average is in the mode that the parameters say."""
        return super().train(mode and self.config.mode == "train")

    @torch.no_grad()
    def forward(self, image_NCHW: Tensor) -> Any:
        """The averaged network's output."""
        return self.average(image_NCHW)

    def follow(self, student: nn.Module) -> None:
        """One update towards the student."""
        update_teacher(self.average, student, self.config, self.num_updates)
        self.num_updates += 1

    def get_extra_state(self) -> Tensor:
        """The number of updates, which is no buffer: to read one from a GPU is to wait for it."""
        return torch.tensor(self.num_updates)

    def set_extra_state(self, state: Tensor) -> None:
        """As `get_extra_state` gave it."""
        self.num_updates = int(state)


@torch.no_grad()
def update_teacher(
    teacher: nn.Module, student: nn.Module, config: TeacherConfig, num_updates: int
) -> None:
    """Teacher <- decay * teacher + (1 - decay) * student, in place.

    Args:
      num_updates: how many came before; with `config.warm_up` the first makes the teacher equal
        to its student.
    """
    decay = min(1 - 1 / (num_updates + 1), config.decay) if config.warm_up else config.decay
    pairs = list(zip(teacher.parameters(), student.parameters(), strict=True))
    if config.average_buffers:
        pairs += zip(teacher.buffers(), student.buffers(), strict=True)
    moving = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_(*map(list, zip(*moving, strict=True)), 1 - decay)
    for average, value in pairs:
        if not average.is_floating_point():
            average.copy_(value)

"""Pixel selection by how much two models disagree about each class (equations 5 and 6).

Student and teacher labels are int64 [N, H, W], in 0..C-1 where `valid_NHW` is True and anything
elsewhere. Nothing here has a gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.waiting import counts

SELECTIONS = {
    "all": ("consistent_NHW", "high_NHW", "low_NHW"),
    "consistent": ("consistent_NHW",),
    "consistent+low": ("consistent_NHW", "low_NHW"),
    "consistent+high": ("consistent_NHW", "high_NHW"),
}
"""The rows of Table 5: which parts of the pseudo-labels a student learns from."""


class PseudoLabelParts(NamedTuple):
    """Three bool [N, H, W] masks: disjoint, and together all valid pixels."""

    consistent_NHW: Tensor
    """Student and teacher agree."""
    high_NHW: Tensor
    """They do not, and the teacher's class is the more mismatched one."""
    low_NHW: Tensor
    """They do not, and the teacher's class is not the more mismatched one."""


def confusion_matrix(
    student_NHW: Tensor, teacher_NHW: Tensor, valid_NHW: Tensor, *, num_classes: int
) -> Tensor:
    """M of Figure 5: int64 [C, C] counts, student class by teacher class."""
    outside = num_classes * num_classes
    cell_NHW = torch.where(valid_NHW, student_NHW * num_classes + teacher_NHW, outside)
    return counts(cell_NHW, outside).unflatten(0, (num_classes, num_classes))


def class_mismatch_score(confusion_CC: Tensor, *, diagonal_prior: int = 0) -> Tensor:
    """I_q of equation 5: how much two models disagree about each class.

    Each of the two terms is 0 for a class that its model never predicts, where the paper's
    fraction is 0/0 (docs/paper.md, reading 1).

    Args:
      confusion_CC: int64 counts, student class by teacher class.
      diagonal_prior: added to each class's count of agreed pixels.

    Returns:
      float32 [C], each in [0, 2].
    """
    eye_CC = torch.eye(len(confusion_CC), dtype=torch.int64, device=confusion_CC.device)
    m_CC = confusion_CC + diagonal_prior * eye_CC
    agreed_C = m_CC.diagonal()
    by_student_C, by_teacher_C = m_CC.sum(dim=1), m_CC.sum(dim=0)
    return (by_student_C - agreed_C) / by_student_C.clamp(min=1) + (
        by_teacher_C - agreed_C
    ) / by_teacher_C.clamp(min=1)


def partition_pseudo_labels(
    student_NHW: Tensor, teacher_NHW: Tensor, score_C: Tensor, valid_NHW: Tensor
) -> PseudoLabelParts:
    """Equation 6 and its complements: a tie of two scores is low mismatched."""
    agree_NHW = student_NHW == teacher_NHW
    higher_CC = score_C[:, None] < score_C
    cell_NHW = (student_NHW * len(score_C) + teacher_NHW).where(valid_NHW, 0)
    higher_NHW = higher_CC.flatten()[cell_NHW]
    return PseudoLabelParts(
        consistent_NHW=valid_NHW & agree_NHW,
        high_NHW=valid_NHW & ~agree_NHW & higher_NHW,
        low_NHW=valid_NHW & ~agree_NHW & ~higher_NHW,
    )


def select(parts: PseudoLabelParts, selection: str) -> Tensor:
    """Bool [N, H, W], True for a pixel of the parts that `selection` names.

    Raises:
      ValueError: `selection` is not in `SELECTIONS`.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"unknown selection {selection!r}; known: {', '.join(SELECTIONS)}")
    masks = [getattr(parts, part) for part in SELECTIONS[selection]]
    return torch.stack(masks).any(dim=0)

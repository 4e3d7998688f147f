"""What STPG's pixel selection chose, for the log and for figures."""

import torch
from torch import Tensor

from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.mismatch import PseudoLabelParts
from pipeline.unlabeled import accuracy

IMAGES_SHOWN = 4
"""Of a batch, in the snapshot of a training."""


def selection_diagnostics(
    label_NHW: Tensor,
    truth_NHW: Tensor,
    valid_NHW: Tensor,
    parts: PseudoLabelParts,
    selected_NHW: Tensor,
    *,
    num_classes: int,
) -> dict[str, Tensor]:
    """What is selected, of which class, and how right it is where the truth is known.

    Args:
      label_NHW: the pseudo-labels that `parts` divides.
      selected_NHW: bool, what a student learns from.

    Returns:
      shares of the valid pixels, accuracies of the parts, and int64 numbers of selected
      pseudo-labels and of right ones among them by class [C].
    """
    num_valid = valid_NHW.sum().clamp(min=1)
    known_NHW = selected_NHW & (truth_NHW != IGNORE_INDEX)
    right_NHW = known_NHW & (label_NHW == truth_NHW)
    return {
        "share_consistent": parts.consistent_NHW.sum() / num_valid,
        "share_high": parts.high_NHW.sum() / num_valid,
        "share_selected": selected_NHW.sum() / num_valid,
        "accuracy_selected": accuracy(label_NHW, truth_NHW, selected_NHW),
        "accuracy_consistent": accuracy(label_NHW, truth_NHW, parts.consistent_NHW),
        "accuracy_high": accuracy(label_NHW, truth_NHW, parts.high_NHW),
        "accuracy_low": accuracy(label_NHW, truth_NHW, parts.low_NHW),
        "selected_by_class": label_NHW[known_NHW].bincount(minlength=num_classes),
        "right_selected_by_class": label_NHW[right_NHW].bincount(minlength=num_classes),
    }


def selection_pictures(
    image_N3HW: Tensor,
    valid_NHW: Tensor,
    truth_NHW: Tensor,
    student_NHW: Tensor,
    teacher_NHW: Tensor,
    parts: PseudoLabelParts,
    selected_NHW: Tensor,
) -> dict[str, Tensor]:
    """The first images of a batch, and what is said of their pixels, for a training's snapshot.

    Args:
      image_N3HW: in [0, 1].

    Returns:
      uint8, by the names of the arguments: images in 0..255, `part_NHW` 0 outside, 1 consistent,
      2 high, 3 low.
    """
    pixels = {
        "image_N3HW": (255 * image_N3HW).round(),
        "valid_NHW": valid_NHW,
        "truth_NHW": truth_NHW,
        "student_NHW": student_NHW,
        "teacher_NHW": teacher_NHW,
        "part_NHW": 1 * parts.consistent_NHW + 2 * parts.high_NHW + 3 * parts.low_NHW,
        "selected_NHW": selected_NHW,
    }
    return {name: value[:IMAGES_SHOWN].to(torch.uint8) for name, value in pixels.items()}

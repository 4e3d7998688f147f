"""The memory bank of section 3.3, "Proximity-Guided Sampling"."""

import torch
from torch import Tensor, nn

from pipeline.data.base import IGNORE_INDEX
from pipeline.losses.anchors import unit
from pipeline.losses.contrast import counted_or_0, group_by_class, top_per_class
from pipeline.waiting import counts, keep


class FeatureBank(nn.Module):
    """A first-in-first-out queue of features for each class, all of its state in buffers.

    A bank of capacity 0 stays empty.
    """

    bank_CQD: Tensor
    """float32; slots not in `filled_CQ` are 0."""
    pushed_C: Tensor
    """int64, features of the class pushed so far: the next one goes to this slot, modulo Q."""

    def __init__(self, num_classes: int, capacity: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("bank_CQD", torch.zeros(num_classes, capacity, dim))
        self.register_buffer("pushed_C", torch.zeros(num_classes, dtype=torch.int64))

    @property
    def filled_CQ(self) -> Tensor:
        """Bool, True for a slot that holds a feature."""
        slot_Q = torch.arange(self.bank_CQD.shape[1], device=self.pushed_C.device)
        return slot_Q < self.pushed_C[:, None]

    @property
    def mean_CD(self) -> Tensor:
        """Float32, mean of each class's features; 0 for a class that has none. Takes O(Q)."""
        return self.bank_CQD.sum(dim=1) / self.filled_CQ.sum(dim=1).clamp(min=1)[:, None]

    @torch.no_grad()
    def push(self, feature_PD: Tensor, label_P: Tensor) -> None:
        """Appends each feature to its class's queue, in the order given, and drops the oldest.

        Args:
          label_P: int64, 0..C-1; 255 for a feature that does not enter.
        """
        num_classes, capacity, _ = self.bank_CQD.shape
        if capacity == 0:
            return
        count_C = counts(label_P, num_classes)
        order_P, rank_P = group_by_class(label_P)
        label_P = label_P[order_P]
        # Of more than Q features of one class only the newest enter: no slot is written twice.
        newest_P = rank_P >= count_C[counted_or_0(label_P)] - capacity
        entering_P = newest_P & (label_P != IGNORE_INDEX)
        label_P, order_P, rank_P = keep(entering_P, label_P, order_P, rank_P)
        class_P, entering_P = counted_or_0(label_P), label_P != IGNORE_INDEX
        slot_P = (self.pushed_C[class_P] + rank_P) % capacity
        place_P = class_P * capacity + slot_P
        feature_PD = feature_PD[order_P].to(self.bank_CQD)
        # What does not enter writes what the first does that enters, or what is there already.
        bank_SD = self.bank_CQD.view(-1, self.bank_CQD.shape[-1])
        first_1 = (~entering_P).byte().argsort(stable=True)[:1]
        there_1D = bank_SD[place_P[first_1]]
        same_1D = torch.where(entering_P[first_1][:, None], feature_PD[first_1], there_1D)
        bank_SD[place_P.where(entering_P, place_P[first_1])] = torch.where(
            entering_P[:, None], feature_PD, same_1D
        )
        self.pushed_C += count_C


@torch.no_grad()
def closest_to_anchor(
    feature_PD: Tensor, label_P: Tensor, anchor_CD: Tensor, *, k: int
) -> tuple[Tensor, Tensor]:
    """The k features of each class with the highest cosine to the class's anchor.

    Args:
      label_P: int64, 0..C-1; 255 for a feature that is never taken.
      anchor_CD: unit vectors in the order of the classes.

    Returns:
      indices and labels as of `top_per_class`: class by class, the closest last, so that it is the
      newest of a queue.
    """
    cosine_P = (unit(feature_PD) * anchor_CD[counted_or_0(label_P)]).sum(dim=1)
    index_K, label_K = top_per_class(cosine_P, label_P, k=k, num_classes=len(anchor_CD))
    return index_K.flip(0), label_K.flip(0)

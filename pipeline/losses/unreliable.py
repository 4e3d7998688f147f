"""Learning from unreliable pixels (U2PL, Wang et al., CVPR 2022): entropy, keys, contrast."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.losses.anchors import unit
from pipeline.losses.contrast import group_by_class
from pipeline.losses.segmentation import hard_cross_entropy


def entropy(prob_NCHW: Tensor) -> Tensor:
    """[N, H, W], in nats."""
    return -(prob_NCHW * prob_NCHW.clamp(min=1e-10).log()).sum(dim=1)


def certain_part(entropy_NHW: Tensor, valid_NHW: Tensor, *, share: float) -> Tensor:
    """Bool [N, H, W]: the valid pixels of least entropy, this share of them."""
    certain_NHW = torch.zeros_like(valid_NHW)
    order_P = entropy_NHW[valid_NHW].argsort(stable=True)
    certain_P = torch.zeros_like(order_P, dtype=torch.bool)
    certain_P[order_P[: round(share * len(order_P))]] = True
    certain_NHW[valid_NHW] = certain_P
    return certain_NHW


def reliable_cross_entropy(
    logits_NCHW: Tensor, label_NHW: Tensor, reliable_NHW: Tensor, num_pixels: Tensor
) -> Tensor:
    """Mean cross-entropy of the reliable pixels, over the share that they are of all.

    Args:
      num_pixels: all there are; the fewer of them are reliable, the more each counts.
    """
    mean = hard_cross_entropy(logits_NCHW, label_NHW, reliable_NHW)
    return mean * num_pixels / reliable_NHW.sum().clamp(min=1)


def rank_of_class(prob_PC: Tensor) -> Tensor:
    """Int64 [P, C]: 0 for a pixel's likeliest class, C - 1 for the unlikeliest."""
    return prob_PC.argsort(dim=1, descending=True, stable=True).argsort(dim=1, stable=True)


def negative_keys(
    prob_PC: Tensor,
    label_P: Tensor,
    is_true_P: Tensor,
    unreliable_P: Tensor,
    *,
    low_rank: int,
    high_rank: int,
) -> Tensor:
    """Bool [P, C]: the classes that a pixel is a negative of (equations 10 to 12).

    A labelled pixel is one of those wrong classes that are among its `low_rank` likeliest; an
    unreliable unlabelled one of those whose rank is from `low_rank` to below `high_rank`: neither
    likely enough to be its own, nor so unlikely that it teaches nothing.

    Args:
      label_P: int64, 0..C-1; read where `is_true_P` only.
      unreliable_P: bool, of unlabelled pixels.
    """
    rank_PC = rank_of_class(prob_PC)
    wrong_PC = F.one_hot(label_P.where(is_true_P, 0), prob_PC.shape[1]) == 0
    confusable_PC = is_true_P[:, None] & wrong_PC & (rank_PC < low_rank)
    unlikely_PC = unreliable_P[:, None] & (rank_PC >= low_rank) & (rank_PC < high_rank)
    return confusable_PC | unlikely_PC


def contrast_with_negatives(
    feature_PD: Tensor,
    label_P: Tensor,
    positive_CD: Tensor,
    bank_CQD: Tensor,
    filled_C: Tensor,
    *,
    queries: int,
    negatives: int,
    tau: float,
    generator: torch.Generator,
) -> Tensor:
    """InfoNCE of random queries of each class, its prototype, and random negatives (equation 7).

    Args:
      feature_PD: the student's features that may be queries, of any length.
      label_P: int64, their classes.
      positive_CD: each class's prototype; gets no gradient.
      bank_CQD: its negatives, of which the first `filled_C` hold a feature.
      queries: of each class, drawn with repetition.
      negatives: of each query, drawn with repetition.

    Returns:
      scalar, float32 or wider: the mean over the classes that have queries and negatives of the
      mean over their queries; 0 where there is none.
    """
    num_classes = len(bank_CQD)
    count_C = torch.bincount(label_P, minlength=num_classes)
    class_K = ((count_C > 0) & (filled_C > 0)).nonzero().flatten()
    if not len(class_K):
        return feature_PD.sum() * 0
    drawn = torch.rand(len(class_K), queries, 1 + negatives, generator=generator).to(
        positive_CD.device
    )
    order_P, _ = group_by_class(label_P)
    first_C = count_C.cumsum(0) - count_C
    place_KA = (drawn[..., 0] * count_C[class_K, None]).long()
    query_KAD = unit(feature_PD)[order_P[first_C[class_K, None] + place_KA]]
    slot_KAB = (drawn[..., 1:] * filled_C[class_K, None, None]).long()
    negative_KABD = unit(bank_CQD[class_K[:, None, None], slot_KAB].detach())
    positive_K1D = unit(positive_CD[class_K].detach())[:, None]
    logits_KAB = torch.cat(
        [
            (query_KAD * positive_K1D).sum(dim=-1, keepdim=True),
            (negative_KABD * query_KAD[:, :, None]).sum(dim=-1),
        ],
        dim=-1,
    )
    return -(logits_KAB / tau).log_softmax(dim=-1)[..., 0].mean()

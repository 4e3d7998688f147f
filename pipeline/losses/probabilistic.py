"""Contrast of Gaussians instead of points (PRCL, Xie et al., AAAI 2023), and its other loss.

A pixel's feature is a mean and a variance for each of D dimensions, independent of each other.
Dimensions beside the usual ones: K classes with queries, A queries of a class, X = K A, B negatives
of a query.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pipeline.losses.anchors import unit
from pipeline.losses.contrast import group_by_class
from pipeline.losses.segmentation import PseudoLabel, weighted_cross_entropy

VALUES = 2**21
"""What is compared at once, of queries by negatives by dimensions; 8 MiB in float32."""


class Gaussians(NamedTuple):
    """Means and variances of the same shape [..., D]."""

    mean: Tensor
    variance: Tensor
    """More than 0."""

    def at(self, *index: Any) -> "Gaussians":
        """Those that an index of either tensor picks."""
        return Gaussians(self.mean[index], self.variance[index])

    def directed(self) -> "Gaussians":
        """The same with means at length 1."""
        return Gaussians(unit(self.mean), self.variance)

    def detach(self) -> "Gaussians":
        """The same without gradient."""
        return Gaussians(self.mean.detach(), self.variance.detach())

    def split(self, size: int) -> list["Gaussians"]:
        """In parts of so many."""
        parts = zip(self.mean.split(size), self.variance.split(size), strict=True)
        return [Gaussians(*part) for part in parts]


def share_weighted_cross_entropy(
    logits_NCHW: Tensor, taught: PseudoLabel, valid_NHW: Tensor, *, threshold: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of all pixels, each weighted by its image's share of confident ones.

    Returns:
      scalar, float32 or wider: their mean over the valid pixels; float32 [N], the shares, of the
      valid pixels of each image.
    """
    confident_NHW = (taught.confidence_NHW >= threshold) & valid_NHW
    share_N = confident_NHW.sum(dim=(1, 2)) / valid_NHW.sum(dim=(1, 2)).clamp(min=1)
    weight_NHW = share_N[:, None, None].expand(valid_NHW.shape)
    return weighted_cross_entropy(logits_NCHW, taught.label_NHW, weight_NHW, valid_NHW), share_N


def mutual_likelihood(one: Gaussians, other: Gaussians) -> Tensor:
    """How likely both are one point: -((m - m')^2 / (v + v') + log(v + v')) / 2, averaged over D.

    The logarithm of the integral of the product of both densities, by D and without its constant.

    Args:
      one, other: [..., D], of shapes that broadcast; means at length 1.

    Returns:
      [...]; at equal means and variances v it is -log(2 v) / 2.
    """
    variance = one.variance + other.variance
    distance = (one.mean - other.mean).square() / variance
    return -0.5 * (distance + variance.log()).mean(dim=-1)


@torch.no_grad()
def prototypes(feature_PD: Gaussians, label_P: Tensor, *, num_classes: int) -> Gaussians:
    """The product of the densities of each class's features, a Gaussian again: [C, D].

    Its precision 1 / v is the sum of theirs, and its mean theirs weighted by precision: a feature
    counts the more, the surer it is. The variance falls with the number of features.

    Args:
      feature_PD: float32 or wider, means of any length.
      label_P: int64, 0..C-1.

    Returns:
      for a class without a feature, mean 0 and variance 1.
    """
    precision_PD = 1 / feature_PD.variance
    zero_CD = precision_PD.new_zeros(num_classes, precision_PD.shape[1])
    total_CD = zero_CD.index_add(0, label_P, precision_PD)
    weighted_CD = zero_CD.index_add(0, label_P, precision_PD * feature_PD.mean)
    variance_CD = 1 / total_CD.where(total_CD > 0, 1)
    return Gaussians(variance_CD * weighted_CD, variance_CD)


def probabilistic_contrast(
    feature_PD: Gaussians,
    label_P: Tensor,
    hard_P: Tensor,
    *,
    num_classes: int,
    queries: int,
    negatives: int,
    tau: float,
    generator: torch.Generator,
) -> Tensor:
    """InfoNCE of hard pixels, with mutual likelihood for a similarity.

    A query is a random hard pixel; its positive is its class's prototype, its negatives are random
    pixels of other classes, drawn the oftener, the more a class's prototype is like its own. All
    are drawn with repetition; gradient reaches queries only.

    Args:
      feature_PD: float32 or wider, means of any length.
      label_P: int64, 0..C-1.
      hard_P: bool, the pixels that may be queries.
      queries: of each class.
      negatives: of each query.

    Returns:
      scalar, float32 or wider: the sum over the classes of the mean over their queries, by the
      number of classes that have a pixel; 0 with a zero gradient where none has a query or there
      is but one class.
    """
    fixed_PD = feature_PD.detach()
    prototype_CD = prototypes(fixed_PD, label_P, num_classes=num_classes).directed()
    hard_H = hard_P.nonzero().flatten()
    count_C = torch.bincount(label_P, minlength=num_classes)
    hard_C = torch.bincount(label_P[hard_H], minlength=num_classes)
    num_present = (count_C > 0).sum()
    class_K = ((hard_C > 0) & (num_present > 1)).nonzero().flatten()
    if not len(class_K):
        return (feature_PD.mean.sum() + feature_PD.variance.sum()) * 0
    first_KA, *drawn_KAB = draws(len(class_K), queries, negatives, generator, label_P.device)
    order_P, _ = group_by_class(label_P)
    order_H, _ = group_by_class(label_P[hard_H])
    query_KA = members(class_K[:, None].expand_as(first_KA), first_KA, hard_H[order_H], hard_C)
    likely_KC = negative_classes(prototype_CD, count_C > 0, class_K, tau=tau)
    negative_KAB = members(categorical(likely_KC, drawn_KAB[0]), drawn_KAB[1], order_P, count_C)
    query_XD = feature_PD.at(query_KA.flatten()).directed()
    positive_XD = prototype_CD.at(class_K.repeat_interleave(queries))
    fixed_PD = fixed_PD.directed()
    # Some at a time, and anew in the backward pass: all have K x A x B x D values.
    some = max(1, VALUES // (negatives * fixed_PD.mean.shape[1]))
    losses = [
        checkpoint(info_nce, *each, fixed_PD, tau, use_reentrant=False, preserve_rng_state=False)
        for each in zip(
            query_XD.split(some),
            positive_XD.split(some),
            negative_KAB.flatten(0, 1).split(some),
            strict=True,
        )
    ]
    return torch.cat(losses).sum() / (queries * num_present)


def info_nce(
    query_XD: Gaussians,
    positive_XD: Gaussians,
    negative_XB: Tensor,
    feature_PD: Gaussians,
    tau: float,
) -> Tensor:
    """[X]: -log of each query's positive's share; all means at length 1.

    Args:
      negative_XB: int64, which of `feature_PD` are whose negatives.
    """
    positive_X = mutual_likelihood(query_XD, positive_XD)
    query_X1D, negative_XBD = query_XD.at(slice(None), None), feature_PD.at(negative_XB)
    others_XB = mutual_likelihood(query_X1D, negative_XBD)
    logits_XB = torch.cat([positive_X[:, None], others_XB], dim=1) / tau
    return -logits_XB.log_softmax(dim=1)[:, 0]


def negative_classes(
    prototype_CD: Gaussians, present_C: Tensor, class_K: Tensor, *, tau: float
) -> Tensor:
    """[K, C]: the probability that a negative of each of `class_K` is of each class.

    The softmax of the mutual likelihood of the prototypes by tau, over the other present classes.
    """
    score_KC = mutual_likelihood(prototype_CD.at(class_K, None), prototype_CD)
    index_C = torch.arange(len(present_C), device=class_K.device)
    other_KC = present_C & (index_C != class_K[:, None])
    return (score_KC / tau).masked_fill(~other_KC, -torch.inf).softmax(dim=1)


def draws(
    num_classes: int, queries: int, negatives: int, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Uniform in [0, 1): [K, A] for the queries, [K, A, B] for negatives' classes and pixels."""
    drawn = torch.rand(num_classes, queries, 1 + 2 * negatives, generator=generator).to(device)
    first, *rest = drawn.split([1, negatives, negatives], dim=-1)
    return first.squeeze(-1), *rest


def categorical(prob_KC: Tensor, drawn_KAB: Tensor) -> Tensor:
    """Int64 [K, A, B]: a class for each uniform number, as often as each row's probability says."""
    bound_KC = prob_KC.cumsum(dim=1)
    bound_KC = bound_KC / bound_KC[:, -1:]  # 1 at the end, so that no number lies beyond it
    drawn_KX = drawn_KAB.flatten(1).to(bound_KC.dtype)
    return torch.searchsorted(bound_KC, drawn_KX, right=True).view(drawn_KAB.shape)


def members(class_X: Tensor, drawn_X: Tensor, order_P: Tensor, count_C: Tensor) -> Tensor:
    """Int64 [...]: a pixel of each class asked for, by a uniform number.

    Args:
      class_X, drawn_X: of one shape [...].
      order_P: the pixels, class by class.
      count_C: how many each class has.
    """
    first_C = count_C.cumsum(0) - count_C
    return order_P[first_C[class_X] + (drawn_X * count_C[class_X]).long()]

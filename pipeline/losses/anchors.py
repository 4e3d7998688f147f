"""Fixed anchors, class prototypes, and which anchor belongs to which class (equations 12 to 14)."""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pipeline.precision import wide
from pipeline.typed import InputError
from pipeline.waiting import counts


def unit(feature_PD: Tensor) -> Tensor:
    """The features at length 1 along their last dimension, float32 or wider."""
    return F.normalize(wide(feature_PD), dim=-1)


def class_mean(value_PD: Tensor, label_P: Tensor, *, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean of the rows of each class.

    Args:
      label_P: int64; a row of another label than 0..C-1 does not count.

    Returns:
      means [C, D], 0 for a class without a row; bool [C], True for a class with one.
    """
    place_P = label_P.where((label_P >= 0) & (label_P < num_classes), num_classes)
    total_CD = value_PD.new_zeros(num_classes + 1, value_PD.shape[1])
    total_CD = total_CD.index_add(0, place_P, value_PD)[:num_classes]
    count_C = counts(label_P, num_classes)
    return total_CD / count_C.clamp(min=1)[:, None], count_C > 0


def anchor_loss(anchor_CD: Tensor, *, tau: float) -> Tensor:
    """L_Anchor of equation 12: small where the anchors are far from each other.

    It means something for unit vectors only: its minimum over all vectors is log C, with every
    anchor at the origin (docs/paper.md, reading 5).
    """
    return (anchor_CD @ anchor_CD.T / tau).logsumexp(dim=1).mean()


def optimize_anchors(
    num_classes: int, dim: int, *, tau: float, generator: torch.Generator, steps: int = 200
) -> Tensor:
    """Anchors that minimise equation 12 on the unit sphere, from a random start.

    Args:
      steps: at most this many iterations of L-BFGS, which stops by itself when it has converged.

    Returns:
      float32 [C, D], of length 1. Up to a rotation they are `simplex_anchors` where C <= D + 1.
    """
    start_CD = torch.randn(num_classes, dim, generator=generator, dtype=torch.float64)
    free_CD = start_CD.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [free_CD],
        max_iter=steps,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = anchor_loss(unit(free_CD), tau=tau)
        loss.backward()
        return loss

    optimizer.step(closure)
    return unit(free_CD.detach()).float()


def simplex_anchors(num_classes: int, dim: int, *, generator: torch.Generator) -> Tensor:
    """The exact minimum of equation 12 on the unit sphere, for any tau, turned at random.

    The anchors are the corners of a regular simplex: every two have the cosine -1 / (C - 1), the
    least that the cosines of C vectors can have on average.

    Returns:
      float32 [C, D], of length 1.

    Raises:
      InputError: C > D + 1, where no such simplex exists.
    """
    if num_classes > dim + 1:
        raise InputError(
            f"{num_classes} simplex anchors in {dim} dimensions; expected at least "
            f"{num_classes - 1}: raise `dim`, or set `anchors: optimized`"
        )
    centred = torch.eye(num_classes, dtype=torch.float64) - 1 / num_classes
    corners, _ = torch.linalg.qr(centred[:, 1:])
    gaussian = torch.randn(dim, num_classes - 1, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(gaussian)
    return unit(corners @ rotation.T).float()


@torch.no_grad()
def batch_prototypes(
    feature_PD: Tensor, label_P: Tensor, *, num_classes: int
) -> tuple[Tensor, Tensor]:
    """The batch's own prototypes: the mean of each class's features, taken at length 1.

    Returns:
      prototypes [C, D], float32 or wider, of length 1 at most; bool [C], True for a class of the
      batch.
    """
    return class_mean(unit(feature_PD), label_P, num_classes=num_classes)


def update_prototypes(
    prototype_CD: Tensor,
    seen_C: Tensor,
    batch_CD: Tensor,
    present_C: Tensor,
    *,
    alpha: float,
    normalize: bool = False,
) -> tuple[Tensor, Tensor]:
    """Equation 13: a moving average of the batches' prototypes (docs/paper.md, reading 9).

    A class's first prototype is that of the first batch with the class; a batch without the class
    leaves it as it is.

    Args:
      seen_C: bool, True for a class that has a prototype.
      batch_CD: the batch's prototypes, of the classes in `present_C`.
      normalize: bring the prototypes that change back to length 1.

    Returns:
      new prototypes [C, D] and new `seen_C`; the arguments are left as they are.
    """
    average_CD = alpha * prototype_CD + (1 - alpha) * batch_CD
    moved_CD = torch.where(seen_C[:, None], average_CD, batch_CD)
    if normalize:
        moved_CD = unit(moved_CD)
    return torch.where(present_C[:, None], moved_CD, prototype_CD), seen_C | present_C


@torch.no_grad()
def assign_anchors(anchor_CD: Tensor, prototype_CD: Tensor, seen_C: Tensor) -> Tensor:
    """Sigma of equation 14: the anchor of each class, for the least sum of distances.

    A class that has no prototype yet costs nothing anywhere, and gets an anchor that is left over.

    Returns:
      int64 [C], a permutation: `anchor_CD[sigma_C]` is in the order of the classes.
    """
    # On the CPU, where the assignment is solved anyway: MPS has no float64.
    distance_CC = torch.cdist(prototype_CD.cpu().double(), anchor_CD.cpu().double())
    cost_CC = distance_CC.masked_fill(~seen_C.cpu()[:, None], 0)
    _, sigma_C = linear_sum_assignment(cost_CC.numpy())
    return torch.from_numpy(sigma_C).to(anchor_CD.device)

"""ClassMix (Olsson et al., WACV 2021; arXiv:2007.07936): half of an image's classes on its partner.

`pipeline.augment.cutmix.mix` does the pasting.
"""

import torch
from torch import Tensor


def class_mask(
    label_NHW: Tensor, valid_NHW: Tensor, *, num_classes: int, generator: torch.Generator
) -> Tensor:
    """Which pixels the partner gives: those of all classes but a random half of each image's.

    Of an odd number of classes the image keeps the smaller half: of a single one, nothing. Padding
    is no class, and is always the partner's.

    Args:
      label_NHW: int64, what somebody says of the images; 0..C-1 where valid.
      valid_NHW: bool, False for padding.

    Returns:
      bool [N, H, W], True where the partner's pixel is taken.
    """
    label_NP, valid_NP = label_NHW.flatten(1), valid_NHW.flatten(1)
    shape = (len(label_NP), num_classes + 1)
    present_NC = torch.zeros(shape, dtype=torch.bool, device=label_NP.device)
    present_NC = present_NC.scatter(1, label_NP.where(valid_NP, num_classes), True)[:, :-1]
    priority_NC = torch.rand(present_NC.shape, generator=generator).to(label_NP.device)
    order_NC = priority_NC.masked_fill(~present_NC, -1).argsort(dim=1, descending=True)
    rank_NC = order_NC.argsort(dim=1)
    kept_NC = rank_NC < present_NC.sum(dim=1, keepdim=True) // 2
    own_NP = kept_NC.gather(1, label_NP.where(valid_NP, 0)) & valid_NP
    return ~own_NP.unflatten(1, label_NHW.shape[1:])

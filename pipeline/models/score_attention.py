"""PseudoSeg's second decoder: scores of classes, spread to alike places by self-attention."""

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pipeline.precision import wide


class ScoreAttention(nn.Module):
    """Logits of maps that show classes, with the help of features.

    Each place gets the mean of all places' scores, weighted by how well its query and their keys
    agree, beside its own. A 1x1 convolution, batch norm without scale, and a bias make logits of
    them. Only its own parameters learn: no gradient reaches scores or features.

    Scores may lack the first class, the background: it gets what they leave of their limit, 2.
    """

    def __init__(self, inputs: int, dim: int, num_classes: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(inputs, dim, 1, bias=False)
        self.key = nn.Conv2d(inputs, dim, 1, bias=False)
        self.mix = nn.Conv2d(num_classes, num_classes, 1, bias=False)
        for layer in (self.query, self.key, self.mix):
            nn.init.xavier_uniform_(layer.weight)
        # Always with the batch's own statistics, so nothing has to be remembered.
        self.norm = nn.BatchNorm2d(num_classes, eps=1e-3, affine=False, track_running_stats=False)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, feature_NDHW: Tensor, score_NCHW: Tensor, valid_NHW: Tensor) -> Tensor:
        """Logits [N, C, H, W].

        Args:
          score_NCHW: in [0, 1], of all classes or of all but the first.
          valid_NHW: bool; valid places attend to valid ones, the others to all alike.
        """
        feature_NDHW, score_NCHW = feature_NDHW.detach(), score_NCHW.detach()
        query_NDP, key_NDP = (of(feature_NDHW).flatten(2) for of in (self.query, self.key))
        with torch.autocast(feature_NDHW.device.type, enabled=False):  # float16 could overflow
            agreement_NPP = wide(query_NDP).mT @ wide(key_NDP) / math.sqrt(query_NDP.shape[1])
        valid_NP = valid_NHW.flatten(1)
        both_NPP = valid_NP[:, :, None] & valid_NP[:, None]
        # Finite, so that a place without a valid one gives no nan.
        agreement_NPP = agreement_NPP.masked_fill(~both_NPP, -1e9)
        spread_NCP = score_NCHW.flatten(2) @ agreement_NPP.softmax(dim=-1).mT
        score_NCHW = score_NCHW + spread_NCP.view_as(score_NCHW)
        if score_NCHW.shape[1] < self.mix.in_channels:
            rest_N1HW = 2 - score_NCHW.amax(dim=1, keepdim=True)
            score_NCHW = torch.cat([rest_N1HW, score_NCHW], dim=1)
        return self.norm(self.mix(score_NCHW)) + self.bias[:, None, None]


@contextlib.contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Inside, the module is in eval mode; afterwards in the mode that it was in."""
    mode = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(mode)

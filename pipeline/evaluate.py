"""Prediction of whole images or by sliding window, counted over a validation set."""

import math
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.augment.geometric import FILL
from pipeline.config import EvaluationConfig
from pipeline.data.base import Prepared
from pipeline.metrics import confusion_matrix
from pipeline.progress import progress
from pipeline.runtime import Runtime

MULTIPLE = 32
"""The largest output stride."""


@torch.inference_mode()
def evaluate(
    network: nn.Module, data: Prepared, config: EvaluationConfig, runtime: Runtime, *, title: str
) -> np.ndarray:
    """The confusion matrix over `data.val` at the images' prepared size.

    Single scale, no flip, float32 on every device; pixels labelled 255 count nowhere.

    Returns:
      int64 [C, C], row = true class, column = predicted class.
    """
    network = network.to(runtime.device, memory_format=runtime.memory_format).eval()
    total_CC = np.zeros((len(data.classes), len(data.classes)), np.int64)
    for item in progress(data.val, title, unit="image"):
        image = torch.tensor(data.read_image(item)).permute(2, 0, 1)[None]
        image = image.to(runtime.device).float() / 255
        prob_CHW = predict(network, image, config)
        prediction_HW = prob_CHW.argmax(dim=0).cpu().numpy()
        total_CC += confusion_matrix(
            data.read_mask(item), prediction_HW, num_classes=len(data.classes)
        )
    return total_CC


def predict(network: nn.Module, image_1CHW: Tensor, config: EvaluationConfig) -> Tensor:
    """Class probabilities [C, H, W] of one image in [0, 1], as `config.mode` says.

    A whole image is padded to whole strides, so that every pixel lies in its feature cell as in a
    training crop.
    """
    if config.mode == "whole":
        height, width = image_1CHW.shape[-2:]
        image_1CHW = pad(
            image_1CHW, -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE
        )
        return network(image_1CHW).logits[0, :, :height, :width].float().softmax(dim=0)
    return predict_sliding(network, image_1CHW, config.window, config.stride)


def predict_sliding(network: nn.Module, image_1CHW: Tensor, window: int, stride: float) -> Tensor:
    """Mean of the class probabilities of all windows that cover a pixel.

    Windows step by ceil(stride * window); the last ones end at the image's border. An image
    smaller than the window is padded on the right and below, and the padding cut off again.

    Returns:
      float32 [C, H, W].
    """
    height, width = image_1CHW.shape[-2:]
    image_1CHW = pad(image_1CHW, max(window, height), max(window, width))
    total, count = 0, image_1CHW.new_zeros(image_1CHW.shape[-2:])
    for top, left in product(
        window_starts(image_1CHW.shape[-2], window, stride),
        window_starts(image_1CHW.shape[-1], window, stride),
    ):
        rows, columns = slice(top, top + window), slice(left, left + window)
        prob_CHW = network(image_1CHW[..., rows, columns]).logits[0].float().softmax(dim=0)
        if isinstance(total, int):
            total = prob_CHW.new_zeros((len(prob_CHW), *count.shape))
        total[:, rows, columns] += prob_CHW
        count[rows, columns] += 1
    return (total / count)[:, :height, :width]


def pad(image_1CHW: Tensor, height: int, width: int) -> Tensor:
    """The image at the upper left of one of this size, the rest as beyond a training crop."""
    size = (*image_1CHW.shape[:2], height, width)
    padded = image_1CHW.new_tensor(FILL).div(255)[:, None, None].expand(size).clone()
    padded[..., : image_1CHW.shape[-2], : image_1CHW.shape[-1]] = image_1CHW
    return padded


def window_starts(length: int, window: int, stride: float) -> list[int]:
    """Where the windows over `length` >= window pixels begin."""
    step = math.ceil(stride * window)
    starts = list(range(0, length - window, step))
    return [*starts, length - window]

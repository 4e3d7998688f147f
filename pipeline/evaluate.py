"""Prediction of whole images or by sliding window, counted over a validation set."""

import math
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.augment.geometric import FILL
from pipeline.checkpoint import load
from pipeline.config import EvaluationConfig, NetworkConfig
from pipeline.data.base import ClassTable, Item, Prepared
from pipeline.metrics import CONFIDENCE_BINS, calibration, confusion_matrix
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.progress import progress
from pipeline.runtime import Runtime, is_out_of_memory
from pipeline.typed import InputError, from_mapping

MULTIPLE = 32
"""The largest output stride."""


class Evaluation(NamedTuple):
    """What was counted over a validation set."""

    confusion_CC: np.ndarray
    """int64, row = true class, column = predicted class."""
    counts_I3C: np.ndarray
    """int32, for each image and class the pixels that are it and predicted so, that are it, and
    that are predicted so."""
    calibration_3B: np.ndarray
    """float64, for each bin of confidence (of equal width, 0 to 1) the pixels, those of them that
    are right, and the sum of their confidences."""


@torch.inference_mode()
def evaluate(
    network: nn.Module, data: Prepared, config: EvaluationConfig, runtime: Runtime, *, title: str
) -> Evaluation:
    """Counts over `data.val` at the images' prepared size.

    Single scale, no flip, float32 on every device; pixels labelled 255 count nowhere.
    """
    network = network.to(runtime.device, memory_format=runtime.memory_format).eval()
    num_classes = len(data.classes)
    confusion_CC = np.zeros((num_classes, num_classes), np.int64)
    counts_I3C = np.zeros((len(data.val), 3, num_classes), np.int32)
    calibration_3B = np.zeros((3, CONFIDENCE_BINS))
    for i, item in enumerate(progress(data.val, title, unit="image")):
        with runtime.enough_memory(f"{title}: {item.id}", less_memory(data.name)):
            prob_CHW = predict(network, image_of(data, item, runtime), config)
            confidence_HW, prediction_HW = (x.cpu().numpy() for x in prob_CHW.max(dim=0))
        truth_HW = data.read_mask(item)
        mine_CC = confusion_matrix(truth_HW, prediction_HW, num_classes=num_classes)
        confusion_CC += mine_CC
        counts_I3C[i] = mine_CC.diagonal(), mine_CC.sum(axis=1), mine_CC.sum(axis=0)
        calibration_3B += calibration(truth_HW, prediction_HW, confidence_HW)
    return Evaluation(confusion_CC, counts_I3C, calibration_3B)


def less_memory(name: str) -> str:
    """What to change where an image of data set `name` is too large for a pass."""
    return (
        f"Set $STPG_DEVICE=cpu; or in evaluation.{name} `mode: sliding`, or a smaller `window`, "
        "with which all its runs are evaluated anew"
    )


def load_network(path: Path) -> DeepLabV3Plus:
    """The network of a model file that a training wrote."""
    return load_model(path)[0]


def load_model(path: Path) -> tuple[DeepLabV3Plus, dict[str, Any]]:
    """The network of a model file that a training wrote, and what the file says of it.

    Raises:
      FileNotFoundError: it is missing.
      InputError: another kind of file.
    """
    model = load(path)
    try:
        config = from_mapping(NetworkConfig, model["config"]["recipe"]["network"], "network")
        names = [entry["name"] for entry in model["classes"]]
        colors = [tuple(entry["color"]) for entry in model["classes"]]
        ClassTable(tuple(names), tuple(colors))
        network = DeepLabV3Plus(config, len(names))
        network.load_state_dict(model["network"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: not a model of this code ({type(error).__name__}: {reason:.300}); expected a "
            "model.pt that it trained, as `dvc repro train@RUN` makes below runs/"
        ) from error
    return network, model


def image_of(data: Prepared, item: Item, runtime: Runtime) -> Tensor:
    """One image as networks take it: float32 [1, 3, H, W] in [0, 1], on the runtime's device."""
    image = torch.tensor(data.read_image(item)).permute(2, 0, 1)[None]
    return image.to(runtime.device).float() / 255


def predict(network: nn.Module, image_1CHW: Tensor, config: EvaluationConfig) -> Tensor:
    """Class probabilities [C, H, W] of one image in [0, 1], as `config.mode` says.

    A whole image is padded to whole strides.
    """
    if config.mode == "whole":
        height, width = image_1CHW.shape[-2:]
        logits_CHW = network(to_whole_strides(image_1CHW)).logits[0, :, :height, :width]
        return logits_CHW.float().softmax(dim=0)
    return predict_sliding(network, image_1CHW, config.window, config.stride)


def to_whole_strides(image_NCHW: Tensor) -> Tensor:
    """Padded, so that every pixel lies in its feature cell as in a training crop."""
    return pad(image_NCHW, *(-(-side // MULTIPLE) * MULTIPLE for side in image_NCHW.shape[-2:]))


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
    return total.div_(count)[:, :height, :width]


def pad(image_NCHW: Tensor, height: int, width: int) -> Tensor:
    """Images at the upper left of ones of this size, the rest as beyond a training crop."""
    size = (*image_NCHW.shape[:2], height, width)
    padded = image_NCHW.new_tensor(FILL).div(255)[:, None, None].expand(size).clone()
    padded[..., : image_NCHW.shape[-2], : image_NCHW.shape[-1]] = image_NCHW
    return padded


def window_starts(length: int, window: int, stride: float) -> list[int]:
    """Where the windows over `length` >= window pixels begin."""
    step = math.ceil(stride * window)
    starts = list(range(0, length - window, step))
    return [*starts, length - window]

"""Predictions of a trained network for any images, as pictures."""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pipeline.artifacts import writing_whole
from pipeline.config import EvaluationConfig
from pipeline.data.prepare import shrink
from pipeline.evaluate import predict
from pipeline.pictures import (
    SUFFIXES,
    confidence_picture,
    index_picture,
    overlay,
    read_rgb,
)
from pipeline.progress import progress
from pipeline.runtime import Runtime
from pipeline.typed import InputError

MOST_WHOLE = 2_000_000
"""Pixels of an image that passes whole; larger ones pass by windows."""
WINDOW = EvaluationConfig("sliding", window=1024)
KINDS = ("index", "overlay", "confidence")


@dataclass(frozen=True)
class Views:
    """Which views of an image are averaged."""

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    """Each view and its mirror image."""

    def check(self, key: str) -> None:
        """Scales that leave pixels."""
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise InputError(f"{key}: {list(self.scales)}; expected numbers from 0.1 to 10")


def found_images(given: Sequence[str]) -> dict[PurePath, Path]:
    """Image files by the name that predictions get: the path below the folder that was given.

    Args:
      given: files, folders (searched to any depth) and patterns.

    Raises:
      InputError: something has no image, or two images would have one name.
    """
    found: dict[PurePath, Path] = {}
    for argument in given:
        pairs = sorted(images_of(argument))
        if not pairs:
            raise InputError(
                f"{argument}: no image there; expected files, folders or patterns of "
                f"{', '.join(SUFFIXES)}"
            )
        for name, path in pairs:
            if found.setdefault(name, path).resolve() != path.resolve():
                raise InputError(f"{path}: {found[name]} is called {name} too; predict them apart")
    return found


def images_of(argument: str) -> Iterator[tuple[PurePath, Path]]:
    """Names and files of one argument; a name has no suffix."""
    path = Path(argument)
    if path.is_dir():
        for file in path.rglob("*"):
            if file.is_file() and file.suffix.lower() in SUFFIXES:
                yield file.relative_to(path).with_suffix(""), file
        return
    for file in [path] if path.is_file() else map(Path, glob.glob(argument, recursive=True)):
        if file.is_file() and file.suffix.lower() in SUFFIXES:
            yield PurePath(file.stem), file


@torch.inference_mode()
def probabilities(
    network: nn.Module, image_1CHW: Tensor, config: EvaluationConfig | None, views: Views
) -> Tensor:
    """Mean of the class probabilities over the views of an image in [0, 1].

    Args:
      config: whole or by windows; None: by the image's size.

    Returns:
      float32 [C, H, W].
    """
    height, width = image_1CHW.shape[-2:]
    total, number = 0, 0
    for scale in views.scales:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        scaled = resized(image_1CHW, size)
        how = config or (WINDOW if size[0] * size[1] > MOST_WHOLE else EvaluationConfig("whole"))
        for mirror in (False, True)[: 1 + views.flip]:
            prob_CHW = predict(network, scaled.flip(-1) if mirror else scaled, how)
            prob_CHW = prob_CHW.flip(-1) if mirror else prob_CHW
            total = total + resized(prob_CHW[None], (height, width))[0]
            number += 1
    return total / number


def resized(value_1CHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, smoothed where it shrinks."""
    if value_1CHW.shape[-2:] == size:
        return value_1CHW
    return F.interpolate(value_1CHW, size, mode="bilinear", align_corners=False, antialias=True)


def predict_all(
    network: nn.Module,
    images: dict[PurePath, Path],
    out: Path,
    colors: list[list[int]],
    *,
    config: EvaluationConfig | None,
    views: Views,
    height: int | None,
    runtime: Runtime,
) -> None:
    """Writes out/index, out/overlay and out/confidence, a PNG an image in each, of its size.

    Args:
      height: to which higher images are shrunk first, as they were for the training.
    """
    network = network.to(runtime.device, memory_format=runtime.memory_format).eval()
    for name, path in progress(list(images.items()), "predict", unit="image"):
        image_HW3 = read_rgb(path)
        seen = image_HW3
        if height is not None and len(image_HW3) > height:
            seen = np.asarray(shrink(Image.fromarray(image_HW3), None, height)[0])
        image_1CHW = torch.tensor(seen).permute(2, 0, 1)[None].to(runtime.device).float() / 255
        prob_CHW = probabilities(network, image_1CHW, config, views)
        prob_CHW = resized(prob_CHW[None], image_HW3.shape[:2])[0]
        confidence_HW, label_HW = (x.cpu().numpy() for x in prob_CHW.max(dim=0))
        write_png(out / "index" / name, index_picture(label_HW, colors))
        write_png(out / "overlay" / name, overlay(image_HW3, label_HW, colors))
        write_png(out / "confidence" / name, confidence_picture(confidence_HW.astype(np.float32)))


def write_png(path: Path, picture: Image.Image) -> None:
    """Writes path.png, whole or not at all."""
    with writing_whole(path.with_name(path.name + ".png")) as partial:
        picture.save(partial, "PNG")

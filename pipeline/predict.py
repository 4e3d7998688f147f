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
from pipeline.typed import InputError, InputErrors

MOST_WHOLE = 2_000_000
"""Pixels of an image that passes whole; larger ones pass by windows."""
WINDOW = EvaluationConfig("sliding", window=1024)


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
    size = image_1CHW.shape[-2:]
    total: Tensor | None = None
    for scale in views.scales:
        height, width = (max(1, round(side * scale)) for side in size)
        scaled = resized(image_1CHW, (height, width))
        how = config or (WINDOW if height * width > MOST_WHOLE else EvaluationConfig("whole"))
        for mirror in (False, True)[: 1 + views.flip]:
            prob_CHW = predict(network, scaled.flip(-1) if mirror else scaled, how)
            if total is None and not mirror and prob_CHW.shape[-2:] == size:
                total = prob_CHW
                continue
            if total is None:
                total = prob_CHW.new_zeros(len(prob_CHW), *size)
            for sum_HW, view_HW in zip(total, prob_CHW, strict=True):  # no copy of all classes
                view_1HW = view_HW.flip(-1)[None] if mirror else view_HW[None]
                sum_HW += resized(view_1HW[None], size)[0, 0]
            del prob_CHW  # before the next one is made
    return total.div_(len(views.scales) * (1 + views.flip))


def resized(value_1CHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, smoothed where it shrinks."""
    if value_1CHW.shape[-2:] == size:
        return value_1CHW
    return F.interpolate(value_1CHW, size, mode="bilinear", align_corners=False, antialias=True)


def most_likely(prob_CHW: Tensor, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Class and probability of each pixel of an image of `size`.

    They are interpolated class by class: all at the size of a photograph may be too many.

    Returns:
      int64 [H, W] and float32 [H, W].
    """
    best_HW = prob_CHW.new_full(size, -1.0)
    label_HW = torch.zeros_like(best_HW, dtype=torch.int64)
    for c, prob_HW in enumerate(prob_CHW):
        prob_HW = resized(prob_HW[None, None], size)[0, 0]
        higher_HW = prob_HW > best_HW
        label_HW[higher_HW] = c
        best_HW = torch.where(higher_HW, prob_HW, best_HW)
    return label_HW.cpu().numpy(), best_HW.cpu().numpy()


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
) -> int:
    """Writes out/index, out/overlay and out/confidence, a PNG an image in each, of its size.

    Returns the number of images.

    Args:
      height: to which higher images are shrunk first, as they were for the training.

    Raises:
      InputErrors: images that cannot be read or are too large, once all others are done.
    """
    network = network.to(runtime.device, memory_format=runtime.memory_format).eval()
    problems = []
    for name, path in progress(list(images.items()), "predict", unit="image"):
        try:
            image_HW3 = read_rgb(path)
            seen = image_HW3
            if height is not None and len(image_HW3) > height:
                seen = np.asarray(shrink(Image.fromarray(image_HW3), None, height)[0])
            with runtime.enough_memory(str(path), "Give a lower --height, or a smaller --window"):
                image_1CHW = torch.tensor(seen).permute(2, 0, 1)[None].to(runtime.device) / 255
                prob_CHW = probabilities(network, image_1CHW, config, views)
                label_HW, confidence_HW = most_likely(prob_CHW, image_HW3.shape[:2])
                del prob_CHW
        except InputError as error:  # the others are not lost for it
            problems.append(str(error))
            continue
        write_png(out / "index" / name, index_picture(label_HW, colors))
        write_png(out / "overlay" / name, overlay(image_HW3, label_HW, colors))
        write_png(out / "confidence" / name, confidence_picture(confidence_HW))
    if problems:
        problems.append(f"{len(images) - len(problems)} of {len(images)} images are in {out}")
        raise InputErrors(problems)
    return len(images)


def write_png(path: Path, picture: Image.Image) -> None:
    """Writes path.png, whole or not at all."""
    with writing_whole(path.with_name(path.name + ".png")) as partial:
        picture.save(partial, "PNG")

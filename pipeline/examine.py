"""What figures show of one trained network: features in two dimensions, and predicted images.

Letters: P points, D features, K images.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from torch import nn

from pipeline.config import EvaluationConfig
from pipeline.data.base import IGNORE_INDEX, Item, Prepared
from pipeline.data.splits import Split
from pipeline.evaluate import image_of, less_memory, predict, to_whole_strides
from pipeline.progress import progress
from pipeline.runtime import Runtime
from pipeline.seeding import stream

POINTS_PER_CLASS = 256
"""As in Figure 7."""
GRID = 4
"""Points lie on every fourth pixel of every fourth line: neighbours share their features."""
PERPLEXITY = 30.0
IMAGES = 4
HEIGHT = 256
"""Pictures are shown at this height, or lower if they are."""


class Points(NamedTuple):
    """Pixels of validation images, as many of each class."""

    image_P: np.ndarray
    """int64, number of the image in `Prepared.val`."""
    row_P: np.ndarray
    column_P: np.ndarray
    class_P: np.ndarray
    """int64, the true one."""


def choose_points(data: Prepared, seed: int, num: int = POINTS_PER_CLASS) -> Points:
    """`num` pixels of each class, or all if it has fewer, each as likely as any other.

    They depend on the validation masks and the seed alone, so that networks are compared at the
    same points.
    """
    found = []
    for i, item in enumerate(data.val):
        truth_HW = data.read_mask(item)[::GRID, ::GRID]
        key_HW = torch.rand(*truth_HW.shape, generator=stream(seed, "points", item.id)).numpy()
        row, column = np.nonzero(truth_HW != IGNORE_INDEX)
        key, of = key_HW[row, column], truth_HW[row, column].astype(np.int64)
        image = np.full_like(row, i)
        found.append(lowest(np.stack([of, image, GRID * row, GRID * column]), key, num))
    places, keys = (np.concatenate(part, axis=-1) for part in zip(*found, strict=True))
    (of, image, row, column), _ = lowest(places, keys, num)
    return Points(image, row, column, of)


def lowest(places_4P: np.ndarray, key_P: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Those of each class (first row) with the `num` lowest keys, by class and key."""
    order_P = np.lexsort((key_P, places_4P[0]))
    places_4P, key_P = places_4P[:, order_P], key_P[order_P]
    first_P = np.searchsorted(places_4P[0], places_4P[0])
    kept_P = np.arange(len(key_P)) - first_P < num
    return places_4P[:, kept_P], key_P[kept_P]


@torch.inference_mode()
def features_at(
    network: nn.Module, data: Prepared, points: Points, runtime: Runtime, *, title: str
) -> np.ndarray:
    """Float32 [P, D]: the decoder's features, in front of the classifier, where the points lie."""
    network = network.to(runtime.device, memory_format=runtime.memory_format).eval()
    feature_PD = None
    for i in progress(np.unique(points.image_P).tolist(), title, unit="image"):
        image = to_whole_strides(image_of(data, data.val[i], runtime))
        feature_DHW = network(image).decoder[0].float().cpu().numpy()
        here_P = points.image_P == i
        row, column = (
            place[here_P] * cells // pixels
            for place, cells, pixels in zip(
                (points.row_P, points.column_P),
                feature_DHW.shape[1:],
                image.shape[-2:],
                strict=True,
            )
        )
        if feature_PD is None:
            feature_PD = np.zeros((len(here_P), len(feature_DHW)), np.float32)
        feature_PD[here_P] = feature_DHW[:, row, column].T
    return feature_PD


class Embedding(NamedTuple):
    """Features in two dimensions, and how well their classes keep apart."""

    place_P2: np.ndarray
    """float32."""
    perplexity: float
    silhouette: float | None
    """Of the features themselves, in [-1, 1]; None with fewer than two classes."""
    silhouette_embedded: float | None
    """Of the two dimensions."""


def embed(feature_PD: np.ndarray, class_P: np.ndarray, seed: int) -> Embedding:
    """t-SNE (van der Maaten and Hinton, JMLR 2008) and silhouettes (Rousseeuw, 1987)."""
    perplexity = min(PERPLEXITY, (len(class_P) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    place_P2 = tsne.fit_transform(feature_PD)
    several = len(np.unique(class_P)) > 1
    scores = [
        round(float(silhouette_score(x, class_P)), 4) if several else None
        for x in (feature_PD, place_P2)
    ]
    return Embedding(place_P2, perplexity, *scores)


def choose_images(data: Prepared, num: int = IMAGES) -> list[Item]:
    """Of each of `num` equal parts of the validation set, by name, the image with most classes.

    Of equal ones the first. Neighbours by name are often frames of one sequence, hence the parts.
    """

    def num_classes(item: Item) -> int:
        found = np.unique(data.read_mask(item))
        return int((found != IGNORE_INDEX).sum())

    items = sorted(data.val, key=lambda item: item.id)
    bounds = [len(items) * k // num for k in range(num + 1)]
    parts = [items[low:high] for low, high in pairwise(bounds)]
    return [max(part, key=num_classes) for part in parts if part]


@torch.inference_mode()
def pictures(
    network: nn.Module, data: Prepared, config: EvaluationConfig, runtime: Runtime
) -> Iterator[tuple[str, np.ndarray]]:
    """The chosen images with truth and prediction: image_<k>, truth_<k>, prediction_<k>, uint8."""
    network = network.to(runtime.device, memory_format=runtime.memory_format).eval()
    items = choose_images(data)
    yield "ids_K", np.array([item.id for item in items])
    for k, item in enumerate(items):
        with runtime.enough_memory(f"examine: {item.id}", less_memory(data.name)):
            prob_CHW = predict(network, image_of(data, item, runtime), config)
            label = prob_CHW.argmax(dim=0).byte().cpu().numpy()
        yield f"image_{k}", shrunk(data.read_image(item), Image.Resampling.BILINEAR)
        yield f"truth_{k}", shrunk(data.read_mask(item), Image.Resampling.NEAREST)
        yield f"prediction_{k}", shrunk(label, Image.Resampling.NEAREST)


def labeled_pixels(data: Prepared, split: Split) -> np.ndarray:
    """Int64 [C]: how many pixels of each class the labelled images have."""
    items = {item.id: item for item in data.train}
    total_C = np.zeros(len(data.classes), np.int64)
    for name in split.labeled:
        mask_HW = data.read_mask(items[name])
        total_C += np.bincount(mask_HW[mask_HW != IGNORE_INDEX], minlength=len(data.classes))
    return total_C


def shrunk(picture: np.ndarray, how: Image.Resampling) -> np.ndarray:
    """At most HEIGHT high."""
    height, width = picture.shape[:2]
    if height <= HEIGHT:
        return picture
    return np.asarray(
        Image.fromarray(picture).resize((round(width * HEIGHT / height), HEIGHT), how)
    )

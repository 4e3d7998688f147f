"""A small network, and small prepared data sets written file by file."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import NetworkConfig
from pipeline.data.base import Prepared

NETWORK = NetworkConfig(
    trunk="resnet10t",
    weights="none",
    trunk_stages=3,
    low_level_channels=4,
    aspp_channels=8,
    decoder_channels=8,
)


def write_prepared(
    root: Path, *, num_train: int, num_val: int, num_classes: int = 4, unlabeled: int = 0
) -> Prepared:
    """Blocks of class colours with noise, 36x44 pixels; the last `unlabeled` have no mask."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    colors = rng.integers(0, 256, (num_classes, 3))
    index = {
        "name": root.name,
        "digest": "0" * 64,
        "classes": [
            {"name": f"class{i}", "color": color} for i, color in enumerate(colors.tolist())
        ],
    }
    for subset, count in (("train", num_train), ("val", num_val)):
        index[subset] = []
        for i in range(count):
            name = f"{subset}{i}"
            mask = rng.integers(0, num_classes, (9, 11)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
            image = colors[mask] * 0.7 + rng.integers(0, 60, (*mask.shape, 3))
            Image.fromarray(image.astype(np.uint8)).save(root / f"images/{name}.png")
            has_mask = subset == "val" or i < count - unlabeled
            if has_mask:
                Image.fromarray(mask).save(root / f"masks/{name}.png")
            index[subset].append(
                {
                    "id": name,
                    "image": f"images/{name}.png",
                    "mask": f"masks/{name}.png" if has_mask else None,
                    "height": 36,
                    "width": 44,
                    "fine": i % 2 == 0,
                }
            )
    (root / "index.json").write_text(json.dumps(index))
    return Prepared.open(root)

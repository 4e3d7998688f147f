"""An example of one's own data, drawn by code: `python -m stages.example FOLDER`."""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.artifacts import replacing, write_text
from pipeline.command import run_command
from pipeline.config import DatasetConfig, Draw
from pipeline.data import mini
from pipeline.data.base import IGNORE_INDEX
from pipeline.data.sources import cityscapes
from pipeline.pictures import read_rgb
from pipeline.typed import InputError

IGNORED = (0, 0, 0)
"""Colour in the masks of what does not count."""


def main() -> None:
    """Fills a folder with drawn streets, a few of them with masks in the classes' colours."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="such as data/sources/own; not there yet")
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--masks", type=int, default=15, help="of so many images")
    parser.add_argument("--height", type=int, default=256, help="in pixels; twice as wide")
    given = parser.parse_args()
    if given.folder.exists():
        raise InputError(f"{given.folder} is there; expected a folder that is not: name another")
    if not 2 <= given.masks <= given.images:
        raise InputError(f"--masks {given.masks}; expected 2 to {given.images}, the images")
    if given.height < 32:
        raise InputError(f"--height {given.height}; expected at least 32")
    draw = Draw(given.height, given.images, 0, 1)
    with tempfile.TemporaryDirectory() as drawn, replacing(given.folder) as out:
        mini.draw("cityscapes", Path(drawn), draw)
        write(Path(drawn), DatasetConfig("cityscapes", draw), out, given.masks)
    print(f"{given.folder}: {given.images} images, {given.masks} of them with masks")


def write(drawn: Path, config: DatasetConfig, out: Path, masks: int) -> None:
    """The layout of `pipeline.data.sources.folder`, from that of Cityscapes."""
    classes = cityscapes.class_table(config, drawn)
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(classes)] = classes.colors
    colors[IGNORE_INDEX] = IGNORED
    for part in ("images", "masks"):
        (out / part).mkdir()
    train = [s for s in cityscapes.samples(drawn, config) if s.subset == "train"]
    with_masks = {k * len(train) // masks for k in range(masks)}
    for k, sample in enumerate(train):
        name = f"street{k + 1:03d}"
        Image.fromarray(read_rgb(sample.image)).save(out / f"images/{name}.jpg", quality=95)
        if k in with_masks:
            Image.fromarray(colors[sample.mask]).save(out / f"masks/{name}.png")
    entries = [
        f"  - {{name: {json.dumps(name)}, color: {list(color)}}}\n"
        for name, color in zip(classes.names, classes.colors, strict=True)
    ]
    text = f"classes:\n{''.join(entries)}ignore: [{list(IGNORED)}]\n"
    write_text(out / "classes.yaml", text)


if __name__ == "__main__":
    run_command(main, OSError)

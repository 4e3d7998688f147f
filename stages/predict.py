"""Predictions of a trained model: `python -m stages.predict MODEL IMAGES... --out DIR`."""

import argparse
import os
from pathlib import Path

from pipeline.command import run_command
from pipeline.config import EvaluationConfig, TrainConfig
from pipeline.evaluate import load_model
from pipeline.predict import Views, found_images, predict_all
from pipeline.runtime import set_up
from pipeline.typed import InputError

LEAST = 32


def main() -> None:
    """Writes index, overlay and confidence pictures of every image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a model.pt, such as runs/mini/RUN/seed0/model.pt")
    parser.add_argument("images", nargs="+", help="files, folders, patterns in quotes")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--scales", type=numbers, default=(1.0,), help="such as 0.75,1,1.5")
    parser.add_argument(
        "--height", type=int, help="shrink higher images to it; default: as trained, 0: never"
    )
    parser.add_argument("--flip", action="store_true", help="mirror images too")
    parser.add_argument("--window", type=int, help="side of a sliding window, in pixels")
    parser.add_argument("--stride", type=float, default=2 / 3, help="its step, by its side")
    given = parser.parse_args()
    views = Views(given.scales, given.flip)
    views.check("--scales")
    if given.height is not None and not (given.height == 0 or given.height >= LEAST):
        raise InputError(f"--height {given.height}; expected at least {LEAST}, or 0 for none")
    config = None
    if given.window is not None:
        config = EvaluationConfig("sliding", given.window, given.stride)
        config.check("--window, --stride")
    images = found_images(given.images)
    network, model = load_model(given.model)
    height = given.height
    if height is None:
        height = model["config"].get("dataset", {}).get("height")
    runtime = set_up(TrainConfig(threads=os.cpu_count() or 1))
    colors = [entry["color"] for entry in model["classes"]]
    number = predict_all(
        network,
        images,
        given.out,
        colors,
        config=config,
        views=views,
        height=height or None,
        runtime=runtime,
    )
    print(f"{number} images: {given.out}/index, overlay and confidence")


def numbers(text: str) -> tuple[float, ...]:
    """From the command line."""
    return tuple(map(float, text.split(",")))


if __name__ == "__main__":
    run_command(main, OSError)

"""Images of any common kind as RGB, and what was predicted of one as pictures."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.typed import InputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MOST_PIXELS = 250_000_000
"""Of an image that is opened: a larger one is taken for an attack on memory."""
BLEND = 0.5
"""Share of the class's colour in an overlay."""


def read_rgb(path: Path) -> np.ndarray:
    """Uint8 [H, W, 3] of a file, turned as its EXIF says.

    16-bit grey keeps its upper 8 bits; of what is transparent the colour is kept; of several
    frames the first.

    Raises:
      InputError: not a whole image, or too large a one; names the file and the fix.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"{path}: {image.width} x {image.height} pixels; expected at most "
                    f"{MOST_PIXELS:,}: cut or shrink it"
                )
            return as_rgb(ImageOps.exif_transpose(image), path)
    except InputError:
        raise
    except Exception as error:  # a damaged file makes PIL raise a dozen kinds
        raise InputError(
            f"{path}: not an image that can be read ({type(error).__name__}: {error}); get it anew"
        ) from error


def as_rgb(image: Image.Image, path: Path) -> np.ndarray:
    """The image's pixels, whatever its mode."""
    if image.mode.startswith("I"):
        grey = np.asarray(image)
        if grey.min() < 0 or grey.max() > 65535:
            raise InputError(f"{path}: values {grey.min()} to {grey.max()}; expected 0 to 65535")
        return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise InputError(f"{path}: floating-point pixels; expected 8 or 16 bits: convert it")
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def index_picture(label_HW: np.ndarray, colors: list[list[int]]) -> Image.Image:
    """A palette PNG whose values are class indices, in the classes' colours."""
    picture = Image.fromarray(label_HW.astype(np.uint8))
    picture.putpalette([channel for color in colors for channel in color])
    return picture


def overlay(image_HW3: np.ndarray, label_HW: np.ndarray, colors: list[list[int]]) -> Image.Image:
    """The image under the colours of its classes."""
    painted = np.array(colors, np.float32)[label_HW]
    return Image.fromarray(((1 - BLEND) * image_HW3 + BLEND * painted).round().astype(np.uint8))


def confidence_picture(confidence_HW: np.ndarray) -> Image.Image:
    """Grey, from black (0) to white (1)."""
    return Image.fromarray((255 * confidence_HW).round().astype(np.uint8))

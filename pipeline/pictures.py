"""Images of any common kind as RGB, and what was predicted of one as pictures."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pipeline.typed import InputError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MOST_PIXELS = 178_000_000
"""Of an image that is opened: a larger one is taken for an attack on memory."""
BLEND = 0.5
"""Share of the class's colour in an overlay."""
ORIENTATION = 0x0112
"""EXIF's tag."""


def decode(path: Path) -> Image.Image:
    """The whole image of a file as it is stored.

    Raises:
      InputError: not a whole image, or too large a one; names the file and the fix.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
                image.load()
                image.getexif()  # read now, where what it raises is caught
                return image
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path}: {error}; expected at most {MOST_PIXELS:,}: cut or shrink it"
        ) from None
    except Exception as error:  # a damaged file makes PIL raise a dozen kinds
        raise InputError(
            f"{path}: not an image that can be read ({type(error).__name__}: {error}); get it anew"
        ) from error


def read_rgb(path: Path) -> np.ndarray:
    """Uint8 [H, W, 3] of a file, turned as its EXIF says.

    16-bit grey keeps its upper 8 bits; of what is transparent the colour is kept; of several
    frames the first. Raises InputError as `decode` does.
    """
    return as_rgb(upright(decode(path), path), path)


def read_mask(
    path: Path, modes: tuple[str, ...] = ("L", "P"), holding: str = "class indices"
) -> np.ndarray:
    """Uint8 [H, W], the values of a single-channel PNG: grey levels (L) or palette indices (P)."""
    image = decode(path)
    if image.mode not in modes:
        raise InputError(
            f"{path}: a mask of mode {image.mode}; expected a single channel of 8 bits (mode "
            f"{' or '.join(modes)}) that holds {holding}, not colours"
        )
    return np.asarray(image)


def upright(image: Image.Image, path: Path) -> Image.Image:
    """As EXIF turns it; raises InputError naming a file whose EXIF is damaged."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # of whatever stands there in place of EXIF
        raise InputError(
            f"{path}: EXIF that cannot be read ({type(error).__name__}: {error}); save it without"
        ) from error


def is_turned(image: Image.Image) -> bool:
    """Whether EXIF says that it is to be seen otherwise than it is stored."""
    return image.getexif().get(ORIENTATION) in range(2, 9)


def is_plain(image: Image.Image) -> bool:
    """Whether PIL's own conversion to RGB does what `as_rgb` does."""
    return (
        image.mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr") and "transparency" not in image.info
    )


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
    try:
        return np.asarray(image.convert("RGB"))
    except ValueError:
        raise InputError(
            f"{path}: of mode {image.mode}; expected RGB or grey: convert it"
        ) from None


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

"""Draws the embedded data sets: small pictures in the files and folders of the published ones.

Every picture has a random stream of its own, named by its id, so it does not depend on how many
others are drawn. Both sets have frequent classes and rare ones.
"""

import io
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image
from scipy.ndimage import gaussian_filter, generate_binary_structure, maximum_filter

from pipeline.config import Draw
from pipeline.data.base import IGNORE_INDEX
from pipeline.data.drawing.snapshot import snapshot
from pipeline.data.drawing.street import street
from pipeline.data.sources import cityscapes, voc
from pipeline.seeding import derive_seed

SUBJECTS = {
    "person": 0.26, "car": 0.19, "bird": 0.13, "aeroplane": 0.1, "bus": 0.08, "bottle": 0.08,
    "boat": 0.07, "tvmonitor": 0.045, "pottedplant": 0.045,
}  # fmt: skip
"""How often each class is what a snapshot is about."""
EXTRAS = {"fence": 0.16, "bicycle": 0.14, "bus": 0.048, "rider": 0.14, "traffic light": 0.14}
"""How often a street has each of the rare things; the rest has none."""
CITIES = {"train": ("aachen", "bochum", "bremen"), "val": ("frankfurt", "lindau", "munster")}
VOID_IDS = {"ego vehicle": 1, "static": 4}
"""The labelIds of Cityscapes for what is drawn but not evaluated."""
PALETTE = [channel for value in range(256) for channel in voc.palette_color(value)]
MAT_HEADER = b"MATLAB 5.0 MAT-file, drawn".ljust(116)

SLIVER = 0.005
"""What is seen of a thing is not asked for if it is a smaller part of the picture."""
LOOSE = 0.014
"""Radius to which a coarse outline is rounded, as a part of the picture's shorter side."""
SLIP = 0.12
"""Standard deviation of its threshold, which wanders along the outline."""
SMALL = 0.02
"""Largest part of the picture that is easily overlooked."""
OVERLOOKED = 0.15
"""How often a small thing has no coarse mask."""


def draw(source: str, raw: Path, config: Draw) -> None:
    """Fills the folder `raw` with a drawn data set in the published layout of `source`.

    Args:
      source: `voc` or `cityscapes`.
    """
    {"voc": _draw_voc, "cityscapes": _draw_cityscapes}[source](raw, config)


def turn(shares: dict[str, float], number: int) -> str | None:
    """The name whose turn it is in picture `number`; None where the shares leave room.

    Each comes up at its share, spread evenly (golden-ratio steps): even a few pictures have the
    rare ones.
    """
    position = number * (5**0.5 - 1) / 2 % 1
    for name, share in shares.items():
        if position < share:
            return name
        position -= share
    return None


def _draw_voc(raw: Path, config: Draw) -> None:
    """VOC has the fine masks, SBD the coarse ones; as published, SBD has some of VOC's images."""
    train, val, others = (
        [f"{year}_{number:06d}" for number in range(1, count + 1)]
        for year, count in ((2007, config.fine), (2008, config.val), (2010, config.coarse))
    )
    lists = {
        f"{voc.VOC}/ImageSets/Segmentation/train.txt": train,
        f"{voc.VOC}/ImageSets/Segmentation/val.txt": val,
        f"{voc.SBD}/train.txt": train[::4] + val[::8] + others[::2],
        f"{voc.SBD}/val.txt": val[4::8] + others[1::2],
    }
    for path, names in lists.items():
        _file(raw / path).write_text("".join(f"{name}\n" for name in names))
    in_sbd = {name for path, names in lists.items() if voc.SBD in path for name in names}
    for name in train + val + others:
        rng = np.random.default_rng(derive_seed(config.seed, "voc", name))
        picture = snapshot(rng, turn(SUBJECTS, int(name[-6:])), config.size)
        image, thing_HW = picture.finish()
        value_T = np.array([voc.NAMES.index(label) for label in picture.labels], np.uint8)
        if name not in others:
            image.save(_file(raw / voc.VOC / f"JPEGImages/{name}.jpg"), quality=90)
            mask = Image.fromarray(fine_mask(thing_HW, value_T))
            mask.putpalette(PALETTE)
            mask.save(_file(raw / voc.VOC / f"SegmentationClass/{name}.png"))
        if name in in_sbd:
            image.save(_file(raw / voc.SBD / f"img/{name}.jpg"), quality=90)
            mask = coarse_mask(thing_HW, value_T, rng)
            _file(raw / voc.SBD / f"cls/{name}.mat").write_bytes(mat(mask))


def _file(path: Path) -> Path:
    """The path, once there is a folder for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def fine_mask(thing_HW: np.ndarray, value_T: np.ndarray) -> np.ndarray:
    """VOC's kind of mask: void is a rim around each thing, on what is behind it, and slivers.

    Args:
      thing_HW: which thing each pixel shows; those in front have the larger numbers.
      value_T: the mask value of each thing, 0 for background.

    Returns:
      uint8 [H, W].
    """
    mask_HW = value_T[thing_HW]
    front_HW = np.where(mask_HW > 0, thing_HW, -1)
    area_T = np.bincount(thing_HW.ravel(), minlength=len(value_T))
    mask_HW[(area_T < SLIVER * thing_HW.size)[front_HW] & (front_HW >= 0)] = IGNORE_INDEX
    next_HW = maximum_filter(front_HW, footprint=generate_binary_structure(2, connectivity=1))
    mask_HW[next_HW > front_HW] = IGNORE_INDEX
    return mask_HW


def coarse_mask(thing_HW: np.ndarray, value_T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """SBD's kind of mask, without void: rounded, slipping outlines; small things may lack them.

    Args and return value are those of `fine_mask`.
    """
    mask_HW = np.zeros(thing_HW.shape, np.uint8)
    radius = LOOSE * min(thing_HW.shape)
    for thing in np.flatnonzero(value_T):
        seen_HW = thing_HW == thing
        area = seen_HW.sum()
        if area == 0 or (area < SMALL * thing_HW.size and rng.random() < OVERLOOKED):
            continue
        slip_HW = gaussian_filter(rng.standard_normal(thing_HW.shape), 4 * radius)
        level_HW = 0.45 + SLIP * slip_HW / slip_HW.std()
        mask_HW[gaussian_filter(seen_HW.astype(float), radius) > level_HW.clip(0.1)] = value_T[
            thing
        ]
    return mask_HW


def mat(mask_HW: np.ndarray) -> bytes:
    """One of SBD's class files; its header has no date, so that equal masks are equal files."""
    file = io.BytesIO()
    scipy.io.savemat(file, {"GTcls": {"Segmentation": mask_HW}}, do_compression=True)
    return MAT_HEADER + file.getvalue()[len(MAT_HEADER) :]


def _draw_cityscapes(raw: Path, config: Draw) -> None:
    """Images and labelIds masks, city by city; there are no coarse masks."""
    id_of = {label.name: label.id for label in cityscapes.LABELS} | VOID_IDS
    for subset, count in (("train", config.fine), ("val", config.val)):
        for number in range(1, count + 1):
            city = CITIES[subset][number % 3]
            name = f"{city}_{number:06d}_000019"
            rng = np.random.default_rng(derive_seed(config.seed, "cityscapes", name))
            picture = street(rng, turn(EXTRAS, number), config.size)
            image, thing_HW = picture.finish()
            mask = Image.fromarray(np.array([id_of[x] for x in picture.labels], np.uint8)[thing_HW])
            folder = f"{subset}/{city}/{name}"
            image.save(_file(raw / f"leftImg8bit/{folder}{cityscapes.IMAGE}"), compress_level=1)
            mask.save(_file(raw / f"gtFine/{folder}{cityscapes.MASK}"))

"""A tiny study as the stages write it: two runs of four classes, numbers for work by hand."""

import json

import numpy as np

from pipeline.artifacts import Paths, write_arrays, write_json, write_text
from pipeline.metrics import CONFIDENCE_BINS

CLASSES = ["road", "sky", "traffic sign", "bus"]
COLORS = [[128, 64, 128], [70, 130, 180], [220, 220, 0], [0, 60, 100]]
PIXELS = [600, 300, 100, 0]
"""Labelled, by class: the labelled images have no bus."""
BASE, OURS = "tiny_8_supervised", "tiny_8_stpg"
IOU = {
    BASE: {0: [0.8, 0.6, 0.1, None], 1: [0.8, 0.4, 0.3, None], 2: [0.5, 0.5, 0.5, None]},
    OURS: {1: [0.9, 0.6, 0.6, 0.0], 0: [0.8, 0.6, 0.3, 0.2]},
}
"""Of each run, seed and class."""
CALIBRATION = np.zeros((3, CONFIDENCE_BINS))
CALIBRATION[:, 10] = 40, 30, 21  # right 75 %, confidence 52.5 %
CALIBRATION[:, 19] = 60, 54, 57  # right 90 %, confidence 95 %: error (9 + 3) / 100
STEPS = (2, 4, 6, 8)


def write_study(paths: Paths) -> None:
    """Metrics, counts, records, and what stage `examine` writes of both runs."""
    for run, method in {BASE: "supervised", OURS: "stpg"}.items():
        split = {"name": "tiny_8", "family": "drawn", "labeled": 3, "unlabeled": 21}
        about = {"run": run, "classes": CLASSES, "colors": COLORS}
        seeds = [seed_of(number, iou) for number, iou in IOU[run].items()]
        more = {"method": method, "dataset": "tiny", "split": split, "seeds": seeds}
        write_json(paths.metrics(run), about | more)
        counts = np.ones((len(seeds), 2, 3, len(CLASSES)), np.int32)
        write_arrays(paths.images(run), {"ids": np.array(["a", "b"]), "counts_SI3C": counts})
        write_json(paths.record(run), [record_of(run, method, number) for number in IOU[run]])
        embedding = {
            "points_per_class": 2, "perplexity": 30.0, "seed": 0,
            "silhouette": 0.125, "silhouette_embedded": -0.05,
        }  # fmt: skip
        more = {"seed": next(iter(IOU[run])), "steps": STEPS[-1], "labeled_pixels": PIXELS}
        folder = paths.examined(run)
        write_json(folder / "about.json", about | more | {"embedding": embedding})
        write_arrays(folder / "embedding.npz", EMBEDDING)
        write_arrays(folder / "pictures.npz", PICTURES)
        entries = [entry_of(step, method) for step in STEPS]
        write_text(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in entries))
    write_arrays(paths.examined(OURS) / "snapshot.npz", SNAPSHOT)


def seed_of(number: int, iou: list[float | None]) -> dict:
    """One seed of a metrics file."""
    known = [x for x in iou if x is not None]
    confusion = np.eye(len(CLASSES), dtype=int).tolist()
    scores = {"miou": sum(known) / len(known), "iou": iou, "confusion": confusion}
    return scores | {"seed": number, "calibration": CALIBRATION.tolist()}


def record_of(run: str, method: str, seed: int) -> dict:
    """How one seed was made, in short."""
    return {
        "run": run, "method": method, "seed": seed, "commit": "0123456789ab", "device": "cpu",
        "minutes": 0.5, "seconds_per_step": 0.25, "peak_memory_gib": 0.1,
        "versions": {"python": "3.11.7", "torch": "2.0.0"},
        "split": {"name": "tiny_8", "family": "drawn", "labeled": 3, "unlabeled": 21},
    }  # fmt: skip


def entry_of(step: int, method: str) -> dict:
    """A line of a log; the unlabelled images join at the second, their truth a step later."""
    entry = {"step": step, "lr": 0.1, "loss": 2.0 / step, "loss_supervised": 1.5 / step}
    if method == "supervised" or step == STEPS[0]:
        return entry
    by_confidence = np.zeros((2, CONFIDENCE_BINS), int)
    by_confidence[:, 19] = 100 * step, 75 * step
    return entry | {
        "loss_unsupervised_gen": 0.5 / step,
        "accuracy_gen_teacher": 0.75 if step > STEPS[1] else None,
        "confidence_gen_teacher": 0.9,
        "share_high": 0.05,
        "share_selected": 0.8,
        "labels_gen_teacher_by_class": [400 * step, 200 * step, 10 * step, 0],
        "right_gen_teacher_by_class": [300 * step, 100 * step, 10 * step, 0],
        "selected_by_class": [200 * step, 180 * step, 5 * step, 0],
        "labels_gen_teacher_by_confidence": by_confidence[0].tolist(),
        "right_gen_teacher_by_confidence": by_confidence[1].tolist(),
    }


EMBEDDING = {
    "class_P": np.array([0, 0, 1, 1, 2, 2], np.uint8),
    "place_P2": np.array([[0, 0], [1, 0], [5, 5], [6, 5], [-3, 4], [-2, 4]], np.float32),
}
PICTURES = {
    "ids_K": np.array(["val_a", "val_b"]),
    "image_0": np.full((4, 6, 3), 90, np.uint8),
    "truth_0": np.array([[0, 0, 1, 1, 2, 255]] * 4, np.uint8),
    "prediction_0": np.array([[0, 0, 0, 1, 1, 1]] * 4, np.uint8),
    "image_1": np.full((6, 4, 3), 60, np.uint8),
    "truth_1": np.array([[0, 0, 1, 1]] * 6, np.uint8),
    "prediction_1": np.array([[0, 0, 0, 1]] * 6, np.uint8),
}
SNAPSHOT = {
    # Two images of one line; of the second the last pixel is padding.
    "image_N3HW": np.full((2, 3, 1, 5), 100, np.uint8),
    "valid_NHW": np.array([[[1, 1, 1, 1, 1]], [[1, 1, 1, 1, 0]]], np.uint8),
    "truth_NHW": np.array([[[0, 0, 255, 2, 1]], [[255, 255, 255, 255, 255]]], np.uint8),
    "student_NHW": np.array([[[0, 0, 0, 0, 1]], [[0, 0, 1, 1, 3]]], np.uint8),
    "teacher_NHW": np.array([[[0, 0, 0, 2, 0]], [[0, 0, 1, 1, 3]]], np.uint8),
    "part_NHW": np.array([[[1, 1, 1, 2, 3]], [[1, 1, 1, 1, 0]]], np.uint8),
    "selected_NHW": np.array([[[1, 1, 1, 1, 0]], [[1, 1, 1, 1, 0]]], np.uint8),
    "confusion_CC": np.array([[6, 0, 2, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
    "score_C": np.array([2 / 8 + 1 / 7, 1 / 2, 1, 0], np.float32),
}

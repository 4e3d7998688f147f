"""Stage `evaluate`: a run's models on the validation images."""

import json

import numpy as np

from pipeline.artifacts import Paths, write_arrays, write_json
from pipeline.command import run_stage
from pipeline.data.base import Prepared
from pipeline.evaluate import Evaluation, evaluate, load_network
from pipeline.metrics import iou_per_class, mean_iou
from pipeline.params import entry, load_params
from pipeline.runtime import set_up
from pipeline.typed import InputError


def main(key: str) -> None:
    """Writes the run's metrics, what was counted on each image, and the run's records."""
    params = load_params()
    run, paths = entry(params, "runs", key), Paths(params.study)
    runtime = set_up(params.train)
    data = Prepared.open(paths.prepared(run.dataset))
    config = params.evaluation[run.dataset]
    results, counts, records = [], [], []
    for seed in run.seeds:
        folder = paths.run(key) / f"seed{seed}"
        network = load_network(folder / "model.pt")
        found = evaluate(network, data, config, runtime, title=f"{key} seed {seed}")
        if not found.confusion_CC.any():
            raise InputError(f"{data.root}: every pixel of its validation masks is ignored")
        results.append({"seed": seed} | scores(found))
        counts.append(found.counts_I3C)
        records.append(json.loads((folder / "record.json").read_text()))
    about = {
        "run": key,
        "method": run.method,
        "split": records[0]["split"],
        "dataset": run.dataset,
        "classes": list(data.classes.names),
        "colors": [list(color) for color in data.classes.colors],
    }
    write_json(paths.metrics(key), about | {"seeds": results})
    ids = np.array([item.id for item in data.val])
    write_arrays(paths.images(key), {"ids": ids, "counts_SI3C": np.stack(counts)})
    write_json(paths.record(key), records)


def scores(found: Evaluation) -> dict:
    """As the metrics file has them."""
    iou_C = iou_per_class(found.confusion_CC)
    return {
        "miou": mean_iou(iou_C),
        "iou": [None if np.isnan(x) else x for x in iou_C.tolist()],
        "confusion": found.confusion_CC.tolist(),
        "calibration": found.calibration_3B.tolist(),
    }


if __name__ == "__main__":
    run_stage(main)

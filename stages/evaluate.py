"""Stage `evaluate`: a run's models on the validation images."""

import json

import numpy as np

from pipeline.artifacts import Paths, write_json
from pipeline.checkpoint import load
from pipeline.command import run_stage
from pipeline.config import NetworkConfig, entry, load_params
from pipeline.data.base import Prepared
from pipeline.evaluate import evaluate
from pipeline.metrics import iou_per_class, mean_iou
from pipeline.models.deeplab import DeepLabV3Plus
from pipeline.runtime import set_up
from pipeline.typed import InputError, from_mapping


def main(key: str) -> None:
    """Writes the run's metrics, and its record beside them."""
    params = load_params()
    run, paths = entry(params, "runs", key), Paths(params.study)
    runtime = set_up(params.train)
    data = Prepared.open(paths.prepared(run.dataset))
    results, records = [], []
    for seed in run.seeds:
        folder = paths.run(key) / f"seed{seed}"
        model = load(folder / "model.pt")
        config = from_mapping(NetworkConfig, model["config"]["recipe"]["network"], "network")
        network = DeepLabV3Plus(config, len(data.classes))
        network.load_state_dict(model["network"])
        confusion_CC = evaluate(
            network, data, params.evaluation[run.dataset], runtime, title=f"{key} seed {seed}"
        )
        if not confusion_CC.any():
            raise InputError(f"{data.root}: every pixel of its validation masks is ignored")
        iou_C = iou_per_class(confusion_CC)
        results.append(
            {
                "seed": seed,
                "miou": mean_iou(iou_C),
                "iou": [None if np.isnan(x) else x for x in iou_C.tolist()],
                "confusion": confusion_CC.tolist(),
            }
        )
        records.append(json.loads((folder / "record.json").read_text()))
    write_json(
        paths.metrics(run.group, key),
        {
            "run": key,
            "method": run.method,
            "split": records[0]["split"],
            "dataset": run.dataset,
            "classes": list(data.classes.names),
            "seeds": results,
        },
    )
    write_json(paths.record(run.group, key), records)


if __name__ == "__main__":
    run_stage(main)

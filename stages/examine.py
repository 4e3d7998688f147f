"""Stage `examine`: what figures show of a run, of its first seed."""

import json
import shutil

import numpy as np

from pipeline import examine
from pipeline.artifacts import Paths, replacing, write_arrays, write_json
from pipeline.command import run_stage
from pipeline.data.base import Prepared
from pipeline.data.splits import read_split
from pipeline.evaluate import load_network
from pipeline.params import entry, load_params
from pipeline.runtime import set_up

SEED = 0
"""Of the points and their embedding."""
MOST_LINES = 200
"""Of the log that is kept."""


def main(key: str) -> None:
    """Writes reports/<study>/examined/<run>/: embedding, pictures, log, snapshot."""
    params = load_params()
    entry(params, "examined", key)
    run, paths = entry(params, "runs", key), Paths(params.study)
    runtime = set_up(params.train)
    data = Prepared.open(paths.prepared(run.dataset))
    split = read_split(paths.split(run.split), data)
    folder = paths.run(key) / f"seed{run.seeds[0]}"
    network = load_network(folder / "model.pt")
    points = examine.choose_points(data, SEED)
    less = f"It takes whole images: set $STPG_DEVICE=cpu, or datasets.{run.dataset}.height lower"
    with runtime.enough_memory(key, less):
        features = examine.features_at(network, data, points, runtime, title=f"{key} features")
    embedding = examine.embed(features, points.class_P, SEED)
    config = params.evaluation[run.dataset]
    with replacing(paths.examined(key)) as out:
        write_arrays(
            out / "embedding.npz",
            {"class_P": points.class_P.astype(np.uint8), "place_P2": embedding.place_P2},
        )
        write_arrays(out / "pictures.npz", dict(examine.pictures(network, data, config, runtime)))
        lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
        step = -(-len(lines) // MOST_LINES)
        (out / "log.jsonl").write_text("".join(lines[::-1][::step][::-1]))
        if (folder / "snapshot.npz").exists():
            shutil.copyfile(folder / "snapshot.npz", out / "snapshot.npz")
        about = {
            "run": key,
            "seed": run.seeds[0],
            "steps": json.loads(lines[-1])["step"],
            "classes": list(data.classes.names),
            "colors": [list(color) for color in data.classes.colors],
            "labeled_pixels": examine.labeled_pixels(data, split).tolist(),
            "embedding": {
                "points_per_class": examine.POINTS_PER_CLASS,
                "perplexity": embedding.perplexity,
                "seed": SEED,
                "silhouette": embedding.silhouette,
                "silhouette_embedded": embedding.silhouette_embedded,
            },
        }
        write_json(out / "about.json", about)


if __name__ == "__main__":
    run_stage(main)

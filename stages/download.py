"""Stage `download`: a data set as published, or drawn."""

import importlib
import os
import sys
from pathlib import Path

from pipeline.artifacts import ROOT, Paths, replacing
from pipeline.config import load_params
from pipeline.data import mini


def main(key: str) -> None:
    """Fills data/raw/<key>."""
    params = load_params()
    config = params.datasets[key]
    with replacing(Paths(params.study).raw(key)) as raw:
        if config.draw:
            mini.draw(config.source, raw, config.draw)
        else:
            source = importlib.import_module(f"pipeline.data.{config.source}")
            sources = Path(os.environ.get("STPG_DATA") or ROOT / "data/sources")
            source.download(raw, sources / (config.folder or source.FOLDER))


if __name__ == "__main__":
    main(sys.argv[1])

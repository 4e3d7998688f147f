"""Stage `download`: a data set as published, or drawn."""

from pipeline.artifacts import Paths, replacing, sources
from pipeline.command import run_stage
from pipeline.data import mini
from pipeline.data.sources import source_of
from pipeline.params import entry, load_params


def main(key: str) -> None:
    """Fills data/raw/<key>."""
    params = load_params()
    config = entry(params, "datasets", key)
    with replacing(Paths(params.study).raw(key)) as raw:
        if config.draw:
            mini.draw(config.source, raw, config.draw)
        else:
            source = source_of(config)
            source.download(raw, sources() / (config.folder or source.FOLDER))


if __name__ == "__main__":
    run_stage(main)

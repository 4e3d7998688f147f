"""Stage `prepare`: any raw data set to the one prepared form."""

from pipeline.artifacts import Paths
from pipeline.command import run_stage
from pipeline.data.prepare import prepare
from pipeline.data.sources import source_of
from pipeline.params import entry, load_params


def main(key: str) -> None:
    """Reads data/raw/<key>, writes data/prepared/<key>."""
    params = load_params()
    config, paths = entry(params, "datasets", key), Paths(params.study)
    prepare(key, source_of(config), paths.raw(key), paths.prepared(key), config)


if __name__ == "__main__":
    run_stage(main)

"""Stage `split`: which training images keep their labels."""

from pipeline.artifacts import Paths
from pipeline.command import run_stage
from pipeline.data.base import Prepared
from pipeline.data.splits import import_lists, make_split, write_split
from pipeline.params import entry, load_params


def main(key: str) -> None:
    """Draws the split called `key`, or imports its published lists."""
    params = load_params()
    config, paths = entry(params, "splits", key), Paths(params.study)
    prepared = Prepared.open(paths.prepared(config.dataset))
    if config.labeled:
        split = import_lists(prepared, config, paths.lists())
    else:
        split = make_split(prepared, config)
    write_split(paths.split(key), split)


if __name__ == "__main__":
    run_stage(main)

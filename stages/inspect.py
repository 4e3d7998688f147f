"""What is in a data set, and what is wrong with it: `python -m stages.inspect NAME`.

Looks at the source's folder below `$STPG_DATA`, or at data/raw where that is not there; NAME is one
of `datasets`. Exit status 1 if `prepare` would refuse something, or an image is in both subsets.
"""

import sys

from pipeline.artifacts import Paths
from pipeline.command import run_stage
from pipeline.data.sources import source_of
from pipeline.data.sources.folder import check_there, local_of, where
from pipeline.inspection import inspect, written
from pipeline.params import entry, load_params


def main(name: str) -> None:
    """Prints counts, sizes, class frequencies, warnings and problems."""
    params = load_params()
    config = entry(params, "datasets", name)
    source = source_of(config)
    folder = where(config, Paths(params.study).raw(name))
    if not folder.is_dir():
        if config.source == "folder":
            check_there(local_of(config))
        raise FileNotFoundError(f"{folder} is missing: run `dvc repro download@{name}`")
    found = inspect(source.samples(folder, config), source.class_table(config, folder))
    print(f"{name}: {folder}\n{written(found)}")
    sys.exit(1 if found.problems else 0)


if __name__ == "__main__":
    run_stage(main)

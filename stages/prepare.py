"""Stage `prepare`: any raw data set to the one prepared form."""

from pipeline.artifacts import Paths, write_json
from pipeline.command import run_stage
from pipeline.data.checksums import checksum, summary_of
from pipeline.data.prepare import prepare
from pipeline.data.sources import source_of
from pipeline.params import entry, load_params


def main(key: str) -> None:
    """Reads data/raw/<key>, writes data/prepared/<key> and what it sums up to."""
    params = load_params()
    config, paths = entry(params, "datasets", key), Paths(params.study)
    prepared = paths.prepared(key)
    summary_of(prepared).unlink(missing_ok=True)
    prepare(key, source_of(config), paths.raw(key), prepared, config)
    index = checksum(prepared / "index.json", "sha256")
    write_json(summary_of(prepared), {"index.json": f"sha256:{index}"})


if __name__ == "__main__":
    run_stage(main)

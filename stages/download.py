"""Stage `download`: a data set as published, or drawn."""

from typing import Any

from pipeline.artifacts import Paths, replacing, sources, write_json
from pipeline.command import run_stage
from pipeline.data import mini
from pipeline.data.checksums import digest_of, files_below, manifest_of
from pipeline.data.sources import source_of
from pipeline.params import entry, load_params


def main(key: str) -> None:
    """Fills data/raw/<key>, and says in its manifest what with."""
    params = load_params()
    config = entry(params, "datasets", key)
    with replacing(Paths(params.study).raw(key)) as raw:
        if config.draw:
            mini.draw(config.source, raw, config.draw)
            made_of = {"drawn": f"sha256:{digest_of(raw, files_below(raw))}"}
        else:
            source = source_of(config)
            made_of = source.download(raw, sources() / (config.folder or source.FOLDER))
            check(made_of, config.source)
        write_json(manifest_of(raw), made_of)


def check(made_of: Any, source: str) -> None:
    """Raises TypeError unless a source says what it has filled the folder with."""
    told = isinstance(made_of, dict) and all(isinstance(x, str) for x in made_of.values())
    if not (told and made_of):
        raise TypeError(
            f"pipeline/data/sources/{source}.py: download() returned {made_of!r}; expected names "
            "of archives or folders, each with a checksum, as link_tree() returns it: without them "
            "nothing notices that the data have changed"
        )


if __name__ == "__main__":
    run_stage(main)

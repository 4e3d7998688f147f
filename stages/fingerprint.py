"""Stage `fingerprint`: the code behind every other stage, one JSON file each."""

from pipeline.artifacts import ROOT, replacing, write_json
from pipeline.command import run_stage
from pipeline.fingerprint import all_fingerprints


def main() -> None:
    """Writes fingerprints/<stage>.json, or <stage>-<component>.json where one is chosen by name."""
    with replacing(ROOT / "fingerprints") as folder:
        for name, modules in all_fingerprints(ROOT).items():
            write_json(folder / f"{name}.json", modules)


if __name__ == "__main__":
    run_stage(main)

"""Stage `fingerprint`: the code behind every other stage, one JSON file each."""

from pipeline.artifacts import ROOT, commit_folder, fresh_folder, write_json
from pipeline.fingerprint import all_fingerprints


def main() -> None:
    """Writes fingerprints/<stage>.json, or <stage>-<component>.json where one is chosen by name."""
    final = ROOT / "fingerprints"
    folder = fresh_folder(final)
    for name, modules in all_fingerprints(ROOT).items():
        write_json(folder / f"{name}.json", modules)
    commit_folder(folder, final)


if __name__ == "__main__":
    main()

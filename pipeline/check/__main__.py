"""The command: exits 0 with one line `ok: ...`, or 1 with a line for each finding.

Needs no data, no models, no cache and no GPU, and does not import torch.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.utils.serialize import modify_yaml

from pipeline.artifacts import ROOT
from pipeline.check import stages, studies
from pipeline.params import load_params
from pipeline.report.spec import load_paper


def findings(root: Path) -> Iterator[str]:
    """What every rule finds; all but the first wait until the files can be read."""
    files = studies.study_files(root)
    unusable = [finding for path in files for finding in studies.unusable(path, load_params)]
    unusable += studies.unusable(root / "paper.yaml", load_paper)
    yield from unusable
    if not unusable:
        yield from study_findings(root)
        try:
            project = stages.read_project(root)
        except DvcException as error:
            yield f"dvc.yaml: DVC cannot read the pipeline: {error}"
        else:
            for rule in stages.RULES:
                yield from rule(project)


def study_findings(root: Path) -> Iterator[str]:
    """What the rules of `pipeline.check.studies` find."""
    files = studies.study_files(root)
    every = [load_params(path) for path in files]
    active, paper = every[0], load_paper(root / "paper.yaml")
    for path, params in zip(files, every, strict=True):
        yield from studies.not_canonical(path)
        yield from studies.twins(params)
    yield from studies.unregistered(paper, every)
    yield from studies.uncited(active, paper)
    yield from studies.undrawable(active, paper)


def prune(root: Path) -> None:
    """Deletes the orphaned files, and the orphaned entries of dvc.lock."""
    project = stages.read_project(root)
    for file in stages.orphaned_files(project):
        (root / file).unlink()
    if entries := stages.orphaned_entries(project):
        with modify_yaml(str(root / "dvc.lock")) as lock:
            for entry in entries:
                del lock["stages"][entry]


def main(root: Path = ROOT) -> None:
    """Checks, after removing what is orphaned if asked to."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.check", description=__doc__)
    parser.add_argument("--prune", action="store_true", help="first remove what is orphaned")
    if parser.parse_args().prune:
        prune(root)
    found = list(findings(root))
    print("\n".join(found) or f"ok: study {load_params(root / 'params.yaml').study}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()

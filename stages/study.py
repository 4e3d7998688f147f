"""Which study is in place: `python -m stages.study [show | name | use NAME]`.

A study is a pair, complete parameters and their lock. The active pair is params.yaml and
dvc.lock; the others wait in studies/ as NAME.yaml and NAME.lock.
"""

import argparse
import os
from pathlib import Path

from pipeline.artifacts import ROOT
from pipeline.command import run_command
from pipeline.config import Params
from pipeline.params import load_params, read_yaml
from pipeline.typed import ConfigError, did_you_mean


def active(root: Path = ROOT) -> str | None:
    """The name of the study in place; None if there is none."""
    path = root / "params.yaml"
    return name_in(path) if path.exists() else None


def name_in(path: Path) -> str:
    """What a file of parameters says its study is called."""
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("study"), str):
        raise ConfigError(f"{path.name}: study: missing; expected the study's name")
    return content["study"]


def known(root: Path = ROOT) -> dict[str, Path]:
    """Every study's name and where its parameters are now."""
    waiting = {path.stem: path for path in (root / "studies").glob("*.yaml")}
    name = active(root)
    return waiting | ({name: root / "params.yaml"} if name else {})


def load(path: Path) -> Params:
    """Reads a study and checks all of it, its methods' parameters too."""
    from pipeline.jobs import check_methods  # imports torch, which showing a name does not need

    params = load_params(path)
    check_methods(params, path.name)
    return params


def use(name: str, root: Path = ROOT) -> None:
    """Puts the pair of `name` in place and the present pair away; nothing is lost."""
    current = active(root)
    if name not in known(root):
        raise ConfigError(f"study: no {name!r}; {did_you_mean(name, known(root))}")
    if name == current:
        return
    if (found := name_in(root / "studies" / f"{name}.yaml")) != name:
        raise ConfigError(f"studies/{name}.yaml: study: {found}; expected {name}, as the file")
    pair = {"yaml": root / "params.yaml", "lock": root / "dvc.lock"}
    away = {root / "studies" / f"{current}.{suffix}": place for suffix, place in pair.items()}
    if taken := [path for path in away if path.exists()]:
        raise ConfigError(
            f"{taken[0].relative_to(root)}: exists, but {current} is in place; rename or remove it"
        )
    for path, place in away.items():
        if place.exists():
            os.replace(place, path)
    for suffix, place in pair.items():
        waiting = root / "studies" / f"{name}.{suffix}"
        if waiting.exists():
            os.replace(waiting, place)


def main() -> None:
    """Shows or switches the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", nargs="?", choices=("show", "name", "use"), default="show")
    parser.add_argument("name", nargs="?", help="with use: the study to put in place")
    arguments = parser.parse_args()
    if arguments.action == "use":
        if arguments.name is None:
            parser.error(f"use which study? known: {', '.join(sorted(known()))}")
        if (path := known().get(arguments.name)) is not None:
            load(path)  # before anything moves
        former = active()
        use(arguments.name)
        away = f", {former} in studies/" if former not in (None, arguments.name) else ""
        print(f"{arguments.name} is in place{away}")
        return
    if arguments.action == "name":
        print(active())
        return
    broken = None
    studies = known()
    width = max(map(len, studies), default=0)
    for name, path in sorted(studies.items()):
        mark = "*" if path.name == "params.yaml" else " "
        try:
            params = load(path)
        except ConfigError as error:
            print(f"{mark} {name:{width}} broken: {error}")
            broken = error if mark == "*" else broken
            continue
        trainings = sum(len(run.seeds) for run in params.runs.values())
        print(f"{mark} {name:{width}} {len(params.runs)} runs, {trainings} trainings")
    if broken:
        raise ConfigError(f"the study in place is broken: {broken}")


if __name__ == "__main__":
    run_command(main, OSError)

"""Rules about dvc.yaml, dvc.lock and the files that git holds."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dvc.repo import Repo
from dvc.stage import Stage as DvcStage
from pathspec import GitIgnoreSpec

from pipeline.fingerprint import all_fingerprints
from pipeline.params import load_params, read_yaml

PRUNE = "`python -m pipeline.check --prune` removes it"


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml with its templates filled in; paths are relative to the repository."""

    name: str
    cmd: str
    deps: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    """Outs that git holds."""
    bulk: tuple[str, ...] = ()
    """All other outs: in DVC's cache, or persistent."""
    stale: bool = False
    """Whether `dvc repro --allow-missing` would run it."""


@dataclass(frozen=True)
class Project:
    """What the rules look at."""

    root: Path
    study: str
    stages: tuple[Stage, ...]
    locked: frozenset[str] = frozenset()
    """Names of the entries of dvc.lock."""
    fingerprints: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of the present code."""
    gitignore: str = ""

    def ignored(self, path: str) -> bool:
        """Whether the root's .gitignore lists a path, or a folder around it."""
        return GitIgnoreSpec.from_lines(self.gitignore.splitlines()).match_file(path)


def read_project(root: Path) -> Project:
    """The repository at `root`; raises DvcException for what DVC cannot read."""
    with Repo(str(root)) as repo, repo.lock:
        graph = repo.index.graph
        found = sorted(repo.index.stages, key=lambda stage: stage.name)
        stages = tuple(read_stage(stage, list(graph.successors(stage)), root) for stage in found)
    lock = root / "dvc.lock"
    return Project(
        root=root,
        study=load_params(root / "params.yaml").study,
        stages=stages,
        locked=frozenset(read_yaml(lock)["stages"] if lock.exists() else ()),
        fingerprints=all_fingerprints(root),
        gitignore=(root / ".gitignore").read_text(),
    )


def read_stage(stage: DvcStage, upstream: list[DvcStage], root: Path) -> Stage:
    """What the rules need to know of a stage."""

    def paths(items: Iterable) -> tuple[str, ...]:
        return tuple(Path(item.fs_path).relative_to(root).as_posix() for item in items)

    return Stage(
        name=stage.name,
        cmd=str(stage.cmd),
        deps=paths(stage.deps),
        kept=paths(out for out in stage.outs if not out.use_cache and not out.persist),
        bulk=paths(out for out in stage.outs if out.use_cache or out.persist),
        stale=stage.changed(allow_missing=True, upstream=upstream),
    )


def stale(project: Project) -> Iterator[str]:
    """Stages whose results are not those of the present parameters, code and inputs."""
    for stage in project.stages:
        if stage.stale:
            yield f"{stage.name}: stale; run `dvc repro`, then commit dvc.lock and the results"


def missing(project: Project) -> Iterator[str]:
    """Results that dvc.lock has and git should hold, but that are not there."""
    for stage in project.stages:
        for out in stage.kept:
            if stage.name in project.locked and not (project.root / out).exists():
                yield f"{out}: missing; run `dvc repro {stage.name}`, then commit it"


def orphaned_entries(project: Project) -> list[str]:
    """Entries of dvc.lock that are no stage's."""
    return sorted(project.locked - {stage.name for stage in project.stages})


def orphaned_files(project: Project) -> list[str]:
    """Files among the active study's results and the fingerprints that no stage makes."""
    made = {out for stage in project.stages for out in stage.kept if out != "fingerprints"}
    made |= {f"fingerprints/{name}.json" for name in project.fingerprints}
    orphans = []
    for folder in ("fingerprints", f"data/splits/{project.study}", f"reports/{project.study}"):
        for path in sorted((project.root / folder).rglob("*")):
            name = path.relative_to(project.root)
            if path.is_file() and made.isdisjoint(p.as_posix() for p in (name, *name.parents)):
                orphans.append(name.as_posix())
    return orphans


def orphaned(project: Project) -> Iterator[str]:
    """What former stages left behind."""
    for entry in orphaned_entries(project):
        yield f"dvc.lock: {entry}: no such stage in dvc.yaml; {PRUNE}"
    for file in orphaned_files(project):
        yield f"{file}: no stage makes it; {PRUNE}"


def unfingerprinted(project: Project) -> Iterator[str]:
    """Stages that a change of the code they run would not make stale."""
    script_of = {f"fingerprints/{name}.json": name.split("-")[0] for name in project.fingerprints}
    for stage in project.stages:
        command = re.fullmatch(r"python -m stages\.(\w+)", stage.cmd)
        if command is None:
            yield (
                f"{stage.name}: cmd: found {stage.cmd!r}; expected `python -m stages.<name>`, "
                "which takes its key from $DVC_STAGE: what a name is made of shall reach no shell"
            )
        elif (script := command[1]) != "fingerprint" and script not in map(
            script_of.get, stage.deps
        ):
            yield (
                f"{stage.name}: depends on no fingerprint of stages/{script}.py; "
                f"add fingerprints/{script}.json or fingerprints/{script}-<component>.json to deps"
            )


def outdated_fingerprints(project: Project) -> Iterator[str]:
    """Fingerprints in git that are not of the code in git."""
    for name, modules in project.fingerprints.items():
        path = project.root / "fingerprints" / f"{name}.json"
        if not path.exists() or json.loads(path.read_text()) != modules:
            yield f"fingerprints/{path.name}: not of the present code; run `dvc repro`"


def not_renderable(project: Project) -> Iterator[str]:
    """Stages that render reports/ but that a clone without data, models and cache cannot run."""
    for stage in project.stages:
        if any(dep.startswith("reports/") for dep in stage.deps):
            for dep in filter(project.ignored, stage.deps):
                yield (
                    f"{stage.name}: reads reports/ and {dep}, which git does not hold; "
                    "let the stage that makes it write what is needed below reports/"
                )


def wrongly_ignored(project: Project) -> Iterator[str]:
    """Outs that .gitignore lists though git should hold them, or does not list and should."""
    bulk = {out for stage in project.stages for out in stage.bulk if not project.ignored(out)}
    for folder in sorted({PurePosixPath(out).parent for out in bulk}):
        yield f".gitignore: lacks /{folder}/; add it, or DVC writes a .gitignore of its own"
    for stage in project.stages:
        for out in filter(project.ignored, stage.kept):
            yield f".gitignore: lists {out}, a result of {stage.name} that git should hold; free it"


RULES: tuple[Callable[[Project], Iterator[str]], ...] = (
    unfingerprinted,
    outdated_fingerprints,
    stale,
    missing,
    orphaned,
    not_renderable,
    wrongly_ignored,
)

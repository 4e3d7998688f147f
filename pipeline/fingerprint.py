"""Which code a stage runs, as a hash that comments and docstrings do not change.

DVC does not follow imports, so a stage's real dependency is the set of this project's modules
that its script reaches. They are found without importing anything, by walking syntax trees.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pipeline.artifacts import ROOT

SPEAKING = ("stages", "pipeline.command", "pipeline.forecast")
"""Modules that start a stage and speak to people: a change of their words trains nothing anew."""
STAGES = ("split", "evaluate", "examine", "tables", "figures", "report")


def all_fingerprints(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """The fingerprint of every stage but `fingerprint` itself.

    Its name is the stage's, or <stage>-<component> where the stage picks a component by name.
    """
    entries = {name: [f"stages.{name}"] for name in STAGES}
    for source in files_of("pipeline/data/sources", root):
        for stage in ("download", "prepare"):
            entries[f"{stage}-{source}"] = [f"stages.{stage}", f"pipeline.data.sources.{source}"]
    for method in files_of("pipeline/methods", root):
        if method != "base":
            entries[f"train-{method}"] = ["stages.train", f"pipeline.methods.{method}"]
    kinds = files_of("pipeline/report/figures", root)
    entries["figures"] += [f"pipeline.report.figures.{kind}" for kind in kinds]
    return {name: fingerprint(modules, root) for name, modules in entries.items()}


def files_of(package: str, root: Path) -> list[str]:
    """The names of a folder's modules, whatever they are called by."""
    return sorted(path.stem for path in (root / package).glob("[a-z]*.py"))


def fingerprint(modules: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """The modules that `modules` reach, each with a hash of its syntax.

    With a module come the packages around it, whose `__init__` Python runs first. Modules found by
    name at run time (methods, data sources) have to be given. `SPEAKING` is left out.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = source_file(name, root)
        if name in found or name in SPEAKING or path is None:
            continue
        digest, names = read(path.read_text(), str(path))
        waiting += names
        if package := name.rpartition(".")[0]:
            waiting.append(package)
        found[name] = digest
    return dict(sorted(found.items()))


@cache
def read(text: str, filename: str) -> tuple[str, list[str]]:
    """The hash of a module's syntax, and what it imports."""
    tree = ast.parse(text, filename=filename)
    names = imported(tree)
    return hashlib.sha256(canonical(tree).encode()).hexdigest()[:16], names


def source_file(module: str, root: Path) -> Path | None:
    """The project's file of a dotted name; None if it is no module of this project."""
    path = root / module.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((c for c in candidates if c.is_file()), None)


def imported(tree: ast.AST) -> list[str]:
    """Dotted names that a module imports, wherever in it; with `from a import b`, a and a.b."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def canonical(tree: ast.AST) -> str:
    """The syntax tree as text, without docstrings, comments, layout and positions."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [n for n in body if not is_bare_text(n)] or [ast.Pass()]
    return ast.dump(tree)


def is_bare_text(node: ast.AST) -> bool:
    """Whether a statement is only a string: a docstring, or the text under a field."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )

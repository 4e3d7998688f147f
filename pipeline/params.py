"""Reads params.yaml, and any other YAML that a user writes."""

from pathlib import Path
from typing import Any

import yaml

from pipeline.artifacts import ROOT
from pipeline.config import Params
from pipeline.typed import ConfigError, from_mapping, reference

PARAMS_FILE = ROOT / "params.yaml"
MAX_NODES = 1_000_000
"""Values in a file at most, aliases written out: a few lines of aliases can stand for billions."""


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Reads and checks a study's parameters; raises ConfigError naming the file and the key."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; `python -m stages.study use mini` puts one there")
    content = read_yaml(path)
    try:
        return from_mapping(Params, content, "")
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def entry(params: Params, section: str, key: str) -> Any:
    """What `section` says of `key`; a name that it has not is a ConfigError."""
    known = getattr(params, section)
    reference(section, key, known)
    return known[key]


def read_text(path: Path) -> str:
    """The content of a text file that a user writes, its byte order mark left out.

    Raises ConfigError naming a file that is not UTF-8.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file: mappings, lists and scalars, nothing that runs code.

    Raises ConfigError naming the file, with line and column where it is not YAML, and for one that
    its aliases or its depth make too large to use.
    """
    in_git = ROOT in (path.parent, path.parent.parent)
    fix = f"mend that line{f', or `git checkout {path.name}`' if in_git else ''}"
    text = read_text(path)
    try:
        loader = yaml.SafeLoader(text)
        loader.name = str(path)
        node = loader.get_single_node()
        size = 0 if node is None else written_out(node, {})
        if size <= MAX_NODES:
            return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path.name}: not valid YAML: {error}; {fix}") from None
    except RecursionError:
        raise ConfigError(
            f"{path.name}: values nested too deeply, or an alias (*name) inside what it stands "
            "for; expected a few levels"
        ) from None
    except Exception as error:  # a date or number that has the form of one and is none, ...
        raise ConfigError(
            f"{path.name}: a value that cannot be read ({type(error).__name__}: "
            f"{str(error)[:200]}); quote it if it is text"
        ) from None
    raise ConfigError(
        f"{path.name}: more than {MAX_NODES} values, aliases (*name) written out; use fewer "
        "aliases of aliases"
    )


def written_out(node: yaml.Node, known: dict[int, int]) -> int:
    """The values that a node stands for, each alias counted as often as it is used.

    Beyond `MAX_NODES` it stops counting. Raises RecursionError for a node inside itself.

    Args:
      known: of nodes seen before, by identity.
    """
    if id(node) in known:
        if known[id(node)] == 0:
            raise RecursionError
        return known[id(node)]
    known[id(node)] = 0
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        parts = [part for pair in parts for part in pair]
    total = 1 + sum(written_out(part, known) for part in parts)
    known[id(node)] = min(total, MAX_NODES + 1)
    return known[id(node)]

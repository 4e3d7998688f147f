"""What paper.yaml says: which run fills which cell and figure, and the published numbers."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.params import read_yaml
from pipeline.typed import ConfigError, at_least, from_mapping


@dataclass(frozen=True)
class Row:
    """One line of a table: what was published, and the runs that measure it; None = empty cell."""

    name: str
    published: tuple[float | None, ...] = ()
    runs: tuple[str | None, ...] = ()
    parts: tuple[str, ...] = ()
    """Which of the table's parts it has: the check marks of an ablation."""


@dataclass(frozen=True)
class TableSpec:
    """One table as paper.yaml describes it."""

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    parts: tuple[str, ...] = ()
    """Heads of the columns of check marks, if it has some."""
    compare: tuple[str, str] | None = None
    """Two rows, of which the second is tested to be better than the first."""
    block: int = 1
    """So many successive validation images are alike: see `pipeline.report.statistics`."""
    step_cost: bool = False
    """Whether a column says what a training step of each row's method costs."""

    def check(self, key: str) -> None:
        """Each row has as many cells as there are columns, or none at all, and known parts."""
        at_least(key, "block", self.block, 1)
        for row in self.rows:
            for cells_of in ("published", "runs"):
                cells = getattr(row, cells_of)
                if cells and len(cells) != len(self.columns):
                    raise ConfigError(
                        f"{key}: row {row.name!r} has {len(cells)} {cells_of}; "
                        f"expected {len(self.columns)}, one a column"
                    )
            if unknown := set(row.parts) - set(self.parts):
                raise ConfigError(
                    f"{key}: row {row.name!r} has parts {sorted(unknown)}; "
                    f"known: {', '.join(self.parts) or 'none'}"
                )
        for name in self.compare or ():
            if name not in (names := [row.name for row in self.rows]):
                raise ConfigError(f"{key}.compare: no row {name!r}; known: {', '.join(names)}")

    def cited(self) -> list[str]:
        """The runs that fill its cells, each once."""
        return list(dict.fromkeys(run for row in self.rows for run in row.runs if run is not None))


@dataclass(frozen=True)
class FigureSpec:
    """One figure as paper.yaml describes it."""

    kind: str
    """The module of `pipeline/report/figures/` that draws it."""
    title: str
    source: str
    """Which figure of the paper it is like, or what it is beyond."""
    runs: dict[str, str]
    """By the name that the figure gives it: a method, or a value of what is swept."""
    options: dict[str, Any] = field(default_factory=dict)
    """As written: each kind checks its own."""

    def cited(self) -> list[str]:
        """The runs that it shows."""
        return list(dict.fromkeys(self.runs.values()))


@dataclass(frozen=True)
class Note:
    """What the tables of one study say of its data."""

    title: str = ""
    """Follows the table's own title."""
    note: str = ""
    """A sentence or two above the table."""


@dataclass(frozen=True)
class Paper:
    """The content of paper.yaml."""

    tables: dict[str, TableSpec]
    figures: dict[str, FigureSpec] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)
    """By study."""


def load_paper(path: Path) -> Paper:
    """Reads paper.yaml; raises ConfigError naming the file and the key."""
    try:
        return from_mapping(Paper, read_yaml(path), "")
    except ConfigError as error:
        message = str(error).removeprefix(f"{path.name}: ")
        raise ConfigError(f"{path.name}: {message}") from None

"""Figures: one file a kind, found by its name.

A kind's module has `draw(spec, results) -> Figure`, and EXAMINES, which says whether it shows what
stage `examine` writes.
"""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

import matplotlib

from pipeline.report.results import Results
from pipeline.report.spec import FigureSpec
from pipeline.report.style import style
from pipeline.typed import ConfigError, did_you_mean


def kind_of(name: str) -> ModuleType:
    """The module that draws figures of a kind; an unknown one is a ConfigError."""
    kinds = [module.name for module in pkgutil.iter_modules(__path__)]
    if name not in kinds:
        raise ConfigError(f"paper.yaml: no kind of figure {name!r}; {did_you_mean(name, kinds)}")
    return importlib.import_module(f"{__name__}.{name}")


def draw(spec: FigureSpec, results: Results, path: Path) -> None:
    """Writes `path` with .png and .pdf; the same bytes from the same results and versions."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a matplotlibrc says
        matplotlib.rcParams.update(style())
        figure = kind_of(spec.kind).draw(spec, results)
        figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
        figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None, "Producer": None})

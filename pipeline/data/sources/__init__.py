"""The formats of data sets, a file each, found by name."""

import importlib
from types import ModuleType

from pipeline.config import DatasetConfig


def source_of(config: DatasetConfig) -> ModuleType:
    """The file that reads a data set: its `FOLDER`, `download`, `class_table` and `samples`."""
    return importlib.import_module(f"{__name__}.{config.source}")

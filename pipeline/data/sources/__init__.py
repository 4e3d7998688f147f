"""The formats of data sets, a file each, found by name."""

import importlib
from types import ModuleType

from pipeline.config import DatasetConfig


def source_of(config: DatasetConfig) -> ModuleType:
    """The file that reads a data set: its `FOLDER`, `download`, `class_table` and `samples`.

    `download(raw, local)` fills `raw` and returns what it is made of: names of archives or folders,
    each with a checksum, `ALGORITHM:HEX`. Another answer is what makes `prepare` run again.
    """
    return importlib.import_module(f"{__name__}.{config.source}")

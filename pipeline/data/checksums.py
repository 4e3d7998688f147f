"""Checksums of data, and the files that hold them, which DVC hashes instead of the data."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal


def manifest_of(raw: Path) -> Path:
    """Says what a folder of raw data was made of: archives or folders, each with a checksum."""
    return raw / "manifest.json"


def summary_of(prepared: Path) -> Path:
    """Has the checksum of a prepared folder's index, which has one of all its other files."""
    return prepared.with_name(f"{prepared.name}.json")


def files_below(folder: Path) -> list[Path]:
    """All files of a folder and those in it."""
    return [path for path in folder.rglob("*") if path.is_file()]


def digest_of(folder: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the names, from `folder` on, and the contents of files, in whatever order."""
    total = hashlib.sha256()
    for path in sorted(files):
        name = os.fsencode(path.relative_to(folder).as_posix())
        total.update(name + f" {checksum(path, 'sha256')}\n".encode())
    return total.hexdigest()


def checksum(path: Path, algorithm: Literal["md5", "sha256"]) -> str:
    """Of a file's contents, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()

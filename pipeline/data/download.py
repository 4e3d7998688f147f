"""Published archives: fetched from mirrors, verified, and unpacked safely.

What bears its own name is whole; what is unfinished is named `*.partial`.
"""

import errno
import gzip
import http.client
import os
import shutil
import stat
import struct
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tqdm import tqdm

from pipeline.artifacts import commit_folder, fresh_folder
from pipeline.data.checksums import checksum, digest_of
from pipeline.typed import InputError

BLOCK = 1 << 20
MAX_RATIO = 50
"""An archive may unpack to so many times its own size, ..."""
MAX_UNPACKED = 100 << 20
"""... or to so many bytes. What holds more is taken for an attack on the disk."""
MAX_FILES = 1_000_000
TIMEOUT = 60.0
"""Seconds without a byte after which a mirror is given up."""

DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, struct.error,
    NotImplementedError, OverflowError, ValueError,
)  # fmt: skip
DAMAGED_CODES = {
    errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
}  # fmt: skip
"""Of the system, for offsets and names that no archive has."""


class UnsafeMemberError(Exception):
    """A member of an archive that must not be unpacked."""


@dataclass(frozen=True)
class Archive:
    """A published file: where it is served, and the digest that tells any copy of it."""

    name: str
    urls: tuple[str, ...]
    """Mirrors, in the order in which they are tried."""
    algorithm: Literal["md5", "sha256"]
    digest: str
    """In hexadecimal, as published."""
    size: int | None = None
    """In bytes, where published."""

    def mismatch(self, path: Path) -> str | None:
        """Says how the file at `path` differs from the published one; None if it does not."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"{size} bytes; expected {self.size}"
        digest = checksum(path, self.algorithm)
        if digest != self.digest:
            return f"{size} bytes of {self.algorithm} {digest}; expected {self.digest}"
        return None


def fetch(archive: Archive, folder: Path) -> Path:
    """The archive in `folder`: the verified copy that is there, or else one from a mirror.

    A download that breaks off is kept as `NAME.partial`, and the next mirror or the next call
    goes on from there.

    Raises:
      FileNotFoundError: no mirror gave the file; each is listed with its reason.
      OSError: the disk is full; nothing unfinished is left.
    """
    path = folder / archive.name
    reasons = []
    if path.is_file():
        problem = archive.mismatch(path)
        if problem is None:
            return path
        reasons.append(f"{path}: {problem}")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{archive.name}.partial"
    for url in archive.urls:
        problem = _fetch_from(url, archive, partial)
        if problem is None:
            os.replace(partial, path)
            return path
        reasons.append(f"{url}: {problem}")
    raise FileNotFoundError(
        f"{archive.name} could not be fetched:\n  "
        + "\n  ".join(reasons)
        + f"\nTry again later, or fetch it by other means and put it at {path}"
    )


def _fetch_from(url: str, archive: Archive, partial: Path) -> str | None:
    """Completes `partial` from one mirror; says why it failed, None if it is now verified."""
    resumed = partial.exists()
    try:
        _download(url, partial)
    except (OSError, http.client.HTTPException) as error:
        if _is_full(error):
            partial.unlink(missing_ok=True)
            raise _disk_full(partial) from error
        if getattr(error, "filename", None) == str(partial):
            raise OSError(
                error.errno, f"{partial} cannot be written ({error}); make its folder writable"
            ) from error
        return f"{type(error).__name__}: {error}"
    problem = archive.mismatch(partial)
    if problem is None:
        return None
    partial.unlink()
    # The fault may lie in what an earlier mirror left, so this one gets a clean try.
    return _fetch_from(url, archive, partial) if resumed else problem


def _download(url: str, partial: Path) -> None:
    """Appends to `partial` what it lacks; starts over where the server ignores Range."""
    start = partial.stat().st_size if partial.exists() else 0
    headers = {"User-Agent": "stpg-pipeline"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # nothing is lacking: the checksum decides
        raise
    with response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            start = 0
        length = response.headers["Content-Length"]
        total = None if length is None else start + int(length)
        bar = tqdm(
            desc=partial.stem, total=total, initial=start, unit="B", unit_scale=True, disable=None
        )
        with bar, partial.open("ab" if start else "wb") as file:
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
    received = partial.stat().st_size
    if total is not None and received < total:
        raise ConnectionError(f"the connection closed after {received} of {total} bytes")


def extract(archive: Path, target: Path, patterns: Iterable[str] | None = None) -> None:
    """Unpacks a .tar, .tgz or .zip: the files that fit one of the glob patterns, or all of them.

    Each top-level entry is put in `target` whole, in place of one of the same name.

    Raises:
      ValueError: the archive is cut short or damaged, has a member that would be written outside
        `target` or is no file or folder, would unpack to far more than its size, or has no file
        that fits some pattern.
      OSError: the disk is full; nothing unfinished is left.
    """
    unpack = _unpack_zip if archive.suffix == ".zip" else _unpack_tar
    patterns = None if patterns is None else tuple(patterns)
    partial = fresh_folder(target)
    try:
        unpack(archive, partial, patterns)
        for pattern in patterns or ():
            if not any(partial.glob(pattern)):
                raise InputError(f"{archive}: it has no file {pattern}; is it another archive?")
        target.mkdir(exist_ok=True)
        for entry in partial.iterdir():
            place = commit_folder if entry.is_dir() else os.replace
            place(entry, target / entry.name)
    except (UnsafeMemberError, tarfile.FilterError) as error:
        raise InputError(f"{archive}: refused, since {error}") from error
    except InputError:
        raise
    except (*DAMAGED, OSError) as error:
        if _is_full(error):
            raise _disk_full(target) from error
        if isinstance(error, DAMAGED) or error.errno in DAMAGED_CODES:
            raise InputError(
                f"{archive}: cut short or damaged ({archive.stat().st_size} bytes found; {error}); "
                "delete it and run again"
            ) from error
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _unpack_tar(archive: Path, folder: Path, patterns: tuple[str, ...] | None) -> None:
    quota = _Quota(archive)
    with tarfile.open(archive) as tar:
        for member in tar:
            if _wanted(member.name, patterns):
                quota.take(member.name, member.size)
                tar.extract(member, folder, filter="data")
        # tarfile takes a missing end, or a header it cannot read, for the end of the archive.
        whole = tar.fileobj.tell() >= tar.offset + tarfile.BLOCKSIZE
        while block := tar.fileobj.read(BLOCK):  # up to where gzip keeps its own checksum
            whole = whole and not block.strip(b"\0")
        if not whole:
            raise tarfile.ReadError("the end of the archive is missing")


def _unpack_zip(archive: Path, folder: Path, patterns: tuple[str, ...] | None) -> None:
    quota = _Quota(archive)
    with zipfile.ZipFile(archive) as zipped:
        for member in zipped.infolist():
            if _wanted(member.filename, patterns):
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise UnsafeMemberError(f"{member.filename!r} is a link")
                if member.flag_bits & 1:
                    raise UnsafeMemberError(f"{member.filename!r} is encrypted: unpack it by hand")
                quota.take(member.filename, member.file_size)
                zipped.extract(member, folder)


class _Quota:
    """What an archive may still unpack to."""

    def __init__(self, archive: Path) -> None:
        self.bytes = max(MAX_UNPACKED, MAX_RATIO * archive.stat().st_size)
        self.files = MAX_FILES

    def take(self, name: str, size: int) -> None:
        """Raises where a member of `size` bytes is too much."""
        self.bytes -= size
        self.files -= 1
        if self.bytes < 0 or self.files < 0:
            raise UnsafeMemberError(
                f"up to {name!r} it holds more than {MAX_RATIO} times its own size, or more than "
                f"{MAX_FILES} files; unpack it by hand if you trust it"
            )


def _wanted(name: str, patterns: tuple[str, ...] | None) -> bool:
    """Whether a member fits one of the patterns, all of it; refuses one that leads out."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise UnsafeMemberError(f"{name!r} is outside the destination")
    if patterns is None:
        return True
    return any(PurePosixPath("/", path).match(f"/{pattern}") for pattern in patterns)


def link_tree(source: Path, target: Path, patterns: Iterable[str]) -> str:
    """Hard-links the files of `source` that fit the glob patterns to the same place in `target`.

    What is there is replaced. A file that cannot be linked, as from another disk, is copied.

    Returns:
      What a manifest says of them: a checksum of their names and contents.

    Raises:
      ValueError: no file fits some pattern.
      OSError: the disk is full; no half-copied file is left.
    """
    places = set()
    for pattern in patterns:
        files = [file for file in source.glob(pattern) if file.is_file()]
        if not files:
            raise InputError(f"{source}: it has no file {pattern}; is it the published layout?")
        for file in files:
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            _link(file.resolve(), place)
            places.add(place)
    return f"sha256:{digest_of(target, places)}"


def _link(file: Path, place: Path) -> None:
    place.unlink(missing_ok=True)  # else a copy would be written through an earlier link
    try:
        os.link(file, place)
    except OSError:
        try:
            shutil.copyfile(file, place)
        except OSError as error:
            place.unlink(missing_ok=True)
            if _is_full(error):
                raise _disk_full(place) from error
            raise


def _is_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _disk_full(path: Path) -> OSError:
    message = f"no space left to write {path}; nothing unfinished is left: free some, run again"
    return OSError(errno.ENOSPC, message)

"""Pull weights: download, verify, convert if need be, and move into place.

Only one process at a time pulls an entry. It downloads into a hidden `.part` file, which the next
pull resumes after an interruption. It hashes the file on disk and compares the digest with the
manifest, or with the digest recorded on first use. It converts a checkpoint to a model file. Only
then does it rename the file to its final path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from amsnet_cli.errors import OutputError, WeightsError
from amsnet_cli.weights import drive
from amsnet_cli.weights.connection import SourceError, retrying
from amsnet_cli.weights.download import discard, fetch
from amsnet_cli.weights.manifest import ManifestEntry, PublishedFile, sha256_of
from amsnet_cli.weights.records import (
    Origin,
    Record,
    first_use,
    record_first_use,
    write_record,
)
from amsnet_cli.weights.store import entry_path
from amsnet_cli.weights.verify import verify

RESERVE = 32 << 20
"""Bytes of disk space that a pull leaves free."""


def pull(
    entry: ManifestEntry,
    *,
    convert: Callable[[Path, Path, ManifestEntry], None],
    from_file: Path | None = None,
    trust_first_use: bool = False,
    force: bool = False,
    progress: Callable[[int, int | None], None] = lambda done, size: None,
    notice: Callable[[str], None] = lambda line: None,
) -> Path:
    """Make the weights of an entry ready for use.

    Tries the address in `AMSNET_MIRROR` first, with the file's name appended, then the entry's
    sources in order.

    Args:
        entry: a bundled one is only verified.
        convert: called with the published file, the output and the entry; writes a model file,
            or raises a `WeightsError` if the file is not the entry's network.
        from_file: use this file instead of downloading.
        trust_first_use: accept a file without a published digest, and record its digest.
        force: pull again even if the weights exist and are intact.
        progress: called with the bytes done and the total, None if unknown.
        notice: called with lines for the user, such as retries.

    Returns:
        Path of the file.

    Raises:
        WeightsError: offline, no digest to check the file with, or no source has the expected
            file. An earlier file stays untouched; an incomplete download is kept.
        OutputError: the store cannot be written, or the disk is full.
    """
    target = entry_path(entry)
    if entry.bundled:
        verify(entry)
        return target
    if not force and _is_intact(entry):  # Before any write: the store may be read-only.
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target, entry.name, notice):
            if force or not _is_intact(entry):
                file = _expected(entry, trusted=trust_first_use)
                part = target.with_name(f".{entry.name}.part")
                if from_file:
                    source = _copy(from_file, part, file)
                else:
                    source = _download(entry, file, part, progress, notice)
                _install(entry, part, source, convert)
    except OSError as error:
        raise OutputError(
            f"{error.filename or target}: {error.strerror or error}",
            "make room there, or choose another folder with AMSNET_WEIGHTS_DIR",
        ) from error
    return target


@contextlib.contextmanager
def _locked(target: Path, name: str, notice: Callable[[str], None]) -> Iterator[None]:
    """Hold the entry's lock. The system releases it if the process is killed."""
    import filelock

    lock = filelock.FileLock(target.with_name(f".{name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        notice(f"another process is pulling {name}, waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_intact(entry: ManifestEntry) -> bool:
    try:
        verify(entry)
    except WeightsError:
        return False
    return True


def _expected(entry: ManifestEntry, *, trusted: bool) -> PublishedFile:
    """The published file, with the digest recorded on first use if none is published."""
    if entry.file.pinned:
        return entry.file
    if pinned := first_use(entry.name):
        return dataclasses.replace(
            entry.file, size=pinned.size, size_about=None, sha256=pinned.sha256
        )
    if not trusted:
        where = f" from {entry.sources[0]}" if entry.sources else ""
        raise WeightsError(
            f"{entry.name}: no checksum of {entry.file.name} is published, so a download cannot be "
            "verified",
            "either trust the first download with --trust-first-use (its structure is checked, and "
            "its checksum recorded and enforced from then on), or download the file"
            f"{where} with a browser and run: amsnet weights import FILE",
        )
    return entry.file


def _copy(source: Path, part: Path, file: PublishedFile) -> str:
    if not source.is_file():
        raise WeightsError(f"{source}: no such file", "name a file that exists")
    if source.stat().st_size > file.size_limit:
        raise WeightsError(
            f"{source}: {source.stat().st_size} bytes, expected {file.expected_size}",
            "download it again",
        )
    discard(part)
    _check_space(part, source.stat().st_size)
    shutil.copyfile(source, part)
    if wrong := file.difference(part):
        discard(part)
        raise WeightsError(f"{source} is not {file.name}: {wrong}", "download it again")
    return str(source.absolute())


def _download(
    entry: ManifestEntry,
    file: PublishedFile,
    part: Path,
    progress: Callable[[int, int | None], None],
    notice: Callable[[str], None],
) -> str:
    """Try the sources in order; return the one that sent the expected file."""
    if os.environ.get("AMSNET_OFFLINE", "0") not in ("", "0"):
        raise WeightsError(
            f"cannot pull {entry.name} while AMSNET_OFFLINE is set",
            "unset it, or give the file with --from-file",
        )
    sources = list(entry.sources)
    if mirror := os.environ.get("AMSNET_MIRROR"):
        mirror = f"{mirror.rstrip('/')}/{quote(file.name)}"
        sources.insert(0, mirror)
    if not sources:
        raise WeightsError(f"weights {entry.name} have no source", "set AMSNET_MIRROR")
    downloaded = part.stat().st_size if part.exists() else 0
    _check_space(part, file.expected_size * (2 if entry.converted else 1) - downloaded)

    def fetch_from(source: str) -> bool:
        url = drive.locate(source, file.name) if drive.is_folder(source) else source
        allow_http = source == mirror and file.pinned
        return fetch(url, part, origin=source, file=file, allow_http=allow_http, progress=progress)

    failures = []
    for source in sources:
        attempt = functools.partial(fetch_from, source)
        try:
            resumed = retrying(attempt, source, notice)
            wrong = file.difference(part)
            if wrong and resumed:  # The earlier bytes may be wrong: start again.
                discard(part)
                retrying(attempt, source, notice)
                wrong = file.difference(part)
            if not wrong:
                return source
            discard(part)
            failures.append(f"{source}: {wrong}")
        except SourceError as error:
            failures.append(f"{source}: {error}")
    raise WeightsError(
        f"cannot pull {entry.name} ({'; '.join(failures)})",
        "try again later, set AMSNET_MIRROR, or give the file with --from-file",
    )


def _install(
    entry: ManifestEntry,
    part: Path,
    source: str,
    convert: Callable[[Path, Path, ManifestEntry], None],
) -> None:
    """Convert a verified download if need be, record its origin, and move it into place."""
    target = entry_path(entry)
    origin = Origin.of(part, name=entry.file.name, source=source)
    ready = part
    try:
        if entry.converted or not entry.file.pinned:
            ready = target.with_name(f".{entry.name}.converted.part")
            convert(part, ready, entry)
        if not entry.file.pinned:
            record_first_use(entry.name, origin)
        write_record(target, Record(origin=origin, sha256=sha256_of(ready)))
        with ready.open("r+b") as file:
            os.fsync(file.fileno())
        ready.replace(target)
    except WeightsError:
        if not entry.file.pinned:  # Keep a file with the published digest.
            discard(part)
        raise
    finally:
        if ready != part:
            ready.unlink(missing_ok=True)
    discard(part)


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed + RESERVE > free:
        raise OutputError(
            f"{part.parent}: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free",
            "make room, or set AMSNET_WEIGHTS_DIR to another folder",
        )

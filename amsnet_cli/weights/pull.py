"""Pull weights: from what the manifest says to a checked file in the store.

One process at a time works on an entry. It downloads into a hidden `.part` file, which an
interruption leaves and the next pull goes on with; hashes what arrived, as it is on the disk, and
compares it with the digest of the manifest or the one recorded on first use; converts it if it is
not of this program's format; and only then renames it to its place.
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
from amsnet_cli.weights.download import SourceError, discard, fetch, retrying
from amsnet_cli.weights.manifest import Entry, File, sha256_of
from amsnet_cli.weights.records import Record, arrival, pin, pinned_here, write_record
from amsnet_cli.weights.store import entry_path, verify

RESERVE = 32 << 20
"""Bytes of the disk that a pull leaves free."""


def pull(
    entry: Entry,
    *,
    convert: Callable[[Path, Path, Entry], None],
    from_file: Path | None = None,
    trust_first_use: bool = False,
    force: bool = False,
    progress: Callable[[int, int | None], None] = lambda done, size: None,
    notice: Callable[[str], None] = lambda line: None,
) -> Path:
    """Make the weights of an entry ready for use.

    `AMSNET_MIRROR`, an address to which the file's name is added, is tried first; then the
    entry's sources in turn.

    Args:
        entry: a bundled one is only verified.
        convert: writes a model of this program, given the published file, where to write and
            the entry; raises a `WeightsError` if the file is not what the entry says.
        from_file: take this file instead of downloading.
        trust_first_use: take a file that no one has published a digest of, and record its own.
        force: even if the weights are here and in order.
        progress: called with bytes done and bytes in all, or None where no one says.
        notice: called with lines for the user, such as what is tried again.

    Returns:
        Where the file is now.

    Raises:
        WeightsError: offline, nothing to check the file by, or no source gives the file that is
            expected. A file that was there before is untouched; a part that broke off is kept.
        OutputError: the store cannot be written, or the disk is full.
    """
    target = entry_path(entry)
    if entry.bundled:
        verify(entry)
        return target
    if not force and _in_order(entry):  # Also where the store can only be read.
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target, entry.name, notice):
            if force or not _in_order(entry):
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
def _alone(target: Path, name: str, notice: Callable[[str], None]) -> Iterator[None]:
    """Hold the entry's lock; the system releases it if the process is killed."""
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


def _in_order(entry: Entry) -> bool:
    try:
        verify(entry)
    except WeightsError:
        return False
    return True


def _expected(entry: Entry, *, trusted: bool) -> File:
    """The published file, with the digest recorded on first use where it has none of its own."""
    if entry.file.pinned:
        return entry.file
    if pinned := pinned_here(entry.name):
        return dataclasses.replace(
            entry.file, size=pinned.size, size_about=None, sha256=pinned.sha256
        )
    if not trusted:
        where = f" from {entry.sources[0]}" if entry.sources else ""
        raise WeightsError(
            f"{entry.name}: no digest of {entry.file.name} is published, so a download cannot be "
            "checked",
            "either accept what comes the first time with --trust-first-use (its structure is "
            "checked, its digest recorded and enforced from then on), or download the file"
            f"{where} with a browser and run: amsnet weights import FILE",
        )
    return entry.file


def _copy(source: Path, part: Path, file: File) -> str:
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
    entry: Entry,
    file: File,
    part: Path,
    progress: Callable[[int, int | None], None],
    notice: Callable[[str], None],
) -> str:
    """Try the sources in turn; return the one that gave the expected file."""
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
        raise WeightsError(f"weights {entry.name} have no source", "set AMSNET_MIRROR to one")
    have = part.stat().st_size if part.exists() else 0
    _check_space(part, file.expected_size * (2 if entry.converted else 1) - have)

    def fetch_from(source: str) -> bool:
        url = drive.locate(source, file.name) if drive.is_folder(source) else source
        plain = source == mirror and file.pinned
        return fetch(url, part, origin=source, file=file, plain=plain, progress=progress)

    failures = []
    for source in sources:
        attempt = functools.partial(fetch_from, source)
        try:
            resumed = retrying(attempt, source, notice)
            wrong = file.difference(part)
            if wrong and resumed:  # The earlier bytes may be at fault.
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
    entry: Entry, part: Path, source: str, convert: Callable[[Path, Path, Entry], None]
) -> None:
    """Turn a checked download into the file in the store, with its record."""
    target = entry_path(entry)
    came = arrival(part, name=entry.file.name, source=source)
    ready = part
    try:
        if entry.converted or not entry.file.pinned:
            ready = target.with_name(f".{entry.name}.converted.part")
            convert(part, ready, entry)
        if not entry.file.pinned:
            pin(entry.name, came)
        write_record(target, Record(came=came, sha256=sha256_of(ready)))
        with ready.open("r+b") as file:
            os.fsync(file.fileno())
        ready.replace(target)
    except WeightsError:
        if not entry.file.pinned:  # Only then the content is at fault.
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
            "make room, or set AMSNET_WEIGHTS_DIR elsewhere",
        )

"""Write files completely or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from amsnet_cli.errors import OutputError

_LEFTOVER = re.compile(r"\.amsnet-[0-9a-f]{8}\.part")
_HOUR = 3600.0


@contextmanager
def whole_file(path: Path, *, modified_ns: int | None = None) -> Iterator[BinaryIO]:
    """Write a file; an existing one is replaced only when the new one is complete on the disk.

    A process that is killed before leaves a hidden `.amsnet-*.part` file in the same folder.

    Args:
        path: of the file.
        modified_ns: the file's time in nanoseconds since 1970; None for now.

    Yields:
        The open file.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    part = path.with_name(f".amsnet-{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if modified_ns is not None:
            os.utime(part, ns=(modified_ns, modified_ns))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path, *, modified_ns: int | None = None) -> Iterator[Path]:
    """Write a folder; an existing one is replaced only when the new one is complete on the disk.

    A process that is killed before leaves a hidden `.amsnet-*.part` folder beside it; one that is
    killed just between two renames leaves the existing folder as `.NAME.amsnet-old`.

    Args:
        path: of the folder.
        modified_ns: see `whole_file`.

    Yields:
        An empty folder beside it.

    Raises:
        OSError: it cannot be written; an existing folder is unchanged.
    """
    part = path.with_name(f".amsnet-{secrets.token_hex(4)}.part")
    old = path.with_name(f".{path.name}.amsnet-old")
    try:
        part.mkdir()
        yield part
        if hasattr(os, "sync"):
            os.sync()
        if modified_ns is not None:
            os.utime(part, ns=(modified_ns, modified_ns))
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.replace(old)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def write_whole(path: Path, content: bytes, *, modified_ns: int | None = None) -> None:
    """Write all of a file's content, as `whole_file` does."""
    with whole_file(path, modified_ns=modified_ns) as file:
        file.write(content)


def write_output(
    path: Path,
    content: bytes,
    *,
    make_folder: bool = False,
    modified_ns: int | None = None,
    hint: str = "choose another place with -o",
) -> None:
    """Write a result of the program, as `whole_file` does.

    Args:
        path: of the file.
        content: all of it.
        make_folder: make missing folders first.
        modified_ns: see `whole_file`.
        hint: what to try if it cannot be written.

    Raises:
        OutputError: it cannot be written; an existing file is unchanged.
    """
    try:
        if make_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, modified_ns=modified_ns)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})", hint) from error


def clear_leftovers(folder: Path) -> None:
    """Delete the part files, and part folders, of killed processes from a folder.

    What changed within the last hour stays, as its process may still be writing.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if _LEFTOVER.fullmatch(entry.name)]
        for part in (folder / name for name in names):
            if time.time() - _changed(part) > _HOUR:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
    except OSError:  # Leaving them does no harm.
        return


def _changed(part: Path) -> float:
    """Return when a file, or anything in a folder, was changed last; seconds since 1970."""
    below = part.rglob("*") if part.is_dir() else ()
    return float(max(path.lstat().st_mtime for path in (part, *below)))

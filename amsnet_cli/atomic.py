"""Files that appear under their name whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_LEFTOVER = re.compile(r"\.amsnet-[0-9a-f]{8}\.part")
_HOUR = 3600.0


@contextmanager
def whole_file(path: Path, *, modified_ns: int | None = None) -> Iterator[BinaryIO]:
    """Write a file; what was there before is replaced once the new one is complete, on the disk.

    A process that is killed meanwhile leaves a hidden `.amsnet-*.part` beside it.

    Args:
        path: where.
        modified_ns: the file's time in nanoseconds since 1970; now, if None.

    Yields:
        What to write to.

    Raises:
        OSError: it cannot be written; nothing has changed.
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


def write_whole(path: Path, content: bytes, *, modified_ns: int | None = None) -> None:
    """Write all of a file's content, as `whole_file` does."""
    with whole_file(path, modified_ns=modified_ns) as file:
        file.write(content)


def clear_leftovers(folder: Path) -> None:
    """Delete what killed processes left in a folder more than an hour ago.

    No process writes that long without a change to its file.
    """
    try:
        names = [entry.name for entry in os.scandir(folder) if _LEFTOVER.fullmatch(entry.name)]
        for part in (folder / name for name in names):
            if time.time() - part.lstat().st_mtime > _HOUR:
                part.unlink()
    except OSError:  # There is nothing to be lost by leaving them.
        return

"""Files that gzip has packed."""

from __future__ import annotations

import errno
import gzip
import shutil
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile, mkdtemp
from typing import BinaryIO

from amsnet_cli.errors import PhotoError

_PIECE = 1 << 20
_LEVEL = 6


class UnpackedFile:
    """A temporary file with what a packed one holds; it is deleted with this object.

    Attributes:
        path: of the temporary file.
    """

    def __init__(self) -> None:
        folder = mkdtemp(prefix="amsnet-")
        self.path = Path(folder, "unpacked")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def unpack(path: Path) -> UnpackedFile:
    """Unpack a file into a temporary one.

    Raises:
        PhotoError: it is damaged or cut short, or there is no room.
    """
    unpacked = UnpackedFile()
    try:
        with gzip.open(path) as source, unpacked.path.open("wb") as file:
            shutil.copyfileobj(source, file, _PIECE)
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PhotoError(
                f"{path}: no room to unpack it", "name another folder for that with TMPDIR"
            ) from error
        raise PhotoError(
            f"{path}: damaged or cut short ({error})", "copy it again from its source"
        ) from error
    return unpacked


def packed_from(write: Callable[[BinaryIO], None], file: BinaryIO) -> None:
    """Pack what `write` writes; without name and time, so that the same gives the same bytes.

    Raises:
        OSError: it cannot be written.
    """
    with NamedTemporaryFile(prefix="amsnet-") as plain:
        write(plain)  # type: ignore[arg-type] # it is a file in all but its class
        plain.flush()
        plain.seek(0)
        with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
            shutil.copyfileobj(plain, packed, _PIECE)

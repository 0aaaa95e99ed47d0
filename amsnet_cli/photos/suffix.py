"""What a name says of a photo or stack, and which folders are files to their users."""

from __future__ import annotations

import os
from pathlib import Path

ZARR = ".zarr"
"""Of folders that hold one stack in many files."""
ZARR_METADATA = ("zarr.json", ".zarray", ".zgroup")
"""Files, one of which every folder of a Zarr hierarchy has."""
_PACKED = ".gz"
_OME = f".ome{ZARR}"


def split_suffix(name: str) -> tuple[str, str]:
    """Split a file's name before its suffix.

    The suffix is that of `Path`, but for `.fits.gz` and the like and for `.ome.zarr`.
    """
    dot = name.rfind(".")
    if not 0 < dot < len(name) - 1:
        return name, ""
    last = name[dot:].lower()
    if last == _PACKED:
        before = name.rfind(".", 0, dot)
        dot = before if before > 0 else dot
    elif last == ZARR and name.lower().endswith(_OME) and len(name) > len(_OME):
        dot = len(name) - len(_OME)
    return name[:dot], name[dot:]


def suffix_of(name: str) -> str:
    """Return the suffix by which a reader is chosen, in lower case: `.fits.gz`, but `.zarr`."""
    dot = name.rfind(".")
    if not 0 < dot < len(name) - 1:
        return ""
    last = name[dot:].lower()
    return split_suffix(name)[1].lower() if last == _PACKED else last


def size_and_time(path: Path) -> tuple[int, int]:
    """Return the bytes of a file, or of all in a folder, and when they were changed last.

    The time is in nanoseconds since 1970.

    Raises:
        OSError: something in it cannot be looked at.
    """
    status = path.stat()
    size, modified_ns = status.st_size, status.st_mtime_ns
    for folder, _, names in os.walk(path, followlinks=True):
        for name in names:
            one = os.stat(os.path.join(folder, name))  # noqa: PTH116, PTH118 - may be a million
            size, modified_ns = size + one.st_size, max(modified_ns, one.st_mtime_ns)
    return size, modified_ns


def is_zarr(folder: str | Path) -> bool:
    """Return whether a folder is one stack: its name ends in .zarr, or it holds Zarr's metadata."""
    path = os.fspath(folder)
    if not os.path.isdir(path):  # noqa: PTH112 - called for every folder of a batch
        return False
    if path.rstrip("/" + os.sep).lower().endswith(ZARR):
        return True
    return any(os.path.isfile(os.path.join(path, name)) for name in ZARR_METADATA)  # noqa: PTH113, PTH118

"""Photos that come through a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from amsnet_cli.photos.formats import format_of, raw


def save_stream(stream: BinaryIO, folder: Path) -> Path:
    """Save a stream to a file whose suffix fits its content.

    Args:
        stream: read to its end.
        folder: where to put the file.

    Returns:
        The file, `stdin` with a suffix; without one if the format is unknown.
    """
    content = stream.read()
    path = folder / "stdin"
    known = format_of(path, content)
    if known is not None:
        path = path.with_suffix(".dng" if known is raw.FORMAT else known.suffixes[0])
    path.write_bytes(content)
    return path

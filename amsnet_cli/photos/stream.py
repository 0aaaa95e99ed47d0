"""Photos that come through a pipe."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import rawpy

_BEGINNINGS = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n": ".png",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"RIFF": ".webp",
}


def save_stream(stream: BinaryIO, folder: Path) -> Path:
    """Save what a stream holds to a file with the suffix that its content asks for.

    RAW formats look like TIFF from outside, with a small preview as its picture; LibRaw knows them.

    Args:
        stream: read to its end.
        folder: where to put the file.

    Returns:
        The file, `stdin` with a suffix; without one if the content is of no known kind.
    """
    content = stream.read()
    suffix = next((s for start, s in _BEGINNINGS.items() if content.startswith(start)), "")
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        suffix = ".avif"
    elif suffix in ("", ".tif") and content:
        try:
            with rawpy.imread(io.BytesIO(content)):
                suffix = ".dng"
        except rawpy.LibRawError:
            pass
    path = folder / f"stdin{suffix}"
    path.write_bytes(content)
    return path

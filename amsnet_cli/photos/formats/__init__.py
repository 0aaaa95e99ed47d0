"""The file formats: one module each, with its signature, reader, writer and limits.

To add a format, write a module with a `FORMAT` and list it here.
"""

from __future__ import annotations

from pathlib import Path

from amsnet_cli.photos.formats import (
    avif,
    bmp,
    dng,
    exr,
    gif,
    hdr,
    heic,
    jp2,
    jpeg,
    jxl,
    png,
    pnm,
    psd,
    raw,
    tiff,
    webp,
)
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.suffix import ZARR

_MODULES = (jpeg, png, tiff, webp, avif, heic, jxl, exr, psd, jp2, hdr, bmp, gif, pnm, raw)
FORMATS: tuple[Format, ...] = tuple(module.FORMAT for module in _MODULES)
PHOTO_SUFFIXES = frozenset(suffix for known in FORMATS for suffix in known.suffixes)
WRITABLE = {
    **{suffix: known for known in FORMATS if known.write for suffix in known.suffixes},
    **dict.fromkeys(dng.FORMAT.suffixes, dng.FORMAT),
}
_FITS = (".fits", ".fit", ".fts")
STACK_SUFFIXES = frozenset({*_FITS, *(f"{suffix}.gz" for suffix in _FITS), ".btf", ".tf8", ZARR})
"""Of files and folders that `amsnet_cli.stacks` reads and writes, and that hold no photo."""
NAMES = " or ".join([", ".join(known.name for known in FORMATS[:-1]), FORMATS[-1].name])
"""What can be read, for messages."""


def format_of(path: Path, content: bytes) -> Format | None:
    """Find a file's format by its content; RAW formats that LibRaw alone knows by their suffix."""
    if path.suffix.lower() in raw.FORMAT.suffixes or raw.is_raw(content):
        return raw.FORMAT
    head = content[:64]
    return next((known for known in FORMATS if known.matches(head)), None)

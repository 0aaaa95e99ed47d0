"""Whether a folder is fitted as mosaics of RAW files, or as developed photos."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.formats.raw import FORMAT as RAW

RawWay = Literal["auto", "mosaic", "developed"]
"""How RAW files are fitted, see `options.FitOptions.raw`."""


@dataclass(frozen=True, kw_only=True)
class FitKind:
    """What a fit works on.

    Attributes:
        mosaics: whether on mosaics of RAW files, before development.
        with_raw: whether RAW files are read at all; developed, if not `mosaics`.
        left_out: how many photos of the other kind are not read and why, or "".
    """

    mosaics: bool
    with_raw: bool
    left_out: str

    def suits(self, path: Path) -> bool:
        """Whether a file is to be read."""
        return self.with_raw if is_raw_name(path) else not self.mosaics


def kind_of_fit(folder: Path, include: str, raw: RawWay) -> FitKind:
    """Return what a fit to a folder works on.

    Args:
        folder: searched recursively.
        include: glob pattern of the file names.
        raw: see `options.FitOptions.raw`.

    Raises:
        PhotoError: there is no such folder, or no photo in it.
    """
    photos = [path for path in find_photos(folder) if fnmatchcase(path.name, include)]
    count = sum(map(is_raw_name, photos))
    others, left_out = len(photos) - count, ""
    if raw == "developed":
        return FitKind(mosaics=False, with_raw=True, left_out="")
    if raw == "mosaic" or (count and count >= others):
        if others:
            left_out = f"{others} developed: RAW files are fitted before development"
        return FitKind(mosaics=True, with_raw=True, left_out=left_out)
    if count:
        left_out = f"{count} RAW: most photos are developed; give --raw mosaic to fit RAW files"
    return FitKind(mosaics=False, with_raw=False, left_out=left_out)


def is_raw_name(path: Path) -> bool:
    """Whether a file is RAW by its suffix."""
    return path.suffix.lower() in RAW.suffixes

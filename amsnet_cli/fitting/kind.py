"""Whether a folder is fitted as mosaics of RAW files, or as developed photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.formats.raw import FORMAT as RAW

RawWay = Literal["auto", "mosaic", "developed"]
"""How RAW files are fitted, see `options.FitOptions.raw`."""
Photos = Path | Sequence[Path]
"""A folder that is searched recursively, or files."""


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


def kind_of_fit(photos: Photos, include: str, raw: RawWay) -> FitKind:
    """Return what a fit to photos works on.

    Args:
        photos: a folder or files.
        include: glob pattern of the file names.
        raw: see `options.FitOptions.raw`.

    Raises:
        PhotoError: there is no such folder, or no photo in it.
    """
    paths = files_of(photos, include)
    count = sum(map(is_raw_name, paths))
    others, left_out = len(paths) - count, ""
    if raw == "developed":
        return FitKind(mosaics=False, with_raw=True, left_out="")
    if raw == "mosaic" or (count and count >= others):
        if others:
            left_out = f"{others} developed: RAW files are fitted before development"
        return FitKind(mosaics=True, with_raw=True, left_out=left_out)
    if count:
        left_out = f"{count} RAW: most photos are developed; give --raw mosaic to fit RAW files"
    return FitKind(mosaics=False, with_raw=False, left_out=left_out)


def files_of(photos: Photos, include: str) -> list[Path]:
    """List the photos whose names match a glob pattern.

    Raises:
        PhotoError: there is no such folder, or no photo in it.
    """
    paths = find_photos(photos) if isinstance(photos, Path) else photos
    return [path for path in paths if fnmatchcase(path.name, include)]


def is_raw_name(path: Path) -> bool:
    """Whether a file is RAW by its suffix."""
    return path.suffix.lower() in RAW.suffixes

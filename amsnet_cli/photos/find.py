"""Find the photos below a folder, and what is passed over there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.formats import NAMES, PHOTO_SUFFIXES, STACK_SUFFIXES

SIDECAR = "beside a photo"
"""Why a file that programs put beside photos is passed over."""
UNKNOWN = "not a format that can be read"
_SIDECAR_SUFFIXES = frozenset({
    ".aae", ".arp", ".cos", ".dop", ".json", ".nksc", ".on1", ".pp3", ".thm", ".vrd", ".xmp",
})  # fmt: skip
"""Of settings, notes and thumbnails that cameras and photo programs keep for each photo."""
_SYSTEM_FILES = frozenset({"desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"})
"""Files that systems put into folders and hide, in lower case."""
_SUFFIXES_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """A file in a folder that is not taken for a photo.

    Attributes:
        path: the file.
        reason: `SIDECAR` or `UNKNOWN`.
    """

    path: Path
    reason: str


def find_photos(folder: Path, *, recursive: bool = True) -> list[Path]:
    """List the photos in `folder` and below; see `list_folder`."""
    return list_folder(folder, recursive=recursive)[0]


def list_folder(folder: Path, *, recursive: bool = True) -> tuple[list[Path], list[PassedOver]]:
    """List the photos in `folder` and below, by suffix, and the other files.

    Hidden files and folders, and what systems hide, are left out; linked folders are not entered.

    Args:
        folder: where to look.
        recursive: whether to look below.

    Returns:
        Photos and other files; paths begin with `folder` and are sorted by their parts.

    Raises:
        PhotoError: there is no such folder, it cannot be read, or it holds no photo.
    """
    if not folder.is_dir():
        raise PhotoError(f"{folder}: no such folder", "check the path")

    def refuse(error: OSError) -> None:
        raise PhotoError(f"{error.filename}: cannot be read ({error.strerror})") from error

    photos, others = [], []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        for name in files:
            if name.startswith(".") or name.lower() in _SYSTEM_FILES:
                continue
            path, suffix = Path(place, name), Path(name).suffix.lower()
            if suffix in PHOTO_SUFFIXES or suffix in STACK_SUFFIXES:
                photos.append(path)
            else:
                reason = SIDECAR if suffix in _SIDECAR_SUFFIXES else UNKNOWN
                others.append(PassedOver(path=path, reason=reason))
    if not photos:
        hint = f"expected {NAMES}" if recursive else "look below it with --recursive"
        found = f", but {describe_passed_over(others)}" if others else ""
        raise PhotoError(f"{folder}: no photos in it{' or below' * recursive}{found}", hint)
    photos.sort(key=lambda path: path.parts)
    others.sort(key=lambda other: other.path.parts)
    return photos, others


def describe_passed_over(files: Sequence[PassedOver]) -> str:
    """Return how many files there are of which suffix, most first: "2 .txt, 1 .mov"."""
    suffixes = Counter(file.path.suffix.lower() for file in files)
    named = suffixes.most_common(_SUFFIXES_NAMED)
    parts = [f"{count} {suffix or 'without a suffix'}" for suffix, count in named]
    rest = len(files) - sum(count for _, count in named)
    return ", ".join(parts + [f"{rest} more"] * bool(rest))

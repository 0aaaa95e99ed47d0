"""Find the photos below a folder, and what is passed over there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.formats import NAMES, PHOTO_SUFFIXES, STACK_SUFFIXES
from amsnet_cli.photos.suffix import is_zarr, suffix_of

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


@dataclass(frozen=True, kw_only=True, slots=True)
class PassedOver:
    """A file in a folder that is not taken for a photo.

    Attributes:
        path: the file.
        reason: `SIDECAR` or `UNKNOWN`.
    """

    path: Path
    reason: str


def find_photos(folder: Path, *, recursive: bool = True) -> list[Path]:
    """List the photos in `folder` and below, see `list_folder`; a Zarr folder is one itself."""
    return [folder] if is_zarr(folder) else list_folder(folder, recursive=recursive)[0]


def list_folder(folder: Path, *, recursive: bool = True) -> tuple[list[Path], list[PassedOver]]:
    """List the photos in `folder` and below, by suffix, and the other files.

    Returns:
        Photos and other files; paths begin with `folder` and are sorted by their parts.

    Raises:
        PhotoError: see `scan_folder`.
    """
    photos, others = scan_folder(folder, recursive=recursive)
    return [Path(photo.path) for photo in photos], others


def scan_folder(
    folder: Path, *, recursive: bool = True, may_be_empty: bool = False
) -> tuple[list[os.DirEntry[str]], list[PassedOver]]:
    """Return what `list_folder` does, photos as the system lists them: that costs least.

    A Zarr folder is one photo. Hidden files and folders, and what systems hide, are left out;
    linked folders are not entered.

    Args:
        folder: where to look.
        recursive: whether to look below.
        may_be_empty: whether a folder without photos is no error.

    Raises:
        PhotoError: there is no such folder, it cannot be read, or it holds no photo.
    """
    if not folder.is_dir():
        raise PhotoError(f"{folder}: no such folder", "check the path")
    photos, others = [], []
    for file in _files_below(str(folder), recursive=recursive):
        suffix = suffix_of(file.name)
        if suffix in PHOTO_SUFFIXES or suffix in STACK_SUFFIXES or _is_folder(file):
            photos.append(file)
        else:
            reason = SIDECAR if suffix in _SIDECAR_SUFFIXES else UNKNOWN
            others.append(PassedOver(path=Path(file.path), reason=reason))
    if not photos and not may_be_empty:
        hint = f"expected {NAMES}" if recursive else "look below it with --recursive"
        found = f", but {describe_passed_over(others)}" if others else ""
        raise PhotoError(f"{folder}: no photos in it{' or below' * recursive}{found}", hint)
    return photos, others


def _files_below(folder: str, *, recursive: bool) -> Iterator[os.DirEntry[str]]:
    """Yield all files that are not hidden, and Zarr folders, sorted by the parts of their paths."""
    open_folders = [_entries(folder)]
    while open_folders:
        entry = next(open_folders[-1], None)
        if entry is None:
            open_folders.pop()
        elif entry.name.startswith("."):
            continue
        elif _is_folder(entry):
            if is_zarr(entry.path):
                yield entry
            elif recursive and not entry.is_symlink():
                open_folders.append(_entries(entry.path))
        elif entry.name.lower() not in _SYSTEM_FILES:
            yield entry


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError as error:
        raise PhotoError(f"{folder}: cannot be read ({error.strerror})") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def describe_passed_over(files: Sequence[PassedOver]) -> str:
    """Return how many files there are of which suffix, most first: "2 .txt, 1 .mov"."""
    suffixes = Counter(file.path.suffix.lower() for file in files)
    named = suffixes.most_common(_SUFFIXES_NAMED)
    parts = [f"{count} {suffix or 'without a suffix'}" for suffix, count in named]
    rest = len(files) - sum(count for _, count in named)
    return ", ".join(parts + [f"{rest} more"] * bool(rest))

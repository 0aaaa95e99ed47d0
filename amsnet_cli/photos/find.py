"""Find the photos below a folder."""

from __future__ import annotations

import os
from pathlib import Path

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.formats import NAMES, PHOTO_SUFFIXES


def find_photos(folder: Path, *, recursive: bool = True) -> list[Path]:
    """List the photos in `folder` and below, by suffix.

    Hidden files and folders are left out, and linked folders are not entered.

    Args:
        folder: where to look.
        recursive: whether to look below.

    Returns:
        Paths that begin with `folder`, sorted by their parts.

    Raises:
        PhotoError: there is no such folder, it cannot be read, or it holds no photo.
    """
    found = [path for path in _files(folder, recursive=recursive) if _is_photo(path)]
    if not found:
        hint = f"expected {NAMES}" if recursive else "look below it with --recursive"
        raise PhotoError(f"{folder}: no photos in it{' or below' * recursive}", hint)
    return sorted(found, key=lambda path: path.parts)


def other_files(folder: Path, *, recursive: bool = True) -> list[Path]:
    """List the files that `find_photos` passes over because of their suffix; arguments alike."""
    files = [path for path in _files(folder, recursive=recursive) if not _is_photo(path)]
    return sorted(files, key=lambda path: path.parts)


def _files(folder: Path, *, recursive: bool) -> list[Path]:
    if not folder.is_dir():
        raise PhotoError(f"{folder}: no such folder", "check the path")

    def refuse(error: OSError) -> None:
        raise PhotoError(f"{error.filename}: cannot be read ({error.strerror})") from error

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if recursive and not name.startswith(".")]
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return found


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_SUFFIXES

"""XMP sidecars: files beside a photo with the settings and notes of a RAW converter."""

from __future__ import annotations

import filecmp
from pathlib import Path

from amsnet_cli.atomic import write_whole
from amsnet_cli.errors import OutputError
from amsnet_cli.photos.read import read_file

_SUFFIXES = (".xmp", ".XMP")


def find_sidecars(source: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return the sidecars of a photo, and what they are to be called beside its result.

    `a.nef` may have `a.xmp` (Adobe's programs) and `a.nef.xmp` (darktable, digiKam). They go beside
    `b.dng` as `b.xmp` and `b.dng.xmp`.
    """
    named = {}
    for suffix in _SUFFIXES:
        named[source.with_suffix(suffix)] = target.with_suffix(suffix)
        named[source.with_name(source.name + suffix)] = target.with_name(target.name + suffix)
    found: list[tuple[Path, Path]] = []
    for path, copy in named.items():
        same = any(path.samefile(other) for other, _ in found) if path.is_file() else True
        if not same and not (copy.exists() and copy.samefile(path)):
            found.append((path, copy))
    return found


def check_sidecars(sidecars: list[tuple[Path, Path]], *, force: bool) -> None:
    """Refuse to replace files.

    Raises:
        OutputError: there is another file under the name of a copy, and `force` is not set.
    """
    for path, copy in sidecars:
        if copy.exists() and not force and not filecmp.cmp(path, copy, shallow=False):
            raise OutputError(f"{copy}: exists already", "overwrite it with --force")


def copy_sidecars(sidecars: list[tuple[Path, Path]]) -> None:
    """Copy sidecars; each appears under its name when it is complete.

    Raises:
        PhotoError: one cannot be read.
        OutputError: a copy cannot be written.
    """
    for path, copy in sidecars:
        content = read_file(path)
        try:
            write_whole(copy, content)
        except OSError as error:
            raise OutputError(f"{copy}: cannot be written ({error.strerror})") from error

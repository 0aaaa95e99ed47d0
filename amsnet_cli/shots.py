"""The photos of a folder, as a fit learns from them: read once, all of them or windows."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.colour import is_linear
from amsnet_cli.photos.exif import camera_of
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.photo import Pixels, unit_range
from amsnet_cli.photos.read import read_photo

MOST_PHOTOS = 256
"""Photos that are read of a folder; of more, so many are drawn."""
WINDOW = 512
"""Side of a window in pixels."""
_READERS = 2


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a photo, or all of it.

    Attributes:
        pixels: (H, W, 3) as stored: uint8, uint16, or float32 in [0, 1].
        photo: the number of its photo among those that could be read.
    """

    pixels: Pixels
    photo: int

    @property
    def scale(self) -> float:
        """What stands for 1."""
        kind = self.pixels.dtype
        return 1.0 if kind == np.float32 else float(np.iinfo(kind).max)


@dataclass(frozen=True, kw_only=True)
class Shots:
    """What was read of a folder.

    Attributes:
        paths: of the photos that could be read, in the order of their names.
        cameras: for each, what its EXIF says: the camera and the ISO, or None.
        windows: of all photos, in the same order.
        skipped: why the others could not be read.
        found: how many photos the folder holds.
    """

    paths: list[Path]
    cameras: list[tuple[str | None, int | None]]
    windows: list[Window]
    skipped: tuple[str, ...]
    found: int

    def fingerprint(self) -> str:
        """Hash all pixels, to tell whether the folder is still the same."""
        digest = hashlib.sha256()
        for window in self.windows:
            digest.update(np.ascontiguousarray(window.pixels).data)
        return digest.hexdigest()


def read_shots(
    folder: Path,
    *,
    match: str = "*",
    pixels: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
    notice: Callable[[str], None] = lambda line: None,
) -> Shots:
    """Read the photos of a folder, each once and then no more.

    Args:
        folder: searched recursively; only read.
        match: pattern of the names of the photos to read.
        pixels: to be kept in memory at once; where the photos have more, each gives windows of
            its share, at least one.
        seed: draws the windows, and the photos where there are more than `MOST_PHOTOS`.
        progress: called with how many are read, and of how many.
        notice: called with a line for each photo that is skipped.

    Raises:
        PhotoError: no photo can be read, or none is named so.
    """
    paths = [path for path in find_photos(folder) if fnmatchcase(path.name, match)]
    if not paths:
        raise PhotoError(f"{folder}: no photo in it is named like {match}", "try another --match")
    found = len(paths)
    if found > MOST_PHOTOS:
        drawn = np.random.default_rng((seed, 2)).choice(found, MOST_PHOTOS, replace=False)
        paths = [paths[i] for i in sorted(drawn)]
    most = max(WINDOW * WINDOW, pixels // len(paths))
    kept: list[Path] = []
    cameras, windows, skipped = [], [], []
    for number, (path, read) in enumerate(_reads(paths, most, seed), 1):
        try:
            camera, parts = read.result()
        except PhotoError as error:
            skipped.append(str(error))
            notice(f"skipped {error}")
        else:
            windows += [Window(pixels=part, photo=len(kept)) for part in parts]
            cameras.append(camera)
            kept.append(path)
        progress(number, len(paths))
    if not kept:
        raise PhotoError(f"{folder}: none of its {len(paths)} photos can be read")
    return Shots(paths=kept, cameras=cameras, windows=windows, skipped=tuple(skipped), found=found)


_Read = tuple[tuple[str | None, int | None], list[Pixels]]


def _reads(paths: list[Path], most: int, seed: int) -> Iterator[tuple[Path, Future[_Read]]]:
    """Read photos side by side, few at a time, as each may be large."""
    with ThreadPoolExecutor(_READERS) as readers:
        ahead: deque[tuple[Path, Future[_Read]]] = deque()
        for i, path in enumerate(paths):
            ahead.append((path, readers.submit(_read, path, most, (seed, 1, i))))
            if len(ahead) > _READERS:
                yield ahead.popleft()
        yield from ahead


def _read(path: Path, most: int, key: tuple[int, int, int]) -> _Read:
    """Read a photo and keep all of it, or windows of `most` pixels together."""
    photo = read_photo(path)
    pixels = photo.pixels
    if pixels.dtype == np.float32 or is_linear(photo.icc):
        pixels = unit_range(photo)[0]
    height, width = pixels.shape[:2]
    pixels = np.broadcast_to(pixels, (height, width, 3))
    parts = [pixels]
    if height * width > most:
        rng = np.random.default_rng(key)
        corners = [
            (rng.integers(max(1, height - WINDOW)), rng.integers(max(1, width - WINDOW)))
            for _ in range(most // (WINDOW * WINDOW))
        ]
        parts = [pixels[y : y + WINDOW, x : x + WINDOW].copy() for y, x in corners]
    return camera_of(photo.exif), parts

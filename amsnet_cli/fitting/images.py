"""The photos of a folder, as a fit learns from them: read once, all of them or windows."""

from __future__ import annotations

import hashlib
import math
import os
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
from amsnet_cli.photos.photo import Pixels
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.photos.read import read_photo

MOST_PHOTOS = 256
"""Photos that are read of a folder, unless more are asked for."""
MOST_BYTES = 800_000_000
"""The same of what their files hold together: RAW takes long to develop."""
WINDOW = 512
"""Side of a window in pixels."""
_READERS = min(8, max(2, os.cpu_count() or 2))
_AT_ONCE = 128_000_000
"""Bytes of files that are decoded at a time: two RAW files of 50 megapixels, of some 2 GB each."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A part of a photo, or all of it.

    Attributes:
        pixels: (H, W, 3) as stored: uint8, uint16, or float32 in [0, 1].
        photo: the number of its photo among those that could be read.
        quantisation_step: that its file was coded with, see `Photo`.
    """

    pixels: Pixels
    photo: int
    quantisation_step: float | None = None

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
    most_photos: int = MOST_PHOTOS,
    most_bytes: float = MOST_BYTES,
    progress: Callable[[int, int], None] = lambda done, of: None,
    notice: Callable[[str], None] = lambda line: None,
) -> Shots:
    """Read the photos of a folder, each at most once.

    They are drawn one after another, until there are as many pixels, photos or bytes as may be.

    Args:
        folder: searched recursively; only read.
        match: pattern of the names of the photos to read.
        pixels: to be kept in memory, about; where the photos have more, each gives windows of its
            share, at least one.
        seed: draws the photos and their windows.
        most_photos: to be read.
        most_bytes: of their files together, unless a single one has more.
        progress: called with how many are read, and of about how many.
        notice: called with a line for each photo that is skipped.

    Raises:
        PhotoError: no photo can be read, or none is named so.
    """
    paths = [path for path in find_photos(folder) if fnmatchcase(path.name, match)]
    if not paths:
        raise PhotoError(f"{folder}: no photo in it is named like {match}", "try another --match")
    drawn = _drawn(paths, seed, most_photos, most_bytes)
    most = max(WINDOW * WINDOW, pixels // len(drawn))
    photos: dict[int, _Read] = {}
    skipped: dict[int, str] = {}
    kept = 0
    for number, (i, read) in enumerate(_reads(paths, drawn, most, seed), 1):
        try:
            photos[i] = read.result()
        except PhotoError as error:
            skipped[i] = str(error)
            notice(f"skipped {error}")
        else:
            kept += sum(part.shape[0] * part.shape[1] for part in photos[i][2])
        to_come = math.ceil(number * max(0, pixels - kept) / max(1, kept))
        progress(number, min(len(drawn), number + to_come))
        if kept >= pixels:
            break
    if not photos:
        raise PhotoError(f"{folder}: none of {len(drawn)} photos in it can be read")
    in_order = sorted(photos)
    return Shots(
        paths=[paths[i] for i in in_order],
        cameras=[photos[i][0] for i in in_order],
        windows=[
            Window(pixels=part, photo=number, quantisation_step=photos[i][1])
            for number, i in enumerate(in_order)
            for part in photos[i][2]
        ],
        skipped=tuple(skipped[i] for i in sorted(skipped)),
        found=len(paths),
    )


def _drawn(paths: list[Path], seed: int, most_photos: int, most_bytes: float) -> dict[int, int]:
    """Draw the numbers of photos to read, as many as may be; with the bytes of each."""
    drawn: dict[int, int] = {}
    for i in np.random.default_rng((seed, 2)).permutation(len(paths))[:most_photos].tolist():
        size = _size(paths[i])
        if drawn and sum(drawn.values()) + size > most_bytes:
            break
        drawn[i] = size
    return drawn


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # Reading it will say what is wrong.
        return 0


_Read = tuple[tuple[str | None, int | None], float | None, list[Pixels]]


def _reads(
    paths: list[Path], drawn: dict[int, int], most: int, seed: int
) -> Iterator[tuple[int, Future[_Read]]]:
    """Read photos side by side, few at a time, as each may be large."""
    ahead: deque[tuple[int, Future[_Read]]] = deque()
    with ThreadPoolExecutor(_READERS) as readers:
        try:
            for i, size in drawn.items():
                while ahead and (
                    len(ahead) > _READERS or sum(drawn[j] for j, _ in ahead) + size > _AT_ONCE
                ):
                    yield ahead.popleft()
                ahead.append((i, readers.submit(_read, paths[i], most, (seed, 1, i))))
            while ahead:
                yield ahead.popleft()
        finally:  # There may be enough, or the user has.
            readers.shutdown(cancel_futures=True)


def _read(path: Path, most: int, key: tuple[int, int, int]) -> _Read:
    """Read a photo and keep all of it, or windows of `most` pixels together."""
    photo = read_photo(path)
    pixels = photo.pixels
    if pixels.dtype == np.float32 or is_linear(photo.icc):
        pixels = PixelCodec.of(photo).decode(pixels)
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
    return camera_of(photo.exif), photo.quantisation_step, parts

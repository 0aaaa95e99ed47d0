"""Training images: load the photos of a folder, whole or as random crops."""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from amsnet_cli.errors import AmsnetError, PhotoError, bugs_named
from amsnet_cli.fitting.kind import Photos, files_of
from amsnet_cli.fitting.stack_pages import pages_to_learn
from amsnet_cli.photos.colour import is_linear
from amsnet_cli.photos.exif import camera_of
from amsnet_cli.photos.photo import Pixels
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.photos.read import read_photo
from amsnet_cli.stacks.find import open_stack

MAX_IMAGES = 256
"""Default limit of photos read from a folder."""
MAX_FILE_BYTES = 800_000_000
"""Default limit of their file sizes together: RAW takes long to develop."""
CROP_SIZE = 512
"""Side of a crop in pixels."""
_READERS = min(8, max(2, os.cpu_count() or 2))
_BYTES_AT_ONCE = 128_000_000
"""Size of the files decoded at a time: two RAW files of 50 megapixels, which take 2 GB each."""


@dataclass(frozen=True, kw_only=True)
class ImageCrop:
    """A crop of a photo, or all of it.

    Attributes:
        pixels: (H, W, 3) as stored: uint8, uint16, or float32 in [0, 1].
        image: index of its photo in `ImageFolder.paths`.
        quantisation_step: of its file, see `Photo`.
        views: (H, W, 3) float32, the mean of other views of the same scene in the same scale, with
            other noise; None for none.
        moves: whether there are other views, in which something has moved.
    """

    pixels: Pixels
    image: int
    quantisation_step: float | None = None
    views: Pixels | None = None
    moves: bool = False


CropT_co = TypeVar("CropT_co", bound=ImageCrop, covariant=True)
Seed = tuple[int, ...]
Camera = tuple[str | None, int | None]
"""Name and ISO, from EXIF data."""


@dataclass(frozen=True, kw_only=True)
class ReadPhoto(Generic[CropT_co]):
    """What is kept of a photo that was read.

    Attributes:
        camera: see `Camera`.
        crops: of it; their `image` is set later.
    """

    camera: Camera
    crops: Sequence[CropT_co]


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Generic[CropT_co]):
    """The training images of a folder.

    Attributes:
        paths: of the photos that were read, sorted.
        cameras: for each, camera and ISO from its EXIF data, or None.
        crops: of all photos, in the same order.
        skipped: for each photo that could not be read, why.
        found: how many photos the folder holds.
    """

    paths: list[Path]
    cameras: list[Camera]
    crops: Sequence[CropT_co]
    skipped: tuple[str, ...]
    found: int

    def fingerprint(self) -> str:
        """Hash of all pixels, to check that the folder is still the same."""
        digest = hashlib.sha256()
        for crop in self.crops:
            digest.update(np.ascontiguousarray(crop.pixels).data)
        return digest.hexdigest()

    def camera_ranges(self) -> dict[str, list[int]]:
        """Return the cameras, sorted, each with its lowest and highest ISO if a photo says."""
        cameras: dict[str, list[int]] = {}
        for name, iso in self.cameras:
            if name is not None:
                cameras = merge_cameras(cameras, {name: [] if iso is None else [iso]})
        return cameras


def merge_cameras(
    first: Mapping[str, list[int]], second: Mapping[str, list[int]]
) -> dict[str, list[int]]:
    """Merge two results of `ImageFolder.camera_ranges`."""
    cameras = {}
    for name in sorted({**first, **second}):
        isos = [*first.get(name, []), *second.get(name, [])]
        cameras[name] = [min(isos), max(isos)] if isos else []
    return cameras


def to_tensor(pixels: Pixels) -> Tensor:
    """Return (H, W, C) stored values, floats in [0, 1], as a (C, H, W) float32 tensor in [0, 1]."""
    return torch.from_numpy(PixelCodec(dtype=pixels.dtype).decode(pixels)).permute(2, 0, 1)


def read_developed(path: Path, max_pixels: int, seed: Seed) -> ReadPhoto[ImageCrop]:
    """Read a photo, or a stack; keep all of it, or random crops of `max_pixels` together.

    Pages of stacks are taken as a network sees them when it denoises them: in the scale in which
    their noise is even.

    Raises:
        PhotoError: it cannot be read.
    """
    with bugs_named(path):
        stack = open_stack(path)
        if stack is not None:
            pages = pages_to_learn(stack, max_pixels, seed)
            return ReadPhoto(
                camera=(None, None),
                crops=[
                    ImageCrop(pixels=page.seen, image=0, views=page.views, moves=page.moves)
                    for page in pages
                ],
            )
        photo = read_photo(path)
    pixels = photo.pixels
    if pixels.dtype == np.float32 or is_linear(photo.icc):
        pixels = PixelCodec.of(photo).decode(pixels)
    height, width = pixels.shape[:2]
    pixels = np.broadcast_to(pixels, (height, width, 3))
    crops = [pixels]
    if height * width > max_pixels:
        corners = random_corners((height, width), max_pixels, seed)
        crops = [pixels[y : y + CROP_SIZE, x : x + CROP_SIZE].copy() for y, x in corners]
    return ReadPhoto(
        camera=camera_of(photo.exif),
        crops=[
            ImageCrop(pixels=crop, image=0, quantisation_step=photo.quantisation_step)
            for crop in crops
        ],
    )


def random_corners(size: tuple[int, int], max_pixels: int, seed: Seed) -> list[tuple[int, int]]:
    """Draw top and left of crops of `CROP_SIZE`, of `max_pixels` together."""
    rng = np.random.default_rng(seed)
    height, width = size
    return [
        (
            int(rng.integers(max(1, height - CROP_SIZE))),
            int(rng.integers(max(1, width - CROP_SIZE))),
        )
        for _ in range(max_pixels // (CROP_SIZE * CROP_SIZE))
    ]


def load_images(
    photos: Photos,
    read: Callable[[Path, int, Seed], ReadPhoto[CropT_co]],
    *,
    include: str = "*",
    suits: Callable[[Path], bool] = lambda path: True,
    max_pixels: int,
    seed: int,
    max_images: int = MAX_IMAGES,
    max_file_bytes: float = MAX_FILE_BYTES,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_skip: Callable[[str], None] = lambda reason: None,
) -> ImageFolder[CropT_co]:
    """Load training images, each file read at most once.

    Photos are drawn at random until a limit is reached.

    Args:
        photos: a folder or files, never written to.
        read: reads a photo of at most so many pixels with a seed, as `read_developed`.
        include: glob pattern of the file names to read.
        suits: whether to read a file.
        max_pixels: to keep in memory, about; where the photos have more, each gives crops of its
            share, at least one.
        seed: of the photos drawn and their crops.
        max_images: photos to read.
        max_file_bytes: size of their files together, unless a single file is larger.
        on_progress: called with the number of photos read, and about how many there will be.
        on_skip: called with the reason for each photo that is skipped.

    Raises:
        PhotoError: no photo matches, or none can be read.
    """
    paths = [path for path in files_of(photos, include) if suits(path)]
    if not paths:
        raise PhotoError(f"{photos}: no photo matches {include}", "try another --include")
    drawn = _draw(paths, seed, max_images, max_file_bytes)
    pixels_each = max(CROP_SIZE * CROP_SIZE, max_pixels // len(drawn))
    read_photos: dict[int, ReadPhoto[CropT_co]] = {}
    skipped: dict[int, str] = {}
    kept = 0
    ahead = _read_ahead(read, paths, drawn, pixels_each, seed)
    for number, (i, photo) in enumerate(ahead, 1):
        try:
            read_photos[i] = photo.result()
        except AmsnetError as error:
            skipped[i] = str(error)
            on_skip(str(error))
        else:
            shapes = [crop.pixels.shape for crop in read_photos[i].crops]
            kept += sum(height * width for height, width, _ in shapes)
        to_come = math.ceil(number * max(0, max_pixels - kept) / max(1, kept))
        on_progress(number, min(len(drawn), number + to_come))
        if kept >= max_pixels:
            break
    if not read_photos:
        source = photos if isinstance(photos, Path) else paths[0]
        raise PhotoError(f"{source}: none of its {len(drawn)} photos can be read")
    in_order = sorted(read_photos)
    return ImageFolder(
        paths=[paths[i] for i in in_order],
        cameras=[read_photos[i].camera for i in in_order],
        crops=[
            replace(crop, image=number)
            for number, i in enumerate(in_order)
            for crop in read_photos[i].crops
        ],
        skipped=tuple(skipped[i] for i in sorted(skipped)),
        found=len(paths),
    )


def _draw(paths: list[Path], seed: int, max_images: int, max_bytes: float) -> dict[int, int]:
    """Draw photos within the limits; return the size of each file, by index."""
    drawn: dict[int, int] = {}
    for i in np.random.default_rng((seed, 2)).permutation(len(paths))[:max_images].tolist():
        size = _size(paths[i])
        if drawn and sum(drawn.values()) + size > max_bytes:
            break
        drawn[i] = size
    return drawn


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # Reading it will say what is wrong.
        return 0


def _read_ahead(
    read: Callable[[Path, int, Seed], ReadPhoto[CropT_co]],
    paths: list[Path],
    drawn: dict[int, int],
    pixels_each: int,
    seed: int,
) -> Iterator[tuple[int, Future[ReadPhoto[CropT_co]]]]:
    """Read photos in parallel, few at a time, as each may be large."""
    ahead: deque[tuple[int, Future[ReadPhoto[CropT_co]]]] = deque()
    with ThreadPoolExecutor(_READERS) as readers:
        try:
            for i, size in drawn.items():
                while ahead and (
                    len(ahead) > _READERS or sum(drawn[j] for j, _ in ahead) + size > _BYTES_AT_ONCE
                ):
                    yield ahead.popleft()
                ahead.append((i, readers.submit(read, paths[i], pixels_each, (seed, 1, i))))
            while ahead:
                yield ahead.popleft()
        finally:  # The caller may have stopped early.
            readers.shutdown(cancel_futures=True)

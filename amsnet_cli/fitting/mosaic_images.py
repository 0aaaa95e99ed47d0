"""Training images of RAW files: parts of their mosaics, before development."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.errors import AmsnetError, PhotoError, bugs_named
from amsnet_cli.fitting.images import CROP_SIZE, ImageCrop, ReadPhoto, Seed, random_corners
from amsnet_cli.inference.camera_noise import remembered_gain
from amsnet_cli.inference.denoise_mosaic import LEAST_SIDE
from amsnet_cli.inference.mosaic_noise import SensorNoiseFound, find_noise
from amsnet_cli.photos.exif import camera_of
from amsnet_cli.photos.mosaic import Box, Mosaic
from amsnet_cli.photos.read import read_mosaic_photo

LARGEST_CROP = 4 * CROP_SIZE * CROP_SIZE
"""Photosites of the largest crop: the network denoises each at once."""


@dataclass(frozen=True, kw_only=True)
class MosaicCrop(ImageCrop):
    """A part of a mosaic, or all of it; `pixels` are its values, (H, W, 1).

    Attributes:
        mosaic: the part.
        noise: what `find_noise` finds in the whole mosaic, and so what denoising will be told.
    """

    mosaic: Mosaic
    noise: SensorNoiseFound


def read_mosaic_crops(path: Path, max_pixels: int, seed: Seed) -> ReadPhoto[MosaicCrop]:
    """Read a RAW file; keep all of its mosaic if that is small, else random crops.

    Args:
        path: the file.
        max_pixels: photosites of the crops together.
        seed: of the crops.

    Raises:
        NotAMosaicError: it holds no mosaic.
        PhotoError: it cannot be read, is too small, or its noise cannot be measured.
    """
    with bugs_named(path):
        photo = read_mosaic_photo(path)
    mosaic = photo.mosaic
    height, width = mosaic.values.shape
    if min(height, width) < LEAST_SIDE:
        raise PhotoError(f"{path}: a mosaic of {width}x{height} is too small to fit to")
    try:
        noise = find_noise(mosaic, camera=remembered_gain(photo))
    except AmsnetError as error:
        raise PhotoError(f"{path}: {error.what}") from error
    boxes: list[Box] = [(0, height, 0, width)]
    most = min(max_pixels, height * width)
    if height * width > min(max_pixels, LARGEST_CROP):
        boxes = [
            (top, min(top + CROP_SIZE, height), left, min(left + CROP_SIZE, width))
            for top, left in random_corners((height, width), most, seed)
        ]
    crops = []
    for box in boxes:
        part = mosaic.part(box)
        values = part.values[..., None]
        crops.append(MosaicCrop(pixels=values, image=0, mosaic=part, noise=noise))
    return ReadPhoto(camera=camera_of(photo.exif), crops=crops)

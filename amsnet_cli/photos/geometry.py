"""Regions and orientation of a photo's pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.exif import without_thumbnail
from amsnet_cli.photos.metadata import marked_upright, without_whole_picture
from amsnet_cli.photos.photo import Photo, Pixels


def stored_box(photo: Photo, region: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Find a region of the upright picture in the pixels as they are stored.

    Args:
        photo: its orientation says how it is stored (EXIF 2.32, tag Orientation).
        region: x, y, width and height in pixels, from the top left of the upright picture.

    Returns:
        top, bottom, left, right; the ends are exclusive.

    Raises:
        PhotoError: the region is empty or not within the picture.
    """
    height, width = photo.pixels.shape[:2]
    turned = photo.orientation >= 5
    upright = (height, width) if turned else (width, height)
    x, y, across, down = region
    if min(x, y) < 0 or min(across, down) < 1 or x + across > upright[0] or y + down > upright[1]:
        raise PhotoError(
            f"{across}x{down} pixels at {x},{y} are not within the picture",
            f"it has {upright[0]}x{upright[1]}",
        )
    columns, rows = (x, x + across), (y, y + down)
    if photo.orientation in (2, 3, 6, 7):
        columns = (upright[0] - columns[1], upright[0] - columns[0])
    if photo.orientation in (3, 4, 7, 8):
        rows = (upright[1] - rows[1], upright[1] - rows[0])
    return (*columns, *rows) if turned else (*rows, *columns)


def cropped(photo: Photo, box: tuple[int, int, int, int]) -> Photo:
    """Cut out a part, as a view; its thumbnail and panorama data are removed.

    Args:
        photo: any.
        box: as from `stored_box`.
    """
    area = np.s_[box[0] : box[1], box[2] : box[3]]
    alpha = None if photo.alpha is None else photo.alpha[area]
    return without_whole_picture(replace(photo, pixels=photo.pixels[area], alpha=alpha))


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror pixels as the EXIF orientation says, as a view.

    Args:
        pixels: (H, W, ...).
        orientation: 1 to 8.
    """
    turned = np.swapaxes(pixels, 0, 1) if orientation >= 5 else pixels
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return turned[rows, columns]


def turned_upright(photo: Photo) -> Photo:
    """Turn the pixels of a photo upright, and its metadata with them."""
    if photo.orientation == 1:
        return marked_upright(photo)
    alpha = photo.alpha
    if alpha is not None:
        alpha = np.ascontiguousarray(upright(alpha, photo.orientation))
    pixels = np.ascontiguousarray(upright(photo.pixels, photo.orientation))
    block = photo.exif and without_thumbnail(photo.exif)
    return marked_upright(replace(photo, pixels=pixels, alpha=alpha, exif=block))


def window_starts(length: int, window: int, most: int) -> list[int]:
    """Spread up to `most` windows evenly along a side; returns where they start, in pixels."""
    if length <= window:
        return [0]
    count = min(most, -(-length // window))
    return [round(i * (length - window) / (count - 1)) for i in range(count)]

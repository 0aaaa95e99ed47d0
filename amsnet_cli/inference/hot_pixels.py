"""Mend the hot pixels of a photo, before anything else is made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from amsnet_cli.noise.hot_pixels import (
    HOT_PIXEL_REACH,
    HotPixelConfig,
    find_hot_pixels,
    median_of_neighbours,
)
from amsnet_cli.photos.photo import Photo, Pixels
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.pipeline import row_parts


def mend_hot_pixels(photo: Photo, config: HotPixelConfig = HotPixelConfig()) -> tuple[Photo, int]:
    """Replace hot pixels by the median of their neighbours.

    Args:
        photo: any depth, grey or RGB; the same is returned if it has none.
        config: see `HotPixelConfig`.

    Returns:
        The photo, and how many values of its pixels are new.
    """
    codec, pixels, count = PixelCodec.of(photo), photo.pixels, 0
    height, width = pixels.shape[:2]
    for top, end in row_parts(height, width):
        first = max(0, top - HOT_PIXEL_REACH)
        rows = photo.pixels[first : end + HOT_PIXEL_REACH]
        places = find_hot_pixels(_planes(codec.decode(rows)), config)
        if not len(places):
            continue
        if pixels is photo.pixels:
            pixels = pixels.copy()
        channel, row, column = places.unbind(1)
        mended = median_of_neighbours(_planes(rows.astype(np.float32)), places)
        pixels[first + row.numpy(), column.numpy(), channel.numpy()] = mended.numpy()
        count += len(places)
    return (replace(photo, pixels=pixels) if count else photo), count


def _planes(rows: Pixels) -> torch.Tensor:
    """Return (h, w, C) float32 as (C, h, w)."""
    return torch.from_numpy(rows).permute(2, 0, 1)

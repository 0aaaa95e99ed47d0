"""Replace the hot pixels of a photo before it is denoised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from amsnet_cli.inference.tensor_codec import on_device
from amsnet_cli.noise.hot_pixels import (
    HOT_PIXEL_REACH,
    HotPixelConfig,
    find_hot_pixels,
    median_of_neighbours,
)
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.pipeline import row_parts


def mend_hot_pixels(
    photo: Photo,
    config: HotPixelConfig = HotPixelConfig(),
    *,
    device: torch.device = torch.device("cpu"),
) -> tuple[Photo, int]:
    """Replace hot pixels by the median of their neighbours.

    Values of float pictures that are outside of their range stay, as in all that follows.

    Args:
        photo: any depth, grey or RGB; the same is returned if it has none.
        config: see `HotPixelConfig`.
        device: where to look for them.

    Returns:
        The photo, and how many values of its pixels are new.
    """
    pixels, count = photo.pixels, 0
    highest = PixelCodec.of(photo).high if pixels.dtype == np.float32 else np.inf
    height, width = pixels.shape[:2]
    for top, end in row_parts(height, width, device):
        first = max(0, top - HOT_PIXEL_REACH)
        rows = photo.pixels[first : end + HOT_PIXEL_REACH]
        planes = on_device(rows, device).permute(2, 0, 1)
        if planes.dtype != torch.uint8:
            planes = planes.float()
        places = find_hot_pixels(planes, config)
        places = places[planes[places.unbind(1)] <= highest]
        if not len(places):
            continue
        if pixels is photo.pixels:
            pixels = pixels.copy()
        channel, row, column = places.cpu().numpy().T
        pixels[first + row, column, channel] = median_of_neighbours(planes, places).cpu().numpy()
        count += len(places)
    return (replace(photo, pixels=pixels) if count else photo), count

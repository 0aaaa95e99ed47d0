"""Measure the noise of a photo without its clean version: its level, and whether it is white."""

from __future__ import annotations

from dataclasses import replace

import torch

from amsnet_cli.noise.level import noise_level
from amsnet_cli.noise.whiteness import WHITENESS_BLOCK, is_white
from amsnet_cli.photos.geometry import window_starts
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec

WINDOW = 256
"""Side in pixels of the windows that the noise level is measured in."""
MAX_WINDOWS = 8
"""Windows along each side of a large photo."""
LEVEL_QUANTILE = 0.25
"""Quantile of the windows' levels that is the photo's: some windows may be full of texture."""
WHITENESS_PIXELS = 1 << 17
"""About how many pixels are used to detect white noise."""


def photo_noise_level(photo: Photo, scale: Photo | None = None) -> float:
    """Estimate the noise of a photo, mean over its channels, on a scale of 255.

    Large photos are measured in up to 64 windows, evenly spread, and the lower quartile is
    returned.

    Args:
        photo: any depth, grey or RGB; measured as stored, also if that is linear light.
        scale: the photo whose range becomes [0, 255], so that levels of several can be compared;
            None for `photo` itself.

    Returns:
        The standard deviation; nan where it cannot be estimated, see `noise.level.noise_level`.
    """
    codec = PixelCodec.of(replace(scale or photo, icc=None))
    height, width = photo.pixels.shape[:2]
    levels = []
    for top in window_starts(height, WINDOW, MAX_WINDOWS):
        for left in window_starts(width, WINDOW, MAX_WINDOWS):
            window = codec.decode(photo.pixels[top : top + WINDOW, left : left + WINDOW])
            levels.append(noise_level(torch.from_numpy(window).permute(2, 0, 1)).mean())
    return 255 * float(torch.stack(levels).nanquantile(LEVEL_QUANTILE))


def has_white_noise(photo: Photo) -> bool:
    """Return whether a photo's noise is white, by `is_white` of evenly spread rows."""
    block = WHITENESS_BLOCK
    height, width, channels = photo.pixels.shape
    wanted = max(1, WHITENESS_PIXELS // (block * width))
    step = max(1, -(-(height // block) // wanted))
    whole = photo.pixels[: height // block * block]
    rows = whole.reshape(-1, block, width, channels)[::step]
    unit = PixelCodec.of(photo).decode(rows.reshape(-1, width, channels))
    return is_white(torch.from_numpy(unit).permute(2, 0, 1))

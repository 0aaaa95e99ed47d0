"""Find hot pixels: sensor elements that stay bright, however little light falls on them.

A hot pixel is alone. A star or a lamp is not: air and lens spread the light of a point, and its
direct neighbours get a share of it. Where that share can be told from the noise, so can the two.
A hot pixel is also of one colour, where each has its filter, as no star is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from amsnet_cli.noise.level import MAD_TO_SIGMA

HOT_PIXEL_REACH = 4
"""Pixels around a pixel that decide whether it is hot."""


@dataclass(frozen=True, kw_only=True)
class HotPixelConfig:
    """Numbers of `find_hot_pixels`; `tests/test_hot_pixels.py` shows that they hold.

    Attributes:
        neighbour_range: a hot pixel exceeds its 8 neighbours by more than this multiple of the
            range of their values.
        sharpest_point: what a point of light adds to each of its direct neighbours at least,
            relative to its own pixel. It is .053 for a Gaussian with a full width at half maximum
            of .7 pixels, in the middle of its pixel.
        sharpest_coloured_point: the same for light that only one of three channels sees, which has
            passed a mosaic of filters and a demosaicker; .21 for a Gaussian of 1.15 pixels.
        other_channels: what the other channels may show of light of one colour, relative to it
            and beyond their noise.
        certainty: standard errors by which the neighbours must have less than that share, and not
            lie further below their surroundings (sharpening darkens the neighbours of a point).
    """

    neighbour_range: float = 5.0
    sharpest_point: float = 0.05
    sharpest_coloured_point: float = 0.2
    other_channels: float = 0.1
    certainty: float = 5.0


def find_hot_pixels(image: Tensor, config: HotPixelConfig = HotPixelConfig()) -> Tensor:
    """Return where an image has hot pixels, for each channel on its own.

    The noise is the median absolute deviation of the 72 pixels 2 to 4 away. Where most of those are
    equal there is no noise to compare with: graphics and clipped areas have no hot pixels.

    Args:
        image: (C, H, W) float, in any unit, or uint8; NaN is never hot.
        config: see `HotPixelConfig`.

    Returns:
        (N, 3) int64: channel, row and column of each; none within 4 pixels of the border.
    """
    channels = image.shape[0]
    places = torch.nonzero(_stands_out(image, config))
    channel, row, column = places.unbind(1)
    around = _around(image, row, column, HOT_PIXEL_REACH).float()  # (N, C, 9, 9)
    device = image.device
    offsets = torch.arange(-HOT_PIXEL_REACH, HOT_PIXEL_REACH + 1, device=device).abs()
    ring = torch.maximum(offsets[:, None], offsets) >= 2
    background = around[..., ring].median(2).values  # (N, C)
    deviation = (around[..., ring] - background[..., None]).abs().median(2).values
    sigma = MAD_TO_SIGMA * deviation
    excess = around[..., HOT_PIXEL_REACH, HOT_PIXEL_REACH] - background
    spread = around[..., offsets[:, None] + offsets == 1].mean(2) - background  # of 4 pixels

    own = torch.arange(len(places), device=device), channel
    sharpest = sigma.new_full((len(places),), config.sharpest_point)
    if channels == 3:
        shown = excess - config.other_channels * excess[own][:, None] - sigma
        shown[own] = -math.inf
        sharpest[(shown < 0).all(1)] = config.sharpest_coloured_point
    # A median varies by pi / 2 more than a mean.
    error = sigma[own] * math.sqrt(1 / 4 + math.pi / 2 / int(ring.sum()))
    limit = sharpest * excess[own] - config.certainty * error
    return places[(sigma[own] > 0) & (spread[own].abs() < limit)]


def median_of_neighbours(image: Tensor, places: Tensor) -> Tensor:
    """Return the median of the 8 neighbours of pixels: the lower of the middle two.

    Args:
        image: (C, H, W).
        places: (N, 3), as `find_hot_pixels` returns them.

    Returns:
        (N,) of the image's dtype.
    """
    channel, row, column = places.unbind(1)
    each = torch.arange(len(places), device=image.device)
    around = _around(image, row, column, 1)[each, channel].flatten(1)
    return torch.cat([around[:, :4], around[:, 5:]], 1).median(1).values


def _around(image: Tensor, row: Tensor, column: Tensor, reach: int) -> Tensor:
    """Cut out the pixels around N places of all channels, (N, C, 2 reach + 1, 2 reach + 1)."""
    offsets = torch.arange(-reach, reach + 1, device=image.device)
    rows = row[:, None, None] + offsets[:, None]
    return image[:, rows, column[:, None, None] + offsets].transpose(0, 1)


def _stands_out(image: Tensor, config: HotPixelConfig) -> Tensor:
    """Return where pixels exceed their neighbours by far more than these differ; (C, H, W) bool.

    Far quicker than the rest, and leaves little of a photo.
    """
    found = torch.zeros(image.shape, dtype=torch.bool, device=image.device)
    edge = HOT_PIXEL_REACH
    if min(image.shape[1:]) <= 2 * edge:
        return found
    near = image[:, edge - 1 : 1 - edge, edge - 1 : 1 - edge]
    above, here, below = near[:, :-2], near[:, 1:-1], near[:, 2:]

    def extreme(of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        beside = of(above, below)
        column = of(beside, here)
        return of(of(column[..., :-2], column[..., 2:]), beside[..., 1:-1])

    own, high, low = here[..., 1:-1], extreme(torch.maximum), extreme(torch.minimum)
    if image.dtype == torch.uint8 and config.neighbour_range.is_integer():
        # Exact in 16 bits, and in half the memory of floats.
        own, high, low = own.short(), high.short(), low.short()
        times: float = int(config.neighbour_range)
    else:
        own, high, low = own.float(), high.float(), low.float()
        times = config.neighbour_range
    varied = high > low
    limit = high.mul_(1 + times).sub_(low, alpha=times)
    found[:, edge:-edge, edge:-edge] = (own > limit).logical_and_(varied)
    return found

"""Blind estimates of the noise in a picture: without its clean version."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 16
SPACING = 3
FLATTEST = 0.1
_CLIPPED = 0.02
"""Share of a block's pixels that may be black or white, if enough blocks have as few."""
_MAD = 1.4826
"""Standard deviation of a normal distribution, in units of its median absolute deviation."""
_SMALL_BLOCK = 8
_QUIET = 0.25
_FEWEST = 20
"""Small blocks from which anything is told."""
_MOSTLY = 0.9
"""Share of a small block's pixels that are neither black nor white, of those that are looked at."""
_WHITE = 0.85
"""Of white noise, neighbours differ by as much as pixels two apart, in power; of what a mosaic was
interpolated from by .55 to .65, of phones by .4 to .5, of photos made half as large by .7 to .8; of
dithered pictures by more."""
_PLAIN = 2 / 255
"""Standard deviation of colour noise from which it is plainly there."""


def noise_level(picture: Tensor) -> Tensor:
    """Estimate the standard deviation of the noise, where the picture is flattest.

    The kernel (1, -2, 1) in both directions, with unit gain on white noise (Immerkaer, 1996), takes
    out whatever changes linearly. Its taps lie `SPACING` pixels apart, since neighbouring pixels of
    cameras share some of their noise, which a tight kernel would not see. Of blocks of `BLOCK`
    pixels the flattest tenth is looked at, told by how much the means of their quarters differ;
    blocks with much black or white in them are left out, as noise is clipped there. The median
    absolute deviation forgives the texture that remains.

    Args:
        picture: (C, H, W) float in [0, 1].

    Returns:
        (C,) sigma in [0, 1]; nan where the picture is smaller than a block and its surroundings, or
        clipped all over.
    """
    channels, height, width = picture.shape
    nothing = picture.new_full((channels,), torch.nan)
    reach = SPACING * 2
    if min(height, width) < BLOCK + reach:
        return nothing
    line = picture.new_tensor([1.0, -2.0, 1.0]) / 6**0.5
    kernel = (line[:, None] * line)[None, None]  # (1, 1, 3, 3)
    planes = picture[:, None]  # (C, 1, H, W)
    detail = F.conv2d(planes, kernel, dilation=SPACING)  # (C, 1, H-6, W-6)
    rows, columns = detail.shape[-2] // BLOCK, detail.shape[-1] // BLOCK
    centre = planes[..., SPACING:-SPACING, SPACING:-SPACING]
    quarters = F.avg_pool2d(centre, BLOCK // 2)[..., : 2 * rows, : 2 * columns]
    quarters = quarters.reshape(channels, rows, 2, columns, 2).permute(0, 1, 3, 2, 4)
    quarters = quarters.reshape(channels, rows * columns, 4)  # (C, N, 4)
    detail = detail[:, 0, : rows * BLOCK, : columns * BLOCK]
    blocks = detail.reshape(channels, rows, BLOCK, columns, BLOCK).permute(0, 1, 3, 2, 4)
    blocks = blocks.reshape(channels, rows * columns, BLOCK * BLOCK)  # (C, N, 256)
    ends = ((centre <= 0) | (centre >= 1)).to(picture.dtype)
    clipped = F.avg_pool2d(ends, BLOCK)[:, 0, :rows, :columns].reshape(channels, rows * columns)
    levels = nothing
    for channel in range(channels):
        limit = clipped[channel].quantile(0.25).clamp_min(_CLIPPED)
        if limit <= 0.5:
            usable = clipped[channel] <= limit
            unrest = quarters[channel][usable].std(1)
            chosen = unrest.argsort()[: max(1, int(FLATTEST * len(unrest)))]
            levels[channel] = _MAD * blocks[channel][usable][chosen].abs().median()
    return levels


def is_white(picture: Tensor) -> bool:
    """Tell whether a picture has plain noise, and neighbouring pixels share nothing of it.

    So it is where no mosaic was interpolated: of sensors without one, of photos that were made
    small, of simulations. Looked at is the colour, red and blue less green, in the quietest quarter
    of small blocks, as there is little else in it but noise; of a grey picture, its brightness.
    Structure makes neighbours more alike than pixels two apart, as shared noise does: it can only
    hide that noise is white.

    Args:
        picture: (C, H, W) float in [0, 1], C = 1 or 3; or some rows of one, in whole blocks of 8.
    """
    if min(picture.shape[1:]) < _SMALL_BLOCK:
        return False
    planes = picture[::2] - picture[1:2] if len(picture) > 1 else picture
    if not planes.any():
        planes = picture[:1]
    near, far = (_apart(planes, distance) for distance in (1, 2))
    inside = _small_blocks((picture > 0) & (picture < 1)).float().mean((0, 3, 4))  # (h, w)
    telling = (inside > _MOSTLY) & (near + far > 0)
    near, far = near[telling], far[telling]
    if len(near) < _FEWEST:
        return False
    unrest = near + far
    quiet = unrest <= unrest.kthvalue(1 + int(_QUIET * (len(unrest) - 1))).values
    power = float(near[quiet].mean()) / 2
    ratio = float(near[quiet].sum() / far[quiet].sum().clamp_min(1e-12))
    return power > _PLAIN**2 and _WHITE < ratio < 1 / _WHITE


def _apart(planes: Tensor, distance: int) -> Tensor:
    """Mean square difference of pixels so far apart, down and across, by small blocks; (h, w)."""
    blocks = _small_blocks(planes)
    down = blocks[..., distance:, :] - blocks[..., :-distance, :]
    across = blocks[..., distance:] - blocks[..., :-distance]
    return 0.5 * (down.square().mean((0, 3, 4)) + across.square().mean((0, 3, 4)))


def _small_blocks(planes: Tensor) -> Tensor:
    """Cut (C, H, W) into whole small blocks, (C, h, w, 8, 8)."""
    return planes.unfold(1, _SMALL_BLOCK, _SMALL_BLOCK).unfold(2, _SMALL_BLOCK, _SMALL_BLOCK)

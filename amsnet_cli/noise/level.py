"""Estimate the noise level of an image without its clean version."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAD_TO_SIGMA = 1.4826
"""Standard deviation of a normal distribution, in units of its median absolute deviation."""


@dataclass(frozen=True, kw_only=True)
class NoiseLevelConfig:
    """Numbers of `noise_level`; `tests/test_noise_level.py` checks them.

    Attributes:
        block_size: side in pixels of the blocks that are compared.
        tap_spacing: pixels between the taps of the kernel. Camera noise is correlated between
            neighbouring pixels, and a dense kernel would miss the correlated part.
        flattest: fraction of the blocks that is measured: those whose quarters differ least.
        clipped_always_allowed: fraction of a block's pixels that may be black or white in any case.
        clipped_quantile: blocks with more clipped pixels than this quantile of all are left out.
        clipped_never_allowed: if that quantile has a larger clipped fraction than this, nothing is
            estimated.
    """

    block_size: int = 16
    tap_spacing: int = 3
    flattest: float = 0.1
    clipped_always_allowed: float = 0.02
    clipped_quantile: float = 0.25
    clipped_never_allowed: float = 0.5


def noise_level(image: Tensor, config: NoiseLevelConfig = NoiseLevelConfig()) -> Tensor:
    """Estimate the standard deviation of the noise in the flattest blocks of an image.

    The kernel (1, -2, 1) in both directions, with unit gain on white noise (Immerkaer, "Fast noise
    variance estimation", CVIU 1996), removes linear gradients. The median absolute deviation is
    robust to the remaining texture. Clipped blocks are left out, as clipping reduces noise.

    Args:
        image: (C, H, W) float in [0, 1].
        config: see `NoiseLevelConfig`.

    Returns:
        (C,) sigma in [0, 1]; NaN if the image is smaller than a block and the kernel around it, or
        clipped nearly everywhere.
    """
    channels, height, width = image.shape
    levels = image.new_full((channels,), torch.nan)
    size, spacing = config.block_size, config.tap_spacing
    if min(height, width) < size + 2 * spacing:
        return levels
    taps = image.new_tensor([1.0, -2.0, 1.0]) / 6**0.5
    kernel = (taps[:, None] * taps)[None, None]  # (1, 1, 3, 3)
    planes = image[:, None]  # (C, 1, H, W)
    response = F.conv2d(planes, kernel, dilation=spacing)  # (C, 1, H-2S, W-2S)
    rows, columns = response.shape[-2] // size, response.shape[-1] // size
    centre = planes[..., spacing:-spacing, spacing:-spacing]
    quarters = F.avg_pool2d(centre, size // 2)[..., : 2 * rows, : 2 * columns]
    quarters = quarters.reshape(channels, rows, 2, columns, 2).permute(0, 1, 3, 2, 4)
    quarters = quarters.reshape(channels, rows * columns, 4)  # (C, N, 4)
    response = response[:, 0, : rows * size, : columns * size]
    blocks = response.reshape(channels, rows, size, columns, size).permute(0, 1, 3, 2, 4)
    blocks = blocks.reshape(channels, rows * columns, size * size)  # (C, N, 256)
    is_clipped = ((centre <= 0) | (centre >= 1)).to(image.dtype)
    clipped = F.avg_pool2d(is_clipped, size)[:, 0, :rows, :columns].flatten(1)  # (C, N)
    for channel in range(channels):
        limit = clipped[channel].quantile(config.clipped_quantile)
        limit = limit.clamp_min(config.clipped_always_allowed)
        if limit <= config.clipped_never_allowed:
            usable = clipped[channel] <= limit
            spread = quarters[channel][usable].std(1)
            flat = spread.argsort()[: max(1, int(config.flattest * len(spread)))]
            levels[channel] = MAD_TO_SIGMA * blocks[channel][usable][flat].abs().median()
    return levels

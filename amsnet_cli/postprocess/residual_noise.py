"""Smooth the residual noise that the network leaves in flat areas (self-guided filter).

The network leaves hardly any noise but coarse colour noise, which looks like shading. Where the
denoised image varies less than a small share of the noise, a guided filter with the image as its
own guide removes the rest (He, Sun and Tang, "Guided image filtering", ECCV 2010). It is computed
from block means (He and Sun, "Fast guided filter", 2015).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.block_stats import BlockStats, luma_of, quiet_power
from amsnet_cli.postprocess.config import PostprocessConfig


def smoothing_weights(stats: BlockStats, config: PostprocessConfig = PostprocessConfig()) -> Tensor:
    """Per-block coefficients of the guided filter; for `smooth_residual_noise`.

    Args:
        stats: of the whole image.
        config: see `PostprocessConfig`.

    Returns:
        (3 + C, h, w): the share that is kept of luma and chroma, and the offset that replaces the
        rest, for luma and each channel's chroma.
    """
    radius = config.smoothing_radius
    noise = quiet_power(stats, config.block_stats)

    def average(blocks: Tensor) -> Tensor:
        return _window_mean(_repeat_edges(blocks, radius), radius)

    planes = [p[None] for p in (stats.luma, *stats.chroma)]  # one at a time, for memory
    powers = [average(plane).square() for plane in planes]
    powers = [powers[0], torch.stack(powers[1:]).mean(0)]
    kept = []
    for mean_square, mean_power, noise_power in zip(stats.mean_square, powers, noise, strict=True):
        variance = (average(mean_square[None]) - mean_power).clamp_min(0)
        least = max(config.smoothed_share**2 * noise_power, 1e-12)
        kept.append(variance / (variance + least))
    replaced = [1 - kept[0], *[1 - kept[1]] * len(stats.chroma)]
    offsets = []
    for share, plane in zip(replaced, planes, strict=True):
        smoothed = _window_mean(_extrapolate_edges(plane, radius), radius)
        padded = _repeat_edges(share, radius) * _extrapolate_edges(smoothed, radius)
        offsets.append(_window_mean(padded, radius))
    return torch.cat([*(average(share) for share in kept), *offsets])


def smooth_residual_noise(denoised: Tensor, weights: Tensor) -> Tensor:
    """Smooth flat areas; edges and texture stay.

    Args:
        denoised: (C, H, W) float32.
        weights: (3 + C, H, W), from `smoothing_weights` by `blocks.upsample_blocks`.

    Returns:
        (C, H, W).
    """
    kept_luma, kept_chroma, offset_luma = weights[:3, None]
    of_luma = torch.addcmul(offset_luma, kept_luma - kept_chroma, luma_of(denoised))
    return torch.addcmul(weights[3:], kept_chroma, denoised).add_(of_luma)


def _window_mean(padded: Tensor, radius: int) -> Tensor:
    """Mean over the blocks around each; (N, h + 2 * radius, w + 2 * radius) to (N, h, w)."""
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)


def _repeat_edges(blocks: Tensor, radius: int) -> Tensor:
    """Pad (N, h, w) with the values of its edges."""
    return F.pad(blocks[None], (radius,) * 4, mode="replicate")[0]


def _extrapolate_edges(blocks: Tensor, radius: int) -> Tensor:
    """Pad (N, h, w) by odd reflection: with edges repeated, gradients would look flatter there."""
    if min(blocks.shape[1:]) <= radius:
        return _repeat_edges(blocks, radius)
    reflected = F.pad(blocks[None], (radius,) * 4, mode="reflect")[0]
    return 2 * _repeat_edges(blocks, radius) - reflected

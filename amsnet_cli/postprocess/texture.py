"""Restore texture: blend the result back towards the input where the residual is not noise.

A network sometimes takes fine texture for noise: a mesh, a weave, print. This shows without a clean
image. Noise is about equally strong wherever the brightness is the same. So where the residual is
stronger than in the quietest blocks of that brightness, structure was removed as well. There the
noisy pixels are blended back, luma and chroma separately.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.noise.curve import interpolate
from amsnet_cli.postprocess.anisotropy import anisotropy
from amsnet_cli.postprocess.block_stats import BlockStats, luma_of, quantile, quiet_power
from amsnet_cli.postprocess.config import PostprocessConfig, half_ramp, ramp
from amsnet_cli.postprocess.graphics import graphics


def blend_weights(
    stats: BlockStats,
    luma: float | None,
    chroma: float | None,
    detail: float,
    confidence: float,
    config: PostprocessConfig = PostprocessConfig(),
) -> Tensor:
    """Per-block share of the residual that is removed; linear in `luma`, `chroma` and `detail`.

    Args:
        stats: of the whole image.
        luma: share of the luma, in [0, 1]; None for all except clear texture.
        chroma: the same of the chroma.
        detail: share of the likely texture that is restored in luma, in [0, 1].
        confidence: that the residual is noise, see `noise_confidence`.
        config: see `PostprocessConfig`.

    Returns:
        (2, h, w) float32 in [0, 1], of luma and chroma.
    """
    gain = confidence * noise_gain(stats, config.texture.tolerance, confidence, config)
    shares = (luma, chroma)
    weights = torch.stack(
        [g if s is None else torch.full_like(g, s) for s, g in zip(shares, gain, strict=True)]
    )
    if detail:
        likely = noise_gain(stats, config.texture.detail_tolerance, confidence, config)[0]
        weights[0] *= 1 - detail * (1 - likely)
    return weights


def noise_gain(
    stats: BlockStats,
    tolerance: float,
    confidence: float,
    config: PostprocessConfig = PostprocessConfig(),
) -> Tensor:
    """Per-block fraction of the residual that is noise, by the stages that are switched on.

    Args:
        stats: of the whole image.
        tolerance: see `TextureConfig.tolerance`.
        confidence: see `noise_confidence`.
        config: see `PostprocessConfig`.

    Returns:
        (2, h, w) float32 in [0, 1], of luma and chroma.
    """
    gain = torch.ones_like(stats.residual_power)
    hidden = stats.unclipped.sum() <= config.texture.min_unclipped * (~stats.uniform).sum()
    if hidden and (config.restore_texture or config.keep_graphics):
        return torch.zeros_like(gain)  # Hardly any block shows noise: black and white print.
    if config.restore_texture:
        gain = wiener_gain(stats, tolerance, confidence, config)
    if config.keep_graphics:
        gain = gain * (1 - graphics(stats, config))
        gain = gain.masked_fill(stats.uniform, 0.0)
    return gain


def wiener_gain(
    stats: BlockStats,
    tolerance: float,
    confidence: float,
    config: PostprocessConfig = PostprocessConfig(),
) -> Tensor:
    """Wiener gain: the fraction of the residual that is noise, per block.

    Luma is tested pixel by pixel and in means of 2 x 2 pixels. The texture of cloth, fur and wood
    is coarser than noise, so it shows first in the means.

    Args:
        stats: of the whole image.
        tolerance: multiple of the noise's power that is still noise.
        confidence: see `noise_confidence`; if it is high, a little more counts as noise beside
            strong structure.
        config: see `PostprocessConfig`.

    Returns:
        (2, h, w) float32 in [0, 1], of luma and chroma: 1 up to the tolerance, above it the share
        of noise in the sum of noise and structure.
    """
    numbers = config.texture
    powers = torch.stack(
        [stats.residual_power[0], stats.residual_power_2x2, stats.residual_power[1]]
    )
    noise = _noise_power(powers, stats, config)
    found = torch.stack([_binomial(power) for power in powers])
    tolerance = min(tolerance, _texture_tolerance(found[:2], noise[:2], stats, config))
    limit = tolerance * noise
    if config.restore_anisotropic:
        factor = config.anisotropy.tolerance_factor
        limit[:2] *= 1 - (1 - factor) * anisotropy(stats, config)
    structure = _binomial((stats.mean_square[0] - stats.luma.square()).clamp_min(0))
    least = config.confidence.least
    limit += numbers.edge_noise * (confidence - least) / (1 - least) * structure
    by_pixel, by_2x2, chroma = torch.where(found > limit, limit / found, 1.0)
    return torch.stack([torch.minimum(by_pixel, by_2x2), chroma])


def blend_residual(noisy: Tensor, denoised: Tensor, luma: Tensor, chroma: Tensor) -> Tensor:
    """Add the part of the residual that is not removed back; linear in both shares.

    Args:
        noisy: (C, H, W) float32.
        denoised: the same shape.
        luma: (1, H, W) share in [0, 1] of the residual's luma that is removed.
        chroma: the same of its chroma; no effect on grey.

    Returns:
        (C, H, W): `denoised` where both are 1, `noisy` where both are 0.
    """
    residual = noisy - denoised
    of_luma = (chroma - luma) * luma_of(residual)  # beside the same share of luma as of chroma
    return torch.addcmul(denoised, 1 - chroma, residual).add_(of_luma)


def _texture_tolerance(
    found: Tensor, noise: Tensor, stats: BlockStats, config: PostprocessConfig
) -> float:
    """Multiple of the noise's power up to which a residual is noise; lower in textured images.

    Texture is coarser than noise, so more blocks exceed the tolerance in means of 2 x 2 than pixel
    by pixel. Locally stronger noise, beside edges or where shadows were lifted, exceeds it equally
    often in both.

    Args:
        found: (2, h, w) residual power of luma, pixel by pixel and in means of 2 x 2.
        noise: (2, h, w) the same in quiet blocks of equal brightness.
        stats: of the whole image.
        config: its `texture` and `block_stats` are used.
    """
    numbers = config.texture
    beyond = found > numbers.tolerance * noise
    counted = stats.unclipped & ~stats.uniform
    by_pixel, by_2x2 = beyond[:, counted].sum(1) / counted.sum().clamp_min(1)
    textured = ramp(float(by_2x2 - by_pixel), numbers.texture_excess)
    textured *= 1 - half_ramp(quiet_power(stats, config) ** 0.5, numbers.strong_noise)
    return numbers.tolerance + (numbers.textured_tolerance - numbers.tolerance) * textured


def _noise_power(powers: Tensor, stats: BlockStats, config: PostprocessConfig) -> Tensor:
    """Power of the noise at each block's brightness, from the quiet blocks of that brightness.

    The curve is sampled evenly in the square root of brightness: where black clips the noise, its
    power grows several times over the darkest tenth of the range.

    Args:
        powers: (N, h, w) of the residual.
        stats: of the whole image.
        config: its `texture` and `block_stats` are used.

    Returns:
        (N, h, w).
    """
    levels, quietest = config.texture.brightness_levels, config.block_stats.quietest
    root = stats.luma.clamp_min(0).sqrt()
    sorted_root, order = root[stats.unclipped].sort()
    sorted_powers = powers[:, stats.unclipped][:, order]
    curves = torch.full((len(powers), levels), torch.nan)
    ends = torch.searchsorted(sorted_root, torch.arange(-1, levels + 1) / (levels - 1))
    for i in range(levels):
        near = sorted_powers[:, ends[i] : ends[i + 2]]
        if near.shape[1] >= config.texture.min_blocks:
            curves[:, i] = quantile(near, quietest)
    if not curves.isfinite().any():
        curves[:] = quantile(sorted_powers, quietest)[:, None]
    position = root * (levels - 1)
    return torch.stack([interpolate(curve, position) for curve in curves])


def _binomial(blocks: Tensor) -> Tensor:
    """Binomial 3 x 3 over (h, w), edges repeated."""
    taps = torch.tensor([0.25, 0.5, 0.25])
    padded = F.pad(blocks[None, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, torch.outer(taps, taps)[None, None])[0, 0]

"""Confidence that a weak residual is noise, and not fine texture, film grain or dither.

Demosaicking and the processing after it correlate the noise of neighbouring pixels. In quiet blocks
the residual is correlated in camera photos (DND, SIDD, RENOIR, PolyU) and hardly in noiseless ones
(Kodak). So a weak residual without correlation may be texture.

An even noise floor is evidence of noise as well: many blocks have the same low level. Then less
correlation is required, and none if the floor is high. A level that rounding to 8 bits alone would
cause is no evidence.

Lossy compression correlates all that it keeps. More correlation is required there, but a residual
counts as strong from a lower level on. Coarse quantisation leaves no faint texture, so a weak
residual is noise of the compression.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from amsnet_cli.photos.jpeg_history import JpegHistoryConfig, estimate_quantisation_step
from amsnet_cli.photos.photo import Photo
from amsnet_cli.postprocess.block_stats import (
    BlockStats,
    noise_variance,
    quantile,
    quiet_correlation,
    quiet_power,
)
from amsnet_cli.postprocess.config import BlockStatsConfig

Range = tuple[float, float]
"""Ends of a linear ramp: no effect up to the first, full effect from the second on."""

ROUNDING = 1 / 255 / 12**0.5
"""Standard deviation of the error of rounding to 8 bits, in [0, 1] units."""


@dataclass(frozen=True, kw_only=True)
class ConfidenceConfig:
    """When a weak residual is noise and not fine texture.

    The lossy ranges are for images that were compressed with loss, which correlates neighbouring
    pixels.
    """

    least: float = 0.25
    """Lowest confidence, when all evidence is for texture."""
    correlation: float = 0.25
    """Lag-1 correlation from which a residual is camera noise."""
    white_correlation: float = 0.05
    """Lag-1 correlation up to which a residual is white, as white noise and fine texture are."""
    even_correlation: float = 0.12
    """The same where the noise floor is even."""
    lossy_correlation: Range = (0.35, 0.5)
    """Lag-1 correlation of the residual in lossy images: of texture, of camera noise."""
    strong_noise: Range = (2.5 / 255, 4.0 / 255)
    """Residual level from which it is noise, correlated or not."""
    lossy_strong_noise: Range = (2.0 / 255, 3.0 / 255)
    """The same in lossy images."""
    floor: Range = (1.6 / 255, 2.0 / 255)
    """Level from which an even noise floor is noise, correlated or not."""
    floor_quantile: float = 0.05
    """Quantile of the blocks' noise level that is the floor."""
    evenness: Range = (1.3, 1.6)
    """Noise level of the quiet blocks over the floor: of an even floor, of an uneven one."""
    coarse_step: Range = (14 / 255, 20 / 255)
    """Mean quantisation step from which compression leaves no faint texture."""
    block_stats: BlockStatsConfig = field(default_factory=BlockStatsConfig)
    jpeg_history: JpegHistoryConfig = field(default_factory=JpegHistoryConfig)


def noise_confidence(
    stats: BlockStats, noisy: Tensor, photo: Photo, config: ConfidenceConfig = ConfidenceConfig()
) -> float:
    """Confidence that a weak residual is noise rather than fine texture.

    Args:
        stats: of the whole image.
        noisy: the image, (C, H, W) float32 in [0, 1].
        photo: the same as stored; only looked at where the residual is weak.
        config: see `ConfidenceConfig`.

    Returns:
        1 for camera noise and for strong noise, less where the residual may be texture, at least
        `ConfidenceConfig.least`.
    """
    quantisation_step, weak = photo.quantisation_step, config.strong_noise[1] ** 2
    integers = photo.pixels.dtype != np.float32
    if quantisation_step is None and integers and quiet_power(stats, config.block_stats)[0] < weak:
        quantisation_step = estimate_quantisation_step(photo.pixels, config.jpeg_history)
    return confidence_of(stats, noisy, quantisation_step, config)


def confidence_of(
    stats: BlockStats,
    noisy: Tensor,
    quantisation_step: float | None,
    config: ConfidenceConfig = ConfidenceConfig(),
) -> float:
    """The same where the quantisation is known.

    Args:
        stats: of the whole image.
        noisy: the image, (C, H, W) float32 in [0, 1].
        quantisation_step: mean step of the luma in lossy compression, in [0, 1] units (JPEG:
            2/255 at quality 98, 9/255 at 92, 29/255 at 75), 0 if it is not known; None if there
            was no such compression. Only used where the residual is weak.
        config: see `ConfidenceConfig`.
    """
    numbers = config
    if not stats.unclipped.any():
        return 1.0
    level = quiet_power(stats, config.block_stats)[0] ** 0.5
    correlation = quiet_correlation(stats, config.block_stats)
    sigma = noise_variance(noisy)[stats.unclipped & ~stats.uniform].sqrt()
    floor, quiet = (
        float(quantile(sigma, share)) if len(sigma) else 0.0
        for share in (numbers.floor_quantile, config.block_stats.quietest)
    )
    lossless = quantisation_step is None
    white = config.white_correlation
    wanted = (white, numbers.correlation) if lossless else numbers.lossy_correlation
    strong = numbers.strong_noise if lossless else numbers.lossy_strong_noise

    even = 1 - ramp(quiet / max(floor, 1e-6), numbers.evenness)
    even_and_high = even * ramp(floor, numbers.floor)
    even_and_correlated = even * half_ramp(floor, 2 * ROUNDING)
    even_and_correlated *= ramp(correlation, (white, numbers.even_correlation))
    correlated = max(even_and_correlated, ramp(correlation, wanted))
    correlated *= half_ramp(level, 2 * ROUNDING)
    doubt = (1 - correlated) * (1 - even_and_high)
    doubt *= 1 - ramp(level, strong)
    doubt *= 1 - ramp(quantisation_step or 0.0, numbers.coarse_step)
    return 1 - (1 - numbers.least) * doubt


def ramp(value: float, ends: Range) -> float:
    """Position of a value between two ends, clipped to [0, 1]."""
    return min(1.0, max(0.0, (value - ends[0]) / (ends[1] - ends[0])))


def half_ramp(value: float, end: float) -> float:
    """The same from half of an end on."""
    return ramp(value, (end / 2, end))

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

from amsnet_cli.postprocess.block_stats import (
    BlockStats,
    quantile,
    quiet_correlation,
    quiet_power,
)
from amsnet_cli.postprocess.config import PostprocessConfig, half_ramp, ramp

ROUNDING = 1 / 255 / 12**0.5
"""Standard deviation of the error of rounding to 8 bits, in [0, 1] units."""


def is_weak(stats: BlockStats, config: PostprocessConfig = PostprocessConfig()) -> bool:
    """Return whether the residual is so weak that `noise_confidence` uses the quantisation step."""
    return quiet_power(stats, config) < config.confidence.strong_noise[1] ** 2


def noise_confidence(
    stats: BlockStats,
    quantisation_step: float | None,
    config: PostprocessConfig = PostprocessConfig(),
) -> float:
    """Confidence that a weak residual is noise rather than fine texture.

    Args:
        stats: of the whole image.
        quantisation_step: mean step of the luma in lossy compression, in [0, 1] units (JPEG:
            2/255 at quality 98, 9/255 at 92, 29/255 at 75), 0 if it is not known; None if there
            was no such compression. Only used if `is_weak`.
        config: its `confidence` and `block_stats` are used.

    Returns:
        1 for camera noise and for strong noise, less where the residual may be texture, at least
        `ConfidenceConfig.least`.
    """
    numbers = config.confidence
    if not stats.unclipped.any():
        return 1.0
    level = quiet_power(stats, config) ** 0.5
    correlation = quiet_correlation(stats, config)
    sigma = stats.noise_variance[stats.unclipped & ~stats.uniform].sqrt()
    floor, quiet = (
        float(quantile(sigma, share)) if len(sigma) else 0.0
        for share in (numbers.floor_quantile, config.block_stats.quietest)
    )
    lossless = quantisation_step is None
    white = config.block_stats.white_correlation
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

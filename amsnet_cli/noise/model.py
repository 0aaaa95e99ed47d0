"""Model the noise of a photo: its level by brightness, and its correlation.

Where a first denoised version is smooth, its residual is noise. The noise level by brightness and
the covariance between neighbours and channels describe a camera well enough to draw more of the
same noise, and to choose strides.

In-camera noise reduction preserves edges and texture together with their noise, which cannot be
separated from structure there. But it can be detected in flat areas: at one brightness, the noise
of a sensor is equally strong in all of them, and noise after noise reduction is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.noise.curve import interpolate

MAX_LAG = 6
"""Distance in pixels up to which noise may be correlated."""
MAX_CORRELATION = 0.1
"""Correlation of luma below which noise counts as uncorrelated."""
LEVELS = 9
"""Number of brightnesses at which the noise level is kept: 0, 1/8, ... 1."""
BANDS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Frequencies in cycles per pixel, an octave apart, at which the spectrum is corrected."""


@dataclass(frozen=True, kw_only=True)
class NoiseModelConfig:
    """Numbers of `estimate_noise`; `tests/test_noise_model.py` checks them.

    Attributes:
        block_size: side in pixels of the blocks that are measured.
        smoothest: fraction of the blocks that is measured, overall and at each brightness.
        blur_sigma: of the Gaussian, in pixels; coarser structure belongs to the image.
        max_level_ratio: largest ratio of the noise levels of two brightnesses, in units of what is
            expected there; a higher level is texture.
        max_clipped: fraction of a block's pixels that may be clipped.
        flat_margin: blocks are flat if their roughness (structure power over noise power) exceeds
            that of the smoothest 5 % by less than this.
        smooth_factor: blocks are fairly smooth below this multiple of the roughness of the
            smoothest.
        outlier_range: blocks whose power, relative to the expected one, is outside this range do
            not count for the covariance.
        evenness_range: power of the weakest 5 % of blocks relative to the weakest quarter at one
            brightness. Up to the first, the camera reduced noise; from the second on, it did not.
        min_evenness_blocks: least number of blocks of a brightness for measuring that.
    """

    block_size: int = 16
    smoothest: float = 0.15
    blur_sigma: float = 4.0
    max_level_ratio: float = 2.5
    max_clipped: float = 0.05
    flat_margin: float = 1.0
    smooth_factor: float = 6.0
    outlier_range: tuple[float, float] = (0.3, 2.0)
    evenness_range: tuple[float, float] = (0.55, 0.75)
    min_evenness_blocks: int = 40


@dataclass(frozen=True, kw_only=True)
class NoiseModel:
    """Noise that depends on brightness, and is correlated between neighbours and channels.

    Attributes:
        levels: (9,) float32, standard deviation of luma noise at brightness 0, 1/8, ... 1, with
            luma the mean of the channels, in [0, 1] units. Without `gain`.
        covariance: (2 * MAX_LAG + 1, 2 * MAX_LAG + 1, 3, 3) float32, of each channel with each
            channel at an offset (rows, columns), relative to the variance of luma.
        edge_preservation: how much the camera's noise reduction kept the noise of edges and texture
            while it reduced that of flat areas, in [0, 1].
        gain: (2, 6) float32, what the amplitude at each frequency of `BANDS` is multiplied by, of
            luma and of chroma; chroma is what the channels differ from luma. See `noise.spectrum`.
    """

    levels: Tensor
    covariance: Tensor
    edge_preservation: float
    gain: Tensor = field(default_factory=lambda: torch.ones(2, len(BANDS)))

    def sigma(self) -> float:
        """Standard deviation over the channels at middle brightness, in [0, 1] units."""
        per_channel = self.covariance[MAX_LAG, MAX_LAG].diagonal().mean().clamp_min(0).sqrt()
        return float(self.levels[LEVELS // 2] * per_channel)

    def correlation(self, lag: int) -> float:
        """Correlation of luma noise with that `lag` pixels away, mean of rows and columns."""
        luma = self.covariance.mean((2, 3))
        lagged = luma[MAX_LAG, MAX_LAG + lag] + luma[MAX_LAG + lag, MAX_LAG]
        return float(lagged / (2 * luma[MAX_LAG, MAX_LAG]).clamp_min(1e-12))

    def channel_correlation(self) -> float:
        """Mean correlation of the three pairs of channels."""
        here = self.covariance[MAX_LAG, MAX_LAG]
        sigma = here.diagonal().clamp_min(1e-12).sqrt()
        return float((here / torch.outer(sigma, sigma)).triu(1).sum() / 3)

    def decorrelating_stride(self) -> int:
        """Smallest stride at which luma noise is less correlated than `MAX_CORRELATION`."""
        strides = range(1, MAX_LAG)
        return next((s for s in strides if abs(self.correlation(s)) < MAX_CORRELATION), MAX_LAG - 1)

    def gain_at(self, frequency: Tensor) -> tuple[Tensor, Tensor]:
        """`gain` of luma and of chroma at frequencies in cycles per pixel, of any shape."""
        position = (frequency.clamp_min(BANDS[0]) / BANDS[0]).log2()
        return interpolate(self.gain[0], position), interpolate(self.gain[1], position)


def estimate_noise(
    noisy: Tensor,
    denoised: Tensor,
    expected: Tensor | None = None,
    config: NoiseModelConfig = NoiseModelConfig(),
) -> NoiseModel | None:
    """Estimate the noise model of an image.

    Args:
        noisy: (3, H, W) float32 in [0, 1].
        denoised: a first denoised version of it, which may keep some of the noise.
        expected: (9,) float32, noise level at brightness 0, 1/8, ... 1 by another estimate. Only
            its shape counts; it says how strong the noise is where nothing is flat. None for equal
            levels.
        config: see `NoiseModelConfig`.

    Returns:
        None if noise and structure cannot be separated: the image is smaller than two blocks, or
        too little of it is smooth.
    """
    size = config.block_size
    if min(noisy.shape[1:]) < 2 * size:
        return None
    smooth = gaussian_blur(denoised, config.blur_sigma)
    residual = noisy - denoised
    highpass = _blocks(noisy - smooth, size)  # (N, 3, 16, 16): noise, and fine structure if any
    highpass = highpass - highpass.mean((2, 3), keepdim=True)
    structure = _luma_power(_blocks(denoised - smooth, size))
    removed = residual - gaussian_blur(residual, config.blur_sigma)
    residual_power = _luma_power(_blocks(removed, size))
    roughness = (structure + 1e-7) / (residual_power + 1e-7)  # (N,)
    brightness = _blocks(denoised, size).mean((1, 2, 3))
    is_clipped = ((noisy <= 0) | (noisy >= 1)).any(0, keepdim=True).float()
    clipped = _blocks(is_clipped, size).mean((1, 2, 3))
    unclipped = torch.nonzero(clipped < config.max_clipped).flatten()
    if len(unclipped) < 4:  # a very dark image: take the least clipped blocks
        unclipped = clipped.argsort()[: max(4, int(config.smoothest * len(clipped)))]

    ranked = unclipped[roughness[unclipped].argsort()]
    # The roughness of the smoothest blocks is noise that the first version still has.
    floor = roughness[ranked[len(ranked) // 20]]
    flat = ranked[roughness[ranked] < floor + config.flat_margin]
    if len(flat) < config.smoothest * len(ranked):
        return None
    smoothest = ranked[: max(4, int(config.smoothest * len(ranked)))]
    smooth_limit = config.smooth_factor * roughness[smoothest].median()
    fairly_smooth = ranked[roughness[ranked] < smooth_limit]
    selected = set(smoothest.tolist())
    for node in torch.linspace(0, 1, LEVELS):
        near = fairly_smooth[(brightness[fairly_smooth] - node).abs() < 0.5 / (LEVELS - 1)]
        if len(near) >= 4:
            selected |= set(near[: max(2, int(config.smoothest * len(near)))].tolist())
    measured = torch.tensor(sorted(selected))

    variance = _luma_power(highpass[measured])
    shape = torch.ones(LEVELS) if expected is None else expected.square()
    position = brightness[measured].clamp(0, 1) * (LEVELS - 1)
    relative = variance / interpolate(shape, position)
    curve = shape * _variance_curve(relative, brightness[measured], config)
    usual = interpolate(curve, position)
    low, high = config.outlier_range
    inliers = (variance < high * usual) & (variance > low * usual)
    normalised = highpass[measured] / variance.clamp_min(1e-9).sqrt()[:, None, None, None]
    return NoiseModel(
        levels=curve.sqrt(),
        covariance=_covariance(normalised[inliers] if inliers.sum() >= 2 else normalised),
        edge_preservation=_edge_preservation(residual_power[flat], brightness[flat], config),
    )


def gaussian_blur(x: Tensor, sigma: float = NoiseModelConfig.blur_sigma) -> Tensor:
    """Gaussian blur of (C, H, W), edges repeated; sigma in pixels."""
    reach = int(3 * sigma)
    taps = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    taps = taps / taps.sum()
    planes = F.pad(x[:, None], (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(planes, taps[None, None, None]), taps[None, None, :, None])[:, 0]


def _covariance(blocks: Tensor) -> Tensor:
    """Mean covariance of (N, 3, P, P) at offsets up to MAX_LAG, tapered towards larger offsets."""
    side = blocks.shape[-1]
    spectrum = torch.fft.fft2(blocks, s=(2 * side, 2 * side))  # zero padding: no wrap-around
    power = torch.einsum("nayx,nbyx->yxab", spectrum, spectrum.conj()) / len(blocks)
    covariance = torch.fft.ifft2(power, dim=(0, 1)).real
    offsets = torch.arange(-MAX_LAG, MAX_LAG + 1)
    overlap = (side - offsets.abs()).float()
    taper = torch.hann_window(2 * MAX_LAG + 3, periodic=False)[1:-1].sqrt() / overlap
    near: Tensor = covariance[offsets][:, offsets]
    return near * torch.outer(taper, taper)[..., None, None]


def _variance_curve(variance: Tensor, brightness: Tensor, config: NoiseModelConfig) -> Tensor:
    """Noise variance at brightness 0, 1/8, ... 1, (9,), from that of blocks, (N,)."""
    curve = torch.full((LEVELS,), torch.nan)
    for i, node in enumerate(torch.linspace(0, 1, LEVELS)):
        near = (brightness - node).abs() < 1 / (LEVELS - 1)
        if near.sum() >= 2:
            curve[i] = variance[near].median()
    if not curve.isfinite().any():
        curve[:] = variance.median()
    curve = interpolate(curve, torch.arange(LEVELS).float())
    return curve.clamp_max(config.max_level_ratio**2 * float(curve.min()))


def _edge_preservation(power: Tensor, brightness: Tensor, config: NoiseModelConfig) -> float:
    """`NoiseModel.edge_preservation` from the noise power and brightness of flat blocks, (N,)."""
    total, weighted = 0, 0.0
    for node in torch.linspace(0, 1, LEVELS):
        near = power[(brightness - node).abs() < 1 / (LEVELS - 1)].sort().values
        if len(near) >= config.min_evenness_blocks:
            weakest, quiet = near[len(near) // 20], near[len(near) // 4]
            total += len(near)
            weighted += len(near) * float(weakest / quiet.clamp_min(1e-9))
    low, high = config.evenness_range
    even = (weighted / total - low) / (high - low) if total else 1.0
    return 1 - min(1.0, max(0.0, even))


def _luma_power(blocks: Tensor) -> Tensor:
    """Mean square of the luma of (N, 3, P, P)."""
    return blocks.mean(1).square().mean((1, 2))


def _blocks(x: Tensor, size: int) -> Tensor:
    """Cut (C, H, W) into whole blocks, (N, C, size, size)."""
    channels = x.shape[0]
    cut = x.unfold(1, size, size).unfold(2, size, size)  # (C, h, w, size, size)
    return cut.permute(1, 2, 0, 3, 4).reshape(-1, channels, size, size)

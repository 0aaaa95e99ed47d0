"""Model the noise of a photo: its level by brightness, and its correlation.

Wherever a first denoised version is smooth, what the noisy image holds beyond it is noise. Its
level by brightness and its covariance between neighbours and channels describe the camera well
enough to draw more of the same noise and to choose strides.

Cameras that reduce noise themselves preserve edges and texture, and their noise with them. There
noise cannot be told from structure. But a sensor's noise is as strong in one flat place as in the
next of that brightness; what such a camera leaves of it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.noise.curve import interpolate

MAX_LAG = 6
"""Distance in pixels up to which noise may be correlated."""
LEVELS = 9
"""Brightnesses at which the noise level is kept: 0, 1/8, ... 1."""


@dataclass(frozen=True, kw_only=True)
class NoiseModelConfig:
    """Numbers of `estimate_noise`; `tests/test_noise_model.py` shows that they hold.

    Attributes:
        block_size: side in pixels of the blocks that are measured.
        smoothest: share of the blocks that is measured, overall and at each brightness.
        blur_sigma: of the Gaussian, in pixels; coarser structure belongs to the image.
        max_level_ratio: between the darkest and the brightest parts noise differs by no more than
            this factor; what looks like more is texture.
        max_clipped: share of a block's pixels that may be clipped.
        flat_margin: blocks are flat if their roughness (structure power over noise power) is less
            than this above the smoothest 5 %.
        smooth_factor: blocks are fairly smooth below this multiple of the smoothest's roughness.
        outlier_range: blocks with less or more power than this share of the expected one do not
            count for the covariance.
        evenness_range: power of the weakest 5 % of blocks relative to the weakest quarter of that
            brightness: up to the first, a camera surely reduced noise, from the second on it
            surely did not.
        min_evenness_blocks: fewer blocks of a brightness say nothing about that.
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
            luma the mean of the channels, in [0, 1] units.
        covariance: (2 * MAX_LAG + 1, 2 * MAX_LAG + 1, 3, 3) float32, of each channel with each
            channel at an offset (rows, columns), relative to the variance of luma.
        edge_preservation: how far the camera's noise reduction preserved the noise of edges and
            texture while it reduced that of flat areas, in [0, 1].
    """

    levels: Tensor
    covariance: Tensor
    edge_preservation: float

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

    def decorrelating_stride(self, max_correlation: float = 0.1) -> int:
        """Smallest stride at which luma noise is less correlated than `max_correlation`."""
        strides = range(1, MAX_LAG)
        return next((s for s in strides if abs(self.correlation(s)) < max_correlation), MAX_LAG - 1)


def estimate_noise(
    noisy: Tensor, denoised: Tensor, config: NoiseModelConfig = NoiseModelConfig()
) -> NoiseModel | None:
    """Estimate the noise model of an image.

    Args:
        noisy: (3, H, W) float32 in [0, 1].
        denoised: a first denoised version of it, which may keep some of the noise.
        config: see `NoiseModelConfig`.

    Returns:
        None where noise cannot be told from structure: the image is smaller than two blocks, or
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
    removed = _luma_power(_blocks(residual - gaussian_blur(residual, config.blur_sigma), size))
    roughness = (structure + 1e-7) / (removed + 1e-7)  # (N,)
    brightness = _blocks(denoised, size).mean((1, 2, 3))
    at_ends = ((noisy <= 0) | (noisy >= 1)).any(0, keepdim=True).float()
    clipped = _blocks(at_ends, size).mean((1, 2, 3))
    unclipped = torch.nonzero(clipped < config.max_clipped).flatten()
    if len(unclipped) < 4:  # a very dark image: the least clipped parts must do
        unclipped = clipped.argsort()[: max(4, int(config.smoothest * len(clipped)))]

    ranked = unclipped[roughness[unclipped].argsort()]
    # What the very smoothest hold beyond a blur is noise that the first version keeps.
    kept = roughness[ranked[len(ranked) // 20]]
    flat = ranked[roughness[ranked] < kept + config.flat_margin]
    if len(flat) < config.smoothest * len(ranked):
        return None
    first = ranked[: max(4, int(config.smoothest * len(ranked)))]
    smoothish = ranked[roughness[ranked] < config.smooth_factor * roughness[first].median()]
    selected = set(first.tolist())
    nodes = torch.linspace(0, 1, LEVELS)
    for node in nodes:
        near = smoothish[(brightness[smoothish] - node).abs() < 0.5 / (LEVELS - 1)]
        if len(near) >= 4:
            selected |= set(near[: max(2, int(config.smoothest * len(near)))].tolist())
    chosen = torch.tensor(sorted(selected))

    variance, at = _luma_power(highpass[chosen]), brightness[chosen]
    levels = torch.full((LEVELS,), torch.nan)
    for i, node in enumerate(nodes):
        near = (at - node).abs() < 1 / (LEVELS - 1)
        if near.sum() >= 2:
            levels[i] = variance[near].median()
    if not levels.isfinite().any():
        levels[:] = variance.median()
    levels = interpolate(levels, torch.arange(LEVELS).float())
    levels = levels.clamp_max(config.max_level_ratio**2 * float(levels.min()))
    expected = interpolate(levels, at.clamp(0, 1) * (LEVELS - 1))
    least, most = config.outlier_range
    inliers = (variance < most * expected) & (variance > least * expected)
    normalised = highpass[chosen] / variance.clamp_min(1e-9).sqrt()[:, None, None, None]
    return NoiseModel(
        levels=levels.sqrt(),
        covariance=_covariance(normalised[inliers] if inliers.sum() >= 2 else normalised),
        edge_preservation=_edge_preservation(removed[flat], brightness[flat], config),
    )


def gaussian_blur(x: Tensor, sigma: float = NoiseModelConfig.blur_sigma) -> Tensor:
    """Gaussian blur of (C, H, W), edges repeated; sigma in pixels."""
    reach = int(3 * sigma)
    taps = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    taps = taps / taps.sum()
    planes = F.pad(x[:, None], (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(planes, taps[None, None, None]), taps[None, None, :, None])[:, 0]


def _covariance(blocks: Tensor) -> Tensor:
    """Mean covariance of (N, 3, P, P) at offsets up to MAX_LAG, faded out towards the far ones."""
    side = blocks.shape[-1]
    spectrum = torch.fft.fft2(blocks, s=(2 * side, 2 * side))  # zeros around: no wrapping
    power = torch.einsum("nayx,nbyx->yxab", spectrum, spectrum.conj()) / len(blocks)
    covariance = torch.fft.ifft2(power, dim=(0, 1)).real
    offsets = torch.arange(-MAX_LAG, MAX_LAG + 1)
    overlap = (side - offsets.abs()).float()
    fade = torch.hann_window(2 * MAX_LAG + 3, periodic=False)[1:-1].sqrt() / overlap
    near: Tensor = covariance[offsets][:, offsets]
    return near * torch.outer(fade, fade)[..., None, None]


def _edge_preservation(removed: Tensor, brightness: Tensor, config: NoiseModelConfig) -> float:
    """`NoiseModel.edge_preservation` from the noise power and brightness of flat blocks, (N,)."""
    total, weighted = 0, 0.0
    for node in torch.linspace(0, 1, LEVELS):
        near = removed[(brightness - node).abs() < 1 / (LEVELS - 1)].sort().values
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

"""Correct the spectrum of a noise model by what a first denoised version lacks.

The covariance of a noise model ends at a distance of six pixels, and is measured above coarse
structure. The noise of cameras has more at low frequencies, most of all in the colours: noise
reduction and demosaicking leave blotches. In quiet squares of a photo, what a first denoised
version lacks is noise, at all frequencies that the network removes. Noise drawn from the model for
the same squares is clipped as the photo is, so the two can be compared band by band.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from amsnet_cli.noise.curve import interpolate
from amsnet_cli.noise.model import BANDS, LEVELS, NoiseModel
from amsnet_cli.noise.synthesis import NoiseSampler

_LEAST_LEVEL = 1e-4


@dataclass(frozen=True, kw_only=True)
class SpectrumConfig:
    """Numbers of `correct_spectrum`.

    Attributes:
        side: in pixels, of the squares that are compared.
        quietest: fraction of the squares that is compared, those with the least structure.
        min_squares: least number of them.
        max_gain: largest gain of the amplitude.
        seed: of the noise that is drawn.
    """

    side: int = 64
    quietest: float = 1 / 6
    min_squares: int = 4
    max_gain: float = 10.0
    seed: int = 0


def correct_spectrum(
    model: NoiseModel, noisy: Tensor, denoised: Tensor, config: SpectrumConfig = SpectrumConfig()
) -> NoiseModel:
    """Raise the spectrum of a noise model to what a first denoised version lacks.

    It is never lowered, as the first version may keep some of the noise.

    Args:
        model: estimated from the two images.
        noisy: (3, H, W) float32 in [0, 1].
        denoised: a first denoised version of it.
        config: see `SpectrumConfig`.

    Returns:
        The model with another `gain`; unchanged for images smaller than a square.
    """
    if min(noisy.shape[1:]) < config.side:
        return model
    clean, residual = _squares(denoised, config.side), _squares(noisy - denoised, config.side)
    luma = clean.mean(1)
    structure = luma.var((1, 2))
    count = max(config.min_squares, int(config.quietest * len(clean)))
    quiet = structure.argsort()[:count]
    clean, residual, luma = clean[quiet], residual[quiet], luma[quiet]
    sampler = NoiseSampler(model, config.side)
    generator = torch.Generator().manual_seed(config.seed)
    drawn = torch.stack([
        (square + sampler.draw(square, generator)).clamp(0, 1) - square for square in clean
    ])  # fmt: skip
    level = interpolate(model.levels, luma.clamp(0, 1) * (LEVELS - 1)).clamp_min(_LEAST_LEVEL)
    found, expected = (_band_power(noise / level[:, None]) for noise in (residual, drawn))
    ratio = (found / expected.clamp_min(1e-9)).clamp(1, config.max_gain**2)
    return replace(model, gain=model.gain * ratio.sqrt())


def _band_power(noise: Tensor) -> Tensor:
    """Mean power of (N, 3, S, S) in an octave at each of `BANDS`, of luma and of chroma, (2, 6)."""
    side = noise.shape[-1]
    window = torch.hann_window(side, periodic=False)
    frequency = torch.fft.fftfreq(side)
    octave = (torch.hypot(frequency[:, None], frequency) * side).clamp_min(1e-9).log2()
    nearest = (octave - torch.tensor(BANDS[0] * side).log2()).round()
    luma = noise.mean(1, keepdim=True)
    rows = []
    for part in (luma, noise - luma):
        varying = part - part.mean((2, 3), keepdim=True)
        spectrum = torch.fft.fft2(varying * torch.outer(window, window))
        power = spectrum.abs().square().mean((0, 1))
        rows.append([power[nearest == band].mean() for band in range(len(BANDS))])
    return torch.tensor(rows)


def _squares(x: Tensor, side: int) -> Tensor:
    """Cut (C, H, W) into squares that overlap by half, (N, C, side, side)."""
    step = side // 2
    cut = x.unfold(1, side, step).unfold(2, side, step)
    return cut.permute(1, 2, 0, 3, 4).reshape(-1, x.shape[0], side, side)

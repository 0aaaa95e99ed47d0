"""Draw random noise from a noise model."""

from __future__ import annotations

import torch
from torch import Tensor

from amsnet_cli.noise.curve import interpolate
from amsnet_cli.noise.model import MAX_LAG, NoiseModel, gaussian_blur

EDGE_NOISE_GAIN = 0.4
"""Gain in noise power near structure where noise reduction preserves edges: added power over
`edge_preservation` * sigma * structure, about as in the simulated cameras of `training`."""


class NoiseSampler:
    """Draws noise with the level, spectrum and edge preservation of a noise model.

    Args:
        model: see `NoiseModel`.
        side: S, of the square images that noise is drawn for.
    """

    def __init__(self, model: NoiseModel, side: int) -> None:
        self.levels, self.edge_preservation = model.levels, model.edge_preservation
        self.side = side
        kernel = torch.zeros(side, side, 3, 3)
        for i in range(-MAX_LAG, MAX_LAG + 1):
            for j in range(-MAX_LAG, MAX_LAG + 1):
                kernel[i % side, j % side] += model.covariance[MAX_LAG + i, MAX_LAG + j]
        spectrum = torch.fft.fft2(kernel, dim=(0, 1))  # (S, S, 3, 3), Hermitian but for rounding
        values, vectors = torch.linalg.eigh(0.5 * (spectrum + spectrum.mH))
        root = vectors * values.clamp_min(0).sqrt()[..., None, :]
        frequency = torch.fft.fftfreq(side)
        luma, chroma = model.gain_at(torch.hypot(frequency[:, None], frequency))
        mean = root.mean(2, keepdim=True)  # over the channels that are drawn
        root = mean * luma[..., None, None] + (root - mean) * chroma[..., None, None]
        # Of real noise, half of the frequencies say all.
        self._root = root[:, : side // 2 + 1].permute(2, 3, 0, 1).contiguous()

    def draw(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Draw noise for an image.

        Args:
            clean: (3, S, S) float32 in [0, 1]; gives the brightness, and the structure near which
                edge-preserving noise reduction leaves more noise.
            generator: a CPU generator.

        Returns:
            (3, S, S) float32.
        """
        white = torch.randn(self.side, self.side, 3, generator=generator)
        coloured = (self._root * torch.fft.rfft2(white.permute(2, 0, 1))).sum(1)
        noise: Tensor = torch.fft.irfft2(coloured, s=(self.side, self.side))
        brightness = clean.mean(0).clamp(0, 1)
        sigma = interpolate(self.levels, brightness * (len(self.levels) - 1))
        if self.edge_preservation:
            fine = (clean - gaussian_blur(clean)).mean(0, keepdim=True)
            structure = gaussian_blur(fine.square())[0].sqrt()
            edge_power = EDGE_NOISE_GAIN * self.edge_preservation * sigma * structure
            sigma = (sigma.square() + edge_power).sqrt()
        return noise * sigma

"""What a network is told of the noise of developed photos: strength by brightness, and spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = 13
"""Brightnesses at which the strength is kept, evenly spaced in the square root of brightness."""
SPECTRUM = 5
"""Numbers that describe the spectrum, see `spectrum_of`."""
CHANNELS = 3
_LEAST = 1e-6
_WHITE = 0.2


@dataclass(frozen=True, kw_only=True)
class PhotoNoise:
    """Noise of B photos.

    Attributes:
        log_sigma: (B, 3, LEVELS) float32: natural logarithm of the standard deviation, on a scale
            of 255, in each channel.
        spectrum: (B, SPECTRUM) float32, see `spectrum_of`.
    """

    log_sigma: Tensor
    spectrum: Tensor

    @classmethod
    def white(cls, sigma: float) -> PhotoNoise:
        """Noise of one photo that is white and equally strong everywhere, on a scale of 255."""
        halved, chroma = math.log(0.5), math.log(math.sqrt(2))
        return cls(
            log_sigma=torch.full((1, CHANNELS, LEVELS), math.log(max(sigma, _LEAST))),
            spectrum=torch.tensor([[halved, 2 * halved, halved, 2 * halved, chroma]]),
        )

    @classmethod
    def stack(cls, noises: Sequence[PhotoNoise]) -> PhotoNoise:
        """Put several together."""
        return cls(
            log_sigma=torch.cat([noise.log_sigma for noise in noises]),
            spectrum=torch.cat([noise.spectrum for noise in noises]),
        )

    def scaled(self, factor: float) -> PhotoNoise:
        """The same noise, `factor` times as strong."""
        return PhotoNoise(
            log_sigma=self.log_sigma + math.log(max(factor, _LEAST)), spectrum=self.spectrum
        )

    def cautious(self, margin: float) -> PhotoNoise:
        """The same noise, weakened by up to `margin` on a scale of 255, strong noise hardly.

        A standard deviation s becomes sqrt(s^2 + margin^2) - margin.
        """
        squares = (2 * self.log_sigma).exp()
        weaker = squares / ((squares + margin**2).sqrt() + margin)
        return PhotoNoise(log_sigma=weaker.clamp_min(_LEAST).log(), spectrum=self.spectrum)

    def to(self, device: torch.device) -> PhotoNoise:
        """Move it to a device."""
        return PhotoNoise(log_sigma=self.log_sigma.to(device), spectrum=self.spectrum.to(device))

    def sigma(self, brightness: Tensor) -> Tensor:
        """Standard deviation at each pixel.

        Args:
            brightness: (B, 3, H, W) float32 in [0, 1], as coded.

        Returns:
            (B, 3, H, W) float32 in [0, 1] units.
        """
        return self.log_sigma_at(brightness).exp() / 255

    def log_sigma_at(self, brightness: Tensor) -> Tensor:
        """Logarithm of the standard deviation at each pixel, on a scale of 255; see `sigma`."""
        position = brightness.clamp(0, 1).sqrt() * (LEVELS - 1)
        below = position.long().clamp_max_(LEVELS - 2)
        part = position - below
        del position
        low, step = (
            of.gather(2, below.flatten(2)).view_as(part)
            for of in (self.log_sigma, self.log_sigma[..., 1:] - self.log_sigma[..., :-1])
        )
        del below
        return torch.addcmul(low, step, part)

    @property
    def shared(self) -> float:
        """How far neighbours share the noise of the first photo.

        The logarithm of how much more of its luma is left in means of 2 x 2 pixels than of white
        noise: 0 for white noise, about 0.3 to 0.7 for that of cameras.
        """
        return float(self.spectrum[0, 0]) - math.log(0.5)

    @property
    def is_white(self) -> bool:
        """Whether neighbours share hardly any of the first photo's noise, unlike a camera's."""
        return self.shared < _WHITE

    def at(self, brightness: float) -> float:
        """Standard deviation of the first photo, mean over its channels, on a scale of 255."""
        grey = torch.full((1, CHANNELS, 1, 1), brightness, device=self.log_sigma.device)
        first = PhotoNoise(log_sigma=self.log_sigma[:1], spectrum=self.spectrum[:1])
        return float(255 * first.sigma(grey).mean())


def brightness_of(level: int) -> float:
    """Return the brightness in [0, 1] that one of the `LEVELS` is at."""
    return (level / (LEVELS - 1)) ** 2


@dataclass(frozen=True)
class Grain:
    """The spectrum of noise in words of people.

    Attributes:
        luma: side in pixels of the squares that share their luma noise; 1 if it is white.
        chroma: the same of its chroma noise.
        chroma_share: standard deviation of chroma over that of luma; sqrt(2) if the channels share
            no noise.
    """

    luma: float
    chroma: float
    chroma_share: float


def grain_of(noise: PhotoNoise) -> Grain:
    """Describe the spectrum of one photo's noise.

    Means of 4 x 4 pixels of noise that squares of n x n share are n / 4 times as strong.
    """
    _, luma, _, chroma, share = noise.spectrum[0].exp().tolist()
    return Grain(luma=4 * luma, chroma=4 * chroma, chroma_share=share)


def spectrum_of(noise: Tensor) -> Tensor:
    """Describe the spectrum of noise by how much of it is left in means of neighbouring pixels.

    Luma is the mean of the channels, chroma what they differ from it.

    Args:
        noise: (B, 3, H, W) float32, sides of 4 or more.

    Returns:
        (B, SPECTRUM) float32: natural logarithms of the standard deviation of means of 2 x 2 and of
        4 x 4 pixels over that of pixels, of luma and of chroma, and of chroma over luma.
    """
    luma = noise.mean(1, keepdim=True)
    chroma = noise - luma

    def rms(x: Tensor, size: int = 1) -> Tensor:
        means = torch.nn.functional.avg_pool2d(x, size)
        return means.square().mean((1, 2, 3)).sqrt() + _LEAST

    ratios = [rms(x, size) / rms(x) for x in (luma, chroma) for size in (2, 4)]
    return torch.stack([*ratios, rms(chroma) / rms(luma)], 1).clamp(0.01, 100).log()

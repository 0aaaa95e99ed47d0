"""Estimate the noise of a photo without a clean version: its level, and what a network is told."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from amsnet_cli.core.networks import MaskedNetwork
from amsnet_cli.core.photo_noise import LEVELS, PhotoNoise
from amsnet_cli.noise.level import noise_level
from amsnet_cli.photos.geometry import window_starts
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec

WINDOW = 256
"""Side in pixels of the windows that the noise level is measured in."""
MAX_WINDOWS = 8
"""Windows along each side of a large photo."""
LEVEL_QUANTILE = 0.25
"""Quantile of the windows' levels that is the photo's: some windows may be full of texture."""
TOLD_WINDOWS = 5
"""The same for the noise that a network is told."""
LEAST_SHARE = 0.01
"""Share of a photo's pixels that are of a brightness, without which nothing is said of it."""
MEAN_PIXELS = 1 << 17
"""About how many pixels the mean of the noise is taken over, and brightnesses are counted in."""


def photo_noise_level(photo: Photo, scale: Photo | None = None) -> float:
    """Estimate the noise of a photo, mean over its channels, on a scale of 255.

    Large photos are measured in up to 64 windows, evenly spread, and the lower quartile is
    returned.

    Args:
        photo: any depth, grey or RGB; measured as stored, also if that is linear light.
        scale: the photo whose range becomes [0, 255], so that levels of several can be compared;
            None for `photo` itself.

    Returns:
        The standard deviation; nan where it cannot be estimated, see `noise.level.noise_level`.
    """
    codec = PixelCodec.of(replace(scale or photo, icc=None))
    height, width = photo.pixels.shape[:2]
    levels = []
    for top in window_starts(height, WINDOW, MAX_WINDOWS):
        for left in window_starts(width, WINDOW, MAX_WINDOWS):
            window = codec.decode(photo.pixels[top : top + WINDOW, left : left + WINDOW])
            levels.append(noise_level(torch.from_numpy(window).permute(2, 0, 1)).mean())
    return 255 * float(torch.stack(levels).nanquantile(LEVEL_QUANTILE))


def estimate_told_noise(photo: Photo, codec: PixelCodec, network: MaskedNetwork) -> PhotoNoise:
    """Estimate the noise that a network is told.

    A side of more than 1280 pixels is measured in five windows, evenly spread, a shorter one whole.

    Args:
        photo: any depth, grey or RGB.
        codec: of the photo.
        network: with an estimator; used where it is.
    """
    device = next(network.parameters()).device
    height, width = photo.pixels.shape[:2]
    windows = [
        torch.from_numpy(codec.decode(photo.pixels[rows, columns]))
        for rows in _spans(height)
        for columns in _spans(width)
    ]
    together = torch.stack(windows).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)  # (N, 3, h, w)
    return network.estimate_noise(together.to(device), one_photo=True)


def _spans(length: int) -> list[slice]:
    """Return what of a side is measured: all, or windows that do not overlap."""
    if length <= TOLD_WINDOWS * WINDOW:
        return [slice(0, length)]
    return [slice(s, s + WINDOW) for s in window_starts(length, WINDOW, TOLD_WINDOWS)]


def mean_sigma(photo: Photo, codec: PixelCodec, noise: PhotoNoise) -> float:
    """Return the root mean square over a photo of the noise that is told, in [0, 1] units.

    Args:
        photo: any depth, grey or RGB; some of its pixels are read.
        codec: of the photo.
        noise: of it.
    """
    brightness = _sampled(photo, codec)[None].expand(-1, 3, -1, -1)
    return float(noise.to(torch.device("cpu")).sigma(brightness).square().mean().sqrt())


def common_levels(photo: Photo, codec: PixelCodec) -> list[int]:
    """Return which of the brightnesses of a `PhotoNoise` a photo has, by their numbers.

    Args:
        photo: any depth, grey or RGB; some of its pixels are read.
        codec: of the photo.
    """
    nearest = (_sampled(photo, codec).clamp(0, 1).sqrt() * (LEVELS - 1)).round().long()
    counts = torch.bincount(nearest.flatten(), minlength=LEVELS)
    return torch.nonzero(counts >= LEAST_SHARE * nearest.numel()).flatten().tolist()


def _sampled(photo: Photo, codec: PixelCodec) -> torch.Tensor:
    """Return evenly spread pixels of a photo, (C, h, w) in [0, 1] units."""
    height, width = photo.pixels.shape[:2]
    step = 1 + math.isqrt(height * width // MEAN_PIXELS)
    sampled = codec.decode(photo.pixels[::step, ::step].copy())
    return torch.from_numpy(sampled).permute(2, 0, 1)

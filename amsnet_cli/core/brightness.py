"""Brightness under lopsided noise.

A camera's tone curve is concave: it makes noise that was even lopsided, and its mean darker than
the scene. Its median stays where it was, since a curve moves the middle value with all others. A
network that has learned means can therefore be too dark, by several of 255 levels on phones; how
much can be told from the picture itself, without a clean one: by the median of what was removed.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHADES = 16
_BINS = 2041
"""Of residuals from -1 to 1: four to a step of 8-bit pictures, each step in the middle of one."""
_FEWEST = 200
_LOPSIDED = 0.05
"""Distance of median and mean, in standard deviations, from which noise is fully lopsided."""


class Residuals:
    """Collects what was removed from a picture, by channel and shade.

    Args:
        channels: C, 1 or 3.
    """

    def __init__(self, channels: int) -> None:
        self.counts = torch.zeros(channels, SHADES, _BINS, dtype=torch.int64)

    def add(self, noisy: Tensor, denoised: Tensor) -> None:
        """Collect some of the picture's pixels.

        Args:
            noisy: (C, h, w) float32 in [0, 1].
            denoised: the same shape.
        """
        channels = len(noisy)
        bins = ((noisy - denoised).clamp(-1, 1) * (_BINS // 2)).round().long() + _BINS // 2
        shades = (denoised * SHADES).long().clamp(0, SHADES - 1)
        which = torch.arange(channels)[:, None, None]
        index = (which * SHADES + shades) * _BINS + bins
        found = torch.bincount(index.flatten(), minlength=self.counts.numel())
        self.counts += found.reshape(self.counts.shape)

    def shift(self) -> Tensor:
        """Tell by how much each shade must change.

        Returns:
            (C, SHADES) float32 in [0, 1] units. Where the noise is even, what the mean of all such
            pixels of the channel lost, so that no brightness is lost or made. Where the noise's
            median is plainly above its mean, the median, or 0 if the shade is that bright already.
        """
        counts = self.counts.double()
        total = counts.sum(2)
        values = torch.linspace(-1, 1, _BINS, dtype=torch.float64)
        mean = (counts * values).sum(2) / total.clamp_min(1)
        variance = (counts * values.square()).sum(2) / total.clamp_min(1) - mean.square()
        sigma = variance.clamp_min(0).sqrt()
        reached = counts.cumsum(2)
        place = (reached < total[..., None] / 2).sum(2).clamp_max(_BINS - 1)  # the median's bin
        inside = counts.gather(2, place[..., None])[..., 0].clamp_min(1)
        before = reached.gather(2, place[..., None])[..., 0] - inside
        width = 2 / (_BINS - 1)
        median = values[place] + width * ((total / 2 - before) / inside - 0.5)
        gap = median - mean - 2.5 * sigma / total.clamp_min(1).sqrt()  # less two standard errors
        lopsided = (gap / (_LOPSIDED * sigma).clamp_min(1e-9)).clamp(0, 1)
        even = total * (1 - lopsided)
        drift = (even * mean).sum(1, keepdim=True) / even.sum(1, keepdim=True).clamp_min(1)
        shift = torch.lerp(drift.expand_as(median), median.clamp_min(0), lopsided)
        return torch.stack([_spread(*line) for line in zip(shift, total >= _FEWEST, strict=True)])


def _spread(shift: Tensor, known: Tensor) -> Tensor:
    """Give shades of hardly any pixel what the nearest other shade has, (SHADES,)."""
    places = torch.nonzero(known).flatten()
    if not len(places):
        return torch.zeros(SHADES)
    nearest = (torch.arange(SHADES)[:, None] - places).abs().argmin(1)
    return shift[places[nearest]].float()


def shifted(denoised: Tensor, shift: Tensor) -> Tensor:
    """Change each shade, linearly between the middles of shades.

    Args:
        denoised: (C, h, w) float32.
        shift: (C, SHADES), from `Residuals.shift`.

    Returns:
        (C, h, w).
    """
    place = (denoised * SHADES - 0.5).clamp(0, SHADES - 1)
    low = place.long().clamp_max(SHADES - 2)
    below, above = (
        torch.stack([line[i] for line, i in zip(shift, at, strict=True)]) for at in (low, low + 1)
    )
    return denoised + torch.lerp(below, above, place - low)

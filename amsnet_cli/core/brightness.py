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

    def lift(self) -> Tensor:
        """Tell how far each shade lies below the median of its noisy pixels.

        Returns:
            (C, SHADES) float32, 0 or more, in [0, 1] units; less than the median by two of its
            standard errors, so that even noise lifts nothing.
        """
        counts = self.counts.double()
        total = counts.sum(2)
        values = torch.linspace(-1, 1, _BINS, dtype=torch.float64)
        mean = (counts * values).sum(2) / total.clamp_min(1)
        variance = (counts * values.square()).sum(2) / total.clamp_min(1) - mean.square()
        reached = counts.cumsum(2)
        place = (reached < total[..., None] / 2).sum(2).clamp_max(_BINS - 1)  # the median's bin
        inside = counts.gather(2, place[..., None])[..., 0].clamp_min(1)
        before = reached.gather(2, place[..., None])[..., 0] - inside
        width = 2 / (_BINS - 1)
        median = values[place] + width * ((total / 2 - before) / inside - 0.5)
        error = 1.25 * (variance.clamp_min(0) / total.clamp_min(1)).sqrt()
        lift = (median - 2 * error).clamp_min(0)
        return torch.where(total >= _FEWEST, lift, 0.0).float()


def lifted(denoised: Tensor, lift: Tensor) -> Tensor:
    """Lift each shade, linearly between the middles of shades.

    Args:
        denoised: (C, h, w) float32.
        lift: (C, SHADES), from `Residuals.lift`.

    Returns:
        (C, h, w).
    """
    place = (denoised * SHADES - 0.5).clamp(0, SHADES - 1)
    low = place.long().clamp_max(SHADES - 2)
    below, above = (
        torch.stack([line[i] for line, i in zip(lift, at, strict=True)]) for at in (low, low + 1)
    )
    return denoised + torch.lerp(below, above, place - low)

"""Brightness under noise that a tone curve has bent.

Noise that is even in the light a sensor counts becomes lopsided when the picture is coded: a tone
curve is concave, and the mean of coded values darker than the scene. A network that has learned
means is therefore too dark, by several of 255 levels on phones.

How much can be told from the picture itself, without a clean one. A curve moves the middle value
with all others, so the median of what was removed lies above its mean, and by about as much as the
mean of the light does, once that is coded. Where both agree over the shades that do not clip, the
curve is there, and then either tells the brightness of every shade. In the shadows they part: cut
off at black, the light's mean is too bright and the median too dark, and the middle is right.
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
_CLIPPED = 0.2
"""Share of pixels at black or white from which a shade says nothing of the tone curve; up to there,
the less the more there are, and from half of it on what all of them say counts less and less."""
_BENT = (0.25, 0.5)
"""Share of the bend of sRGB's tone curve that noise shows if it is not bent by it, and if it is."""
_NEXT = 0.5
"""Weight of the shades beside one."""


class ResidualHistogram:
    """Collects what was removed from a picture, by channel and shade.

    Args:
        channels: C, 1 or 3.
    """

    def __init__(self, channels: int) -> None:
        self.counts = torch.zeros(channels, SHADES, _BINS, dtype=torch.int64)
        self.light = torch.zeros(2, channels, SHADES, dtype=torch.float64)
        self.clipped = torch.zeros(channels, SHADES, dtype=torch.float64)

    def add(self, noisy: Tensor, denoised: Tensor) -> None:
        """Collect some of the picture's pixels.

        Args:
            noisy: (C, h, w) float32 in [0, 1].
            denoised: the same shape.
        """
        channels = len(noisy)
        bins = ((noisy - denoised).clamp(-1, 1) * (_BINS // 2)).round().long() + _BINS // 2
        shades = (denoised * SHADES).long().clamp(0, SHADES - 1)
        places = (torch.arange(channels)[:, None, None] * SHADES + shades).flatten()
        found = torch.bincount(places * _BINS + bins.flatten(), minlength=self.counts.numel())
        self.counts += found.reshape(self.counts.shape)
        light = [
            torch.bincount(places, linear_light(coded).flatten().double(), channels * SHADES)
            for coded in (noisy, denoised)
        ]
        self.light += torch.stack(light).reshape(self.light.shape)
        clipped = ((noisy <= 0) | (noisy >= 1)).flatten()
        cut = torch.bincount(places[clipped], minlength=channels * SHADES)
        self.clipped += cut.reshape(channels, SHADES)

    def shift(self, *, if_bent: bool = False) -> Tensor:
        """Tell by how much each shade must change.

        Args:
            if_bent: whether noise that no curve has bent changes nothing: a network that was made
                for just that noise knows its mean, also where it is clipped.

        Returns:
            (C, SHADES) float32 in [0, 1] units. Under noise that a tone curve has bent, midway
            between the median of what was removed and the light that was lost. Under other noise,
            what the mean of all such pixels of the channel lost, so that no brightness is lost or
            made; or, where the noise's median is plainly above its mean, the median, or 0 if the
            shade is that bright already.
        """
        # Pixels of one tone fall into two shades by what noise was left in them, and each half
        # alone tells of that noise; so each shade is told together with the next ones.
        counts = _with_next(self.counts.double())
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
        lit, shown = (_coded(_with_next(light) / total.clamp_min(1)) for light in self.light)
        lost = lit - shown

        gap = median - mean - 2.5 * sigma / total.clamp_min(1).sqrt()  # less two standard errors
        lopsided = (gap / (_LOPSIDED * sigma).clamp_min(1e-9)).clamp(0, 1)
        even = total * (1 - lopsided)
        drift = (even * mean).sum(1, keepdim=True) / even.sum(1, keepdim=True).clamp_min(1)
        unbent = torch.lerp(drift.expand_as(median), median.clamp_min(0), lopsided)
        unbent = torch.zeros_like(unbent) if if_bent else unbent

        telling = (1 - _with_next(self.clipped) / total.clamp_min(1) / _CLIPPED).clamp_min(0)
        known = self.counts.sum(2) >= _FEWEST
        telling = telling * known
        weight = total * telling.square()
        fully = float((weight * (lost - mean)).sum())
        bend = float((weight * (median - mean)).sum()) / fully if fully > 0 else 0.0
        bent = min(1.0, max(0.0, (bend - _BENT[0]) / (_BENT[1] - _BENT[0])))
        bent *= min(1.0, 2 * float(telling.max()))
        shift = torch.lerp(unbent, (median + lost) / 2, bent)
        return torch.stack([_spread(*line) for line in zip(shift, known, strict=True)])


def linear_light(coded: Tensor) -> Tensor:
    """Undo the tone curve of sRGB (IEC 61966-2-1); values in [0, 1], any shape."""
    coded = coded.clamp(0, 1)
    return torch.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def _coded(linear: Tensor) -> Tensor:
    return torch.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-9) ** (1 / 2.4) - 0.055
    )


def _with_next(shades: Tensor) -> Tensor:
    """Add to each shade of (C, SHADES) or (C, SHADES, N) some of the two beside it."""
    together = shades.clone()
    together[:, 1:] += _NEXT * shades[:, :-1]
    together[:, :-1] += _NEXT * shades[:, 1:]
    return together


def _spread(shift: Tensor, known: Tensor) -> Tensor:
    """Give shades of hardly any pixel what the nearest other shade has, (SHADES,)."""
    places = torch.nonzero(known).flatten()
    if not len(places):
        return torch.zeros(SHADES)
    nearest = (torch.arange(SHADES)[:, None] - places).abs().argmin(1)
    return shift[places[nearest]].float()


def correct_brightness(denoised: Tensor, shift: Tensor) -> Tensor:
    """Change each shade, linearly between the middles of shades.

    Args:
        denoised: (C, h, w) float32.
        shift: (C, SHADES), from `ResidualHistogram.shift`.

    Returns:
        (C, h, w).
    """
    place = (denoised * SHADES - 0.5).clamp(0, SHADES - 1)
    low = place.long().clamp_max(SHADES - 2)
    within = low.flatten(1)
    below, above = (line.gather(1, within).reshape_as(low) for line in (shift, shift[:, 1:]))
    return denoised + torch.lerp(below, above, place - low)

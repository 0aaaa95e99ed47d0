"""Fusion with the noisy pixel: how much of what was removed stays away.

A network takes fine texture for noise now and then: a mesh, a weave, print. No clean picture is
needed to notice: noise of one brightness is everywhere about as strong, so where more was removed
than in the quietest places of that brightness, structure went with it. There the noisy pixels come
back, in brightness and colour apart.

How much cells differ is in `core.measured`; this module judges it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.block_stats import (
    QUIET,
    BlockStats,
    quantile,
    quiet_correlation,
    quiet_power,
    split,
)

SURELY_STRUCTURE = 2.8
"""How many times the noise's power must have been removed for some to come back in any case: the
noise of photos itself varies up to that, by vignetting, demosaicking and in-camera noise
reduction."""
LIKELY_STRUCTURE = 1.3
"""The same for those who want texture back and take some noise with it."""
_AMID_TEXTURE = 1.8
"""The same where faint noise lies over texture: there much of what is just within was texture."""
_TEXTURE = (0.03, 0.1)
"""By how many more of the cells hold structure for sure in means of 2 x 2 pixels than pixel by
pixel, of pictures without much texture (and less) and with (and more)."""
_FAINT_NOISE = (5 / 255, 9 / 255)
"""Standard deviation of noise so faint that texture lowers the tolerance (and less), and so strong
that it does not (and more)."""
_STREAKS = (0.17, 0.23)
"""Mean coherence, of squares of 2 x 2 cells, of noise (and less) and of fur (and more)."""
_BY_CHANCE = ((0.6, 0.0), (0.75, 0.05), (0.85, 0.12), (0.9, 0.22))
"""Correlation of neighbours in coarse noise, and how much more coherent chance makes it: squares
hold few grains of it."""
_OF_STREAKS = 0.2
"""Share of the tolerance that is left there."""
_HIDDEN = 0.01
"""Share of the power of the structure that stays, up to which more may have gone: cameras spare the
noise of edges, and beside them it is hard to see."""
_SHADES = 9
_FEWEST_CELLS = 20
"""Cells of a shade from which its noise is told."""
_FEWEST_TELLING = 0.15
"""Share of the cells that must tell of noise for any to go."""
_DRAWN = (0.03, 0.1)
"""Share of uniform cells around, of photos (and less) and of graphics (and more)."""

# Of `noise_confidence`: from the first of each pair on it begins to change, at the second it has changed.
_IN_DOUBT = 0.25
"""What is left of it in doubt."""
_SHARED, _SHARED_IF_EVEN, _SHARED_IF_CODED = (0.05, 0.25), (0.05, 0.12), (0.35, 0.5)
"""Correlation of neighbours that speaks for noise: of most pictures, of those with an even floor,
and of those that were coded with loss."""
_FAINT, _FAINT_IF_CODED = (2.5 / 255, 4.0 / 255), (2.0 / 255, 3.0 / 255)
"""Standard deviation beyond which there is noise, shared or not."""
_FLOOR, _FLOOR_SHARE = (1.6 / 255, 2.0 / 255), 0.05
"""Grain of the faintest cells from which a floor of noise is plain, and their share."""
_EVEN = (1.3, 1.6)
"""How many times as strong quiet cells' grain is, at most, over a floor that is even."""
_ROUNDING = (0.3 / 255, 0.5 / 255)
"""Standard deviation, just above that of rounding to 8 bits, from which anything is said."""
_COARSE = (14 / 255, 20 / 255)
"""Quantisation step from which coding has left no faint texture."""


def wiener_gain(removed: BlockStats, tolerance: float, sure: float) -> Tensor:
    """Tell how much of what was removed was noise.

    Brightness is judged twice, as it was removed and in means of 2 x 2 pixels: texture of cloth,
    fur and wood is coarser than noise, and shows there first. Where what was removed is drawn out
    like fur, less is taken for noise; beside strong structure that stays, a little more where there
    is surely noise.

    Args:
        removed: of the whole picture.
        tolerance: how many times the quiet places' power is still noise; `SURELY_STRUCTURE` or
            `LIKELY_STRUCTURE`.
        sure: `noise_confidence` in the picture's noise.

    Returns:
        (2, h, w) float32 in [0, 1], of brightness and colour: 1 up to the tolerance, from there the
        noise's share in the sum of noise and structure (the gain of Wiener's filter). All 0 where
        there is nothing to tell noise from, as on a page of black and white print.
    """
    shares = torch.zeros_like(removed.power)
    if removed.telling.sum() <= _FEWEST_TELLING * (~removed.uniform).sum():
        return shares
    powers = torch.stack([removed.power[0], removed.coarse, removed.power[1]])
    usual, found = _usual(powers, removed), torch.stack([_blur(power) for power in powers])
    tolerance = min(tolerance, _tolerated(found[:2] > SURELY_STRUCTURE * usual[:2], removed))
    structure = _blur((removed.squares[0] - removed.brightness.square()).clamp_min(0))
    hidden = _HIDDEN * (sure - _IN_DOUBT) / (1 - _IN_DOUBT) * structure
    limit = tolerance * usual
    limit[:2] *= 1 - (1 - _OF_STREAKS) * _streaks(removed)
    limit += hidden
    within, coarsely, colour = torch.where(found > limit, limit / found, 1.0)
    shares = torch.stack([torch.minimum(within, coarsely), colour])
    return shares.masked_fill(removed.uniform, 0.0) * (1 - _drawn(removed))


def _tolerated(beyond: Tensor, removed: BlockStats) -> float:
    """Tell how many times the quiet places' power is not yet structure for sure.

    Texture is coarser than noise. Noise that is stronger in places, beside edges or where shadows
    were lifted, is as much too strong pixel by pixel as in means of 2 x 2.

    Args:
        beyond: (2, h, w) bool, where more than the most that is tolerated was removed, pixel by
            pixel and in means of 2 x 2.
        removed: of the whole picture.
    """
    counted = removed.telling & ~removed.uniform
    by_pixels, by_means = beyond[:, counted].sum(1) / counted.sum().clamp_min(1)
    texture = _between(float(by_means - by_pixels), _TEXTURE)
    texture *= 1 - _between(quiet_power(removed) ** 0.5, _FAINT_NOISE)
    return SURELY_STRUCTURE + (_AMID_TEXTURE - SURELY_STRUCTURE) * texture


def _usual(powers: Tensor, removed: BlockStats) -> Tensor:
    """Tell how strong noise usually is at each cell's brightness, by the quiet cells of each shade.

    Args:
        powers: (N, h, w) of what was removed.
        removed: of the whole picture.

    Returns:
        (N, h, w).
    """
    places, order = removed.brightness[removed.telling].sort()
    told = powers[:, removed.telling][:, order]
    noise = torch.full((len(powers), _SHADES), torch.nan)
    ends = torch.searchsorted(places, torch.arange(-1, _SHADES + 1) / (_SHADES - 1))
    for i in range(_SHADES):
        near = told[:, ends[i] : ends[i + 2]]
        if near.shape[1] >= _FEWEST_CELLS:
            noise[:, i] = quantile(near, QUIET)
    if not noise.isfinite().any():
        noise[:] = quantile(told, QUIET)[:, None]
    at = removed.brightness * (_SHADES - 1)
    return torch.stack([_read(levels, at) for levels in noise])


def is_weak(removed: BlockStats) -> bool:
    """Tell whether so little was removed that it may be no noise: `noise_confidence` asks for a step then."""
    return quiet_power(removed) < _FAINT[1] ** 2


def noise_confidence(removed: BlockStats, step: float | None) -> float:
    """Tell how far a picture of hardly any noise is one of noise at all.

    Demosaicking and what follows it let neighbouring pixels share the noise of cameras. Faint
    differences from pixel to pixel that neighbours do not share are fine texture, film grain or
    dither just as often: in the quiet cells, neighbours share what was removed from camera photos
    (DND, SIDD, RENOIR, PolyU), and hardly what was removed from noiseless ones (Kodak). What speaks
    for noise is a floor of the same height under a good part of the cells: above it less must be
    shared, and if it is high, nothing. What rounding to 8 bits would make says nothing.

    Lossy coding makes neighbours share whatever it keeps, so there more must be shared, but less of
    it is taken for faint; where its steps are coarse, faint texture has gone in coding, and what
    looks like it is the coding's own noise.

    Args:
        removed: of the whole picture.
        step: mean quantisation step that its brightness was coded with, in [0, 1] units (JPEG:
            2/255 at quality 98, 9/255 at 92, 29/255 at 75), 0 if it is not known; None if it never
            was. Counts only if what was removed `is_weak`.

    Returns:
        1 for camera noise and for all noise that is plainly there, less in doubt, at least
        `_IN_DOUBT`.
    """
    if not removed.telling.any():
        return 1.0
    level, correlation = quiet_power(removed), quiet_correlation(removed)
    grain = removed.grain[removed.telling & ~removed.uniform].sqrt()
    floor, usual = (float(quantile(grain, q)) if len(grain) else 0.0 for q in (_FLOOR_SHARE, QUIET))
    even = 1 - _between(usual / max(floor, 1e-6), _EVEN)
    plain = even * _between(floor, _FLOOR)
    wanted, faint = (_SHARED, _FAINT) if step is None else (_SHARED_IF_CODED, _FAINT_IF_CODED)
    evenly = even * _between(floor, _ROUNDING) * _between(correlation, _SHARED_IF_EVEN)
    shared = max(evenly, _between(correlation, wanted)) * _between(level**0.5, _ROUNDING)
    doubt = (1 - shared) * (1 - plain)
    doubt *= 1 - _between(level**0.5, faint)
    doubt *= 1 - _between(step or 0.0, _COARSE)
    return 1 - (1 - _IN_DOUBT) * doubt


def blend_weights(
    removed: BlockStats,
    luma: float | None,
    chroma: float | None,
    detail: float,
    sure: float,
) -> Tensor:
    """Decide how much of what was removed stays away; linear in all three numbers.

    Args:
        removed: of the whole picture.
        luma: share of the brightness, in [0, 1]; None for all but what was surely structure.
        chroma: the same of the colour.
        detail: how much of the brightness that was likely structure comes back, in [0, 1].
        sure: how far it was noise at all, see `noise_confidence`.

    Returns:
        (2, h, w) float32 in [0, 1], by cells, of brightness and colour.
    """
    surely = sure * wiener_gain(removed, SURELY_STRUCTURE, sure)
    wishes = zip((luma, chroma), surely, strict=True)
    stays = torch.stack([s if w is None else torch.full_like(s, w) for w, s in wishes])
    if detail:
        stays[0] *= 1 - detail * (1 - wiener_gain(removed, LIKELY_STRUCTURE, sure)[0])
    return stays


def blend_residual(noisy: Tensor, denoised: Tensor, luma: Tensor, chroma: Tensor) -> Tensor:
    """Give back what does not stay away; linear in both shares.

    Args:
        noisy: (C, H, W) float32.
        denoised: the same shape.
        luma: (1, H, W) share in [0, 1] of the removed brightness that stays away.
        chroma: the same of the removed colour; nothing to grey.

    Returns:
        (C, H, W): `denoised` where both are 1, `noisy` where both are 0.
    """
    brightness, colour = split(noisy - denoised)
    return denoised + (1 - luma) * brightness + (1 - chroma) * colour


def _streaks(removed: BlockStats) -> Tensor:
    """Tell where what was removed is drawn out, as fur and hair are, (h, w) in [0, 1].

    Noise that is drawn out everywhere alike, as where rows were interpolated, does not count.
    """
    slopes, power = removed.directions[:2], removed.directions[2:]
    usual = (slopes / power.clamp_min(1e-9)).flatten(1).median(1).values
    uneven = torch.cat([slopes - usual[:, None, None] * power, power])
    uneven = F.pad(uneven[None], (0, 1, 0, 1), "replicate")
    uneven = F.avg_pool2d(uneven, 2, stride=1)
    coherence = uneven[:, :2].square().sum(1).sqrt() / uneven[:, 2].clamp_min(1e-9)  # (1, h, w)
    around = F.avg_pool2d(F.pad(coherence, (2, 2, 2, 2), "replicate"), 5, stride=1)[0]
    by_chance = float(np.interp(quiet_correlation(removed), *np.array(_BY_CHANCE).T))
    return ((around - by_chance - _STREAKS[0]) / (_STREAKS[1] - _STREAKS[0])).clamp(0, 1)


def _drawn(removed: BlockStats) -> Tensor:
    """Tell where a picture is drawn, not photographed, (h, w) in [0, 1].

    Noise leaves no cell uniform but those it cannot reach, at black and white: of the photos of
    SIDD, RENOIR and PolyU hardly one in a thousand. Screenshots and graphics are full of them.
    """

    def around(cells: Tensor) -> Tensor:
        near = cells.float()[None]
        for window, padding in (((25, 1), (12, 0)), ((1, 25), (0, 12))):
            near = F.avg_pool2d(near, window, 1, padding, count_include_pad=False)
        return near[0]

    flat = around(removed.uniform & removed.telling) / around(removed.telling).clamp_min(1e-6)
    return ((flat - _DRAWN[0]) / (_DRAWN[1] - _DRAWN[0])).clamp(0, 1)


def _between(value: float, ends: tuple[float, float]) -> float:
    """Tell how far from the first end to the second a value is, in [0, 1]."""
    return min(1.0, max(0.0, (value - ends[0]) / (ends[1] - ends[0])))


def _blur(cells: Tensor) -> Tensor:
    """Binomial 3x3 over (h, w), edges repeated."""
    taps = torch.tensor([0.25, 0.5, 0.25])
    padded = F.pad(cells[None, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, torch.outer(taps, taps)[None, None])[0, 0]


def _read(values: Tensor, places: Tensor) -> Tensor:
    """Read `values` at `places`, linearly; NaNs are passed over, the ends go on level."""
    known = torch.nonzero(values.isfinite()).flatten()
    if len(known) == 1:
        return values[known].expand_as(places)
    at = torch.searchsorted(known.float(), places.contiguous()).clamp(1, len(known) - 1)
    low, high = known[at - 1], known[at]
    share = ((places - low) / (high - low)).clamp(0, 1)
    return torch.lerp(values[low], values[high], share)

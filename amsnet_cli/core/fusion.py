"""Fusion with the noisy pixel: put back what cannot have been noise.

A network takes fine texture for noise now and then: a mesh, a weave, print. No clean picture is
needed to notice: noise of one brightness is everywhere about as strong, so where far more was
removed than in most places of that brightness, it was structure. There the noisy pixels come
back, in luma and chroma apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CELL = 8
"""Side in pixels of the cells in which removed power is measured."""
_NODES = 9
_FEWEST_CELLS = 20
_QUANTILE = 0.25
_TOLERANCE = 6.0
"""How many times the power expected at a brightness may be removed before some comes back: the
noise of photos varies that much, by vignetting, demosaicking and in-camera noise reduction."""
_CLIPPED = 0.25


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What was removed, by cells of CELL x CELL pixels; those at the far edges may be smaller.

    Attributes:
        power: (2, h, w) mean square of the removed luma and chroma, in [0, 1] units.
        brightness: (h, w) mean of the denoised picture.
        uniform: (h, w) bool, whether all pixels of the noisy cell are the same: there is no noise.
        telling: (h, w) bool, whether the noise of the picture can be told from the cell: not
            where it is clipped to black or white.
    """

    power: Tensor
    brightness: Tensor
    uniform: Tensor
    telling: Tensor


def measure_removed(noisy: Tensor, denoised: Tensor) -> Removed:
    """Measure how much was removed in each cell.

    Args:
        noisy: (C, H, W) float32 in [0, 1], with C = 1 or 3.
        denoised: the same size.
    """
    luma, chroma = split(noisy - denoised)
    power = torch.stack([luma.square()[0], chroma.square().sum(0)])  # (2, H, W)
    clipped = ((noisy <= 0) | (noisy >= 1)).all(0, keepdim=True).float()
    uniform = (_most(noisy) == -_most(-noisy)).all(0)
    return Removed(
        power=torch.where(uniform, 0.0, _mean(power)),
        brightness=_mean(denoised.mean(0, keepdim=True))[0],
        uniform=uniform,
        telling=_mean(clipped)[0] < _CLIPPED,
    )


def kept_share(removed: Removed) -> Tensor:
    """Decide how much of what was removed stays removed.

    Returns:
        (2, h, w) float32 in [0, 1], for luma and chroma: 1 where the network is believed, towards
        0 where it took away far more than the picture's noise. All 0 where there is nothing to
        tell noise from, as on a page of black and white print.
    """
    shares = torch.zeros_like(removed.power)
    places = removed.brightness[removed.telling]
    if not len(places):
        return shares
    nodes = torch.linspace(0, 1, _NODES)
    for channel, power in enumerate(removed.power):
        told = power[removed.telling]
        expected = torch.full((_NODES,), torch.nan)
        for i, node in enumerate(nodes):
            near = told[(places - node).abs() < 1 / (_NODES - 1)]
            if len(near) >= _FEWEST_CELLS:
                expected[i] = near.quantile(_QUANTILE)
        if not expected.isfinite().any():
            expected[:] = told.quantile(_QUANTILE)
        limit = _TOLERANCE * _interpolate(expected, removed.brightness * (_NODES - 1))
        found = _blur(power)
        # Of the sum of noise and structure the noise's share (Wiener), with the tolerance.
        shares[channel] = torch.where(found > limit, limit / found, 1.0)
    return shares.masked_fill(removed.uniform, 0.0)


def fuse(noisy: Tensor, denoised: Tensor, shares: Tensor) -> Tensor:
    """Put back what is not kept away.

    Args:
        noisy: (C, H, W) float32.
        denoised: the same size.
        shares: (2, H, W), as `kept_share` by cells, brought to the size of the picture.

    Returns:
        (C, H, W).
    """
    luma, chroma = split(noisy - denoised)
    return noisy - shares[:1] * luma - shares[1:] * chroma


def split(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Split (C, H, W) into luma, the (1, H, W) mean of the channels, and the (C, H, W) rest."""
    luma = picture.mean(0, keepdim=True)
    return luma, picture - luma


def _mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x[None], CELL, ceil_mode=True, count_include_pad=False)[0]


def _most(x: Tensor) -> Tensor:
    return F.max_pool2d(x[None], CELL, ceil_mode=True)[0]


def _blur(cells: Tensor) -> Tensor:
    """Binomial 3x3 over (h, w), edges repeated."""
    taps = torch.tensor([0.25, 0.5, 0.25])
    padded = F.pad(cells[None, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, torch.outer(taps, taps)[None, None])[0, 0]


def _interpolate(values: Tensor, places: Tensor) -> Tensor:
    """Read `values` at `places`, linearly; NaNs are passed over, the ends go on level."""
    known = torch.nonzero(values.isfinite()).flatten()
    at = torch.searchsorted(known.float(), places.contiguous()).clamp(1, max(1, len(known) - 1))
    if len(known) == 1:
        return values[known].expand_as(places)
    low, high = known[at - 1], known[at]
    share = ((places - low) / (high - low)).clamp(0, 1)
    return torch.lerp(values[low], values[high], share)

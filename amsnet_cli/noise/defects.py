"""Find hot and dead photosites: those that say nothing about the light that falls on them.

A defect is alone. A star is not: air, lens and sensor spread its light, and the photosites beside
it, which have filters of other colours, get a share. So what stands out from its own colour, by far
more than noise, is a defect where those beside it certainly lack that share. What is uncertain is
kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.noise.colour_pattern import pattern_period
from amsnet_cli.noise.sensor import SensorNoise

DEFECT_REACH = 3
"""Photosites around one that decide whether it is a defect."""
_NEIGHBOURS = 8
"""Nearest photosites of the same colour that a defect stands out from."""


@dataclass(frozen=True, kw_only=True)
class DefectConfig:
    """Numbers of `find_defects`; `tests/test_defects.py` shows that they hold.

    Attributes:
        outstanding: standard deviations by which a defect lies outside of the range of its nearest
            neighbours of the same colour.
        neighbour_range: times that range by which it does so, too: fine texture varies.
        clutter: times the greatest deviation of the eight photosites around a defect from their
            own colours that it deviates by.
        sharpest_point: what a point of light adds to each of the four photosites beside it at
            least, relative to its own. It is .051 for a Gaussian with a full width at half maximum
            of .7 photosites in the middle of its photosite.
        faintest_colour: the share of that light that the colours beside it record at least, where
            a white one has all of it. The coolest stars have .6, by Planck's law.
        certainty: standard errors by which those four must have less than that.
    """

    outstanding: float = 4.0
    neighbour_range: float = 3.0
    clutter: float = 3.0
    sharpest_point: float = 0.051
    faintest_colour: float = 0.6
    certainty: float = 2.0


def find_defects(
    mosaic: Tensor,
    colours: Tensor,
    noise: SensorNoise,
    *,
    neutral: tuple[float, float, float] = (1.0, 1.0, 1.0),
    config: DefectConfig = DefectConfig(),
) -> Tensor:
    """Return where a mosaic has defects.

    Args:
        mosaic: (H, W) float, 0 at black and 1 at white.
        colours: (3, H, W): 1 where a photosite records red, green, blue, else 0.
        noise: one law, or one for each photosite, (1, H, W).
        neutral: red, green and blue that the sensor gives for grey, in any unit.
        config: see `DefectConfig`.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: the colours do not repeat every one, two or six photosites.
    """
    defects = torch.zeros(mosaic.shape, dtype=torch.bool)
    stabilised = noise.stabilise(mosaic).reshape(mosaic.shape)
    sigma = (
        noise.sigma.expand_as(mosaic) if noise.sigma.dim() < 2 else noise.sigma.reshape_as(mosaic)
    )
    places = torch.nonzero(_stands_out(stabilised, colours, sigma, config))
    if not len(places):
        return defects
    grey = torch.tensor(neutral)
    if bool(colours.bool().all()):  # Monochrome: every photosite has its neighbours' colour.
        colours, grey = colours[:1], torch.ones(1)
    windows = _windows(mosaic, places)  # (N, 7, 7)
    kinds = torch.stack([_windows(plane, places) for plane in colours.bool()], 1)  # (N, C, 7, 7)
    steps = torch.arange(-DEFECT_REACH, DEFECT_REACH + 1).abs()
    ring = torch.maximum(steps[:, None], steps) >= 2
    beside = steps[:, None] + steps == 1

    of_ring = torch.where(kinds[..., ring].bool(), windows[:, None, ring], torch.nan)
    background = of_ring.nanmedian(2).values  # (N, C)
    background = (kinds.nan_to_num() * background[..., None, None].nan_to_num()).sum(1)
    gain = (kinds.nan_to_num() * grey[:, None, None]).sum(1).clamp_min(1e-6)  # (N, 7, 7)
    a, b = (_at(value, places) for value in (noise.a, noise.b))
    variance = (a * background + b).clamp_min(1e-12) / gain.square()
    light = (windows - background) / gain
    own = light[:, DEFECT_REACH, DEFECT_REACH]
    shown = light[:, beside].nanmean(1)
    around = torch.maximum(steps[:, None], steps) == 1
    clutter = light[:, around].abs().nan_to_num().amax(1)
    known = windows[:, beside].isfinite()
    error = (variance[:, beside] * known).sum(1).sqrt() / known.sum(1).clamp_min(1)
    least = config.sharpest_point * config.faintest_colour * own.abs()
    sound = known.any(1) & own.isfinite() & (own.abs() > config.clutter * clutter)
    found = sound & (shown.abs() < least - config.certainty * error)
    defects[places[found].unbind(1)] = True
    return defects


def _stands_out(stabilised: Tensor, colours: Tensor, sigma: Tensor, config: DefectConfig) -> Tensor:
    """Return where values lie far outside of their neighbours' range, (H, W) bool."""
    period = pattern_period(colours)
    height, width = stabilised.shape
    edge = DEFECT_REACH
    rows, columns = (-(-side // period) * period for side in (height, width))
    sides = (edge, edge + columns - width, edge, edge + rows - height)
    padded = F.pad(stabilised, sides, value=torch.nan)
    high, low = torch.empty(rows, columns), torch.empty(rows, columns)
    for row in range(period):
        for column in range(period):
            around = [
                padded[edge + row + y :: period, edge + column + x :: period][
                    : rows // period, : columns // period
                ]
                for y, x in _same_colour(colours, row, column, period)
            ]
            top, bottom = around[0], around[0]
            for values in around[1:]:
                top, bottom = torch.fmax(top, values), torch.fmin(bottom, values)
            high[row::period, column::period] = top
            low[row::period, column::period] = bottom
    high, low = high[:height, :width], low[:height, :width]
    margin = config.outstanding * sigma.to(high) + config.neighbour_range * (high - low)
    return (stabilised > high + margin) | (stabilised < low - margin)


def _same_colour(colours: Tensor, row: int, column: int, period: int) -> list[tuple[int, int]]:
    """Offsets of the nearest photosites of the same colour as one of the pattern."""
    tile = colours[:, :period, :period]
    reach = range(-DEFECT_REACH, DEFECT_REACH + 1)
    here = tile[:, row, column]
    offsets = [
        (y, x)
        for y in reach
        for x in reach
        if (y, x) != (0, 0)
        and torch.equal(tile[:, (row + y) % period, (column + x) % period], here)
    ]
    return sorted(offsets, key=lambda step: (step[0] ** 2 + step[1] ** 2, step))[:_NEIGHBOURS]


def _windows(plane: Tensor, places: Tensor) -> Tensor:
    """Cut out what is around N places, (N, 7, 7) float; nan outside."""
    edge = DEFECT_REACH
    padded = F.pad(plane.float(), (edge, edge, edge, edge), value=torch.nan)
    steps = torch.arange(2 * edge + 1)
    row, column = places.unbind(1)
    return padded[row[:, None, None] + steps[:, None], column[:, None, None] + steps]


def _at(value: float | Tensor, places: Tensor) -> Tensor:
    """Return a number, or what a plane has at N places as (N, 1, 1)."""
    value = torch.as_tensor(value)
    return (
        value
        if value.dim() == 0
        else value.reshape(value.shape[-2:])[places.unbind(1)][:, None, None]
    )

"""Find what the photosites of a row share: noise of the amplifiers that read a row at a time.

A row is compared with those of the same colours around it, for the left and the right half of the
picture on its own. The noise of a row is the same in both halves, and all else is not: noise of
the photosites and what the picture shows. So the covariance of the halves is the variance of row
noise, and their difference tells how well it is known.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from amsnet_cli.noise.colour_pattern import pattern_period
from amsnet_cli.noise.level import MAD_TO_SIGMA
from amsnet_cli.noise.sensor import SensorNoise

_BAND = 512
"""Rows that are looked at at once."""
_DRAWN_CLOSER = 1 + 1 / 4
"""Variance of white noise less the mean of four of its neighbours."""


@dataclass(frozen=True, kw_only=True)
class RowNoiseConfig:
    """Numbers of `row_noise`; `tests/test_row_noise.py` shows that they hold.

    Attributes:
        clip: standard deviations at which the residual of a photosite, and of a row, is clipped.
        significance: standard errors by which the covariance of the halves exceeds 0, or there is
            no row noise.
        largest: standard deviation of row noise, relative to that of noise in the dark, from which
            it is taken for what the picture shows.
        fewest_rows: rows without which nothing is estimated.
    """

    clip: float = 3.0
    significance: float = 5.0
    largest: float = 0.5
    fewest_rows: int = 64


def row_noise(
    mosaic: Tensor,
    colours: Tensor,
    noise: SensorNoise,
    config: RowNoiseConfig = RowNoiseConfig(),
) -> Tensor | None:
    """Estimate what is added to each row of a mosaic.

    For the noise of columns, transpose the mosaic and its colours.

    Args:
        mosaic: (H, W) float, 0 at black and 1 at white.
        colours: (3, H, W): 1 where a photosite records red, green, blue, else 0.
        noise: one law for all colours.
        config: see `RowNoiseConfig`.

    Returns:
        (H,), to be subtracted; None where no row noise is significant.

    Raises:
        ValueError: the colours do not repeat every one, two or six photosites.
    """
    step = pattern_period(colours)
    height, width = mosaic.shape
    if height < config.fewest_rows + 4 * step or width < 2:
        return None
    halves = torch.stack(
        [_row_residuals(part, step, noise, config) for part in mosaic.tensor_split(2, 1)]
    )  # (2, H - 4 step)
    spread = MAD_TO_SIGMA * halves.abs().median(1, keepdim=True).values
    if not bool((spread > 0).all()):
        return None
    halves = halves.clamp(-config.clip * spread, config.clip * spread)
    left, right = halves - halves.mean(1, keepdim=True)
    shared = (left * right).mean()
    chance = (left.square().mean() * right.square().mean() / len(left)).sqrt()
    if not config.significance * chance < shared < config.largest**2 * float(noise.b):
        return None
    unshared = ((left - right) / 2).square().mean()
    # What the rows compared with have of it leaks in, as the factor in front says.
    offsets = (left + right) / 2 * shared / (shared + unshared) / _DRAWN_CLOSER
    found = mosaic.new_zeros(height)
    found[2 * step : height - 2 * step] = offsets.to(found)
    return found


def _row_residuals(mosaic: Tensor, step: int, noise: SensorNoise, config: RowNoiseConfig) -> Tensor:
    """Weighted mean over each row of what rows of the same colours do not predict, (H - 4 step,).

    The rows are those one and two steps above and below. Dark photosites weigh more.
    """
    height = mosaic.shape[0]
    found = []
    for top in range(2 * step, height - 2 * step, _BAND):
        end = min(top + _BAND, height - 2 * step)
        above_and_below = [mosaic[top + k * step : end + k * step] for k in (-2, -1, 1, 2)]
        predicted = torch.stack(above_and_below).mean(0)
        variance = noise.variance(predicted.clamp_min(0)) * _DRAWN_CLOSER
        residual = (mosaic[top:end] - predicted) / variance.sqrt()
        residual = residual.clamp(-config.clip, config.clip)
        weight = variance.rsqrt()
        found.append((residual * weight).sum(1) / weight.square().sum(1))
    return torch.cat(found)

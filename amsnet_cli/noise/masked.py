"""Measure the noise in the dark from photosites that no light reaches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from amsnet_cli.noise.level import MAD_TO_SIGMA


@dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    """Numbers of `masked_noise`; `tests/test_mosaic_noise.py` shows that they hold.

    Attributes:
        edge: photosites at each side of an area that may see light or nothing.
        fewest: photosites without which nothing is measured.
        clip: standard deviations from which a difference is a defect's.
        black_error: largest distance from black, in standard deviations of the noise: areas
            further away hold something else.
        pinned: largest share of photosites with the lowest value: noise is cut off there.
    """

    edge: int = 4
    fewest: int = 2000
    clip: float = 4.0
    black_error: float = 1.0
    pinned: float = 0.02


@dataclass(frozen=True, kw_only=True)
class DarkNoise:
    """What masked photosites say.

    Attributes:
        variance: of the noise, b, without what rows or columns share.
        black: their median: 0 where the black level is right.
    """

    variance: float
    black: float


def masked_noise(
    areas: list[Tensor], period: int, step: float, config: MaskedConfig = MaskedConfig()
) -> DarkNoise | None:
    """Measure the noise in the dark.

    Half of the mean square difference of neighbours of the same colour is the variance, whatever
    the black level of their row or column is.

    Args:
        areas: (H, W) each, 0 at black and 1 at white.
        period: of the colours, in photosites.
        step: of the values, between numbers that a file holds.
        config: see `MaskedConfig`.

    Returns:
        None where there are too few photosites, or they hold something else than noise about black.
    """
    edge = config.edge
    whole = [a[edge:-edge, edge:-edge] for a in areas if min(a.shape) >= 2 * (edge + period)]
    differences = [(a[:, period:] - a[:, :-period]).flatten() for a in whole]
    if sum(map(len, differences)) < config.fewest:
        return None
    values, difference = torch.cat([a.flatten() for a in whole]), torch.cat(differences)
    spread = MAD_TO_SIGMA * float(difference.abs().median())
    kept = difference[difference.abs() <= config.clip * max(spread, step)]
    variance = float(kept.square().mean()) / 2
    black = float(values.median())
    pinned = float((values == values.min()).float().mean())
    if variance <= 0 or abs(black) > config.black_error * max(variance**0.5, step):
        return None
    return None if pinned > config.pinned else DarkNoise(variance=variance, black=black)

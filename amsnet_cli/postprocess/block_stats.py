"""What is measured, by cells, of a picture and of what was removed from it.

Brightness is the luma of Rec. ITU-R BT.709, a weighted sum of the channels as they are coded; what
is left when it is taken from each channel is colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.blocks import BLOCK_SIZE, block_means

QUIET = 0.25
"""Share of the cells of one brightness that are taken to hold noise alone."""
_LUMA = (0.2126, 0.7152, 0.0722)
_CLIPPED = 0.25
"""Share of pixels at black or white from which a cell tells nothing of the noise."""
_ROUNDING = 1e-6
"""By how much sums in float32 of equal pixels differ at most; a step of 16 bits in red is 3e-6."""


@dataclass(frozen=True, kw_only=True)
class BlockStats:
    """What is measured of a picture and of what was removed from it, by cells.

    Attributes:
        power: (2, h, w) mean square of the removed brightness and colour, in [0, 1] units.
        coarse: (h, w) mean square of the removed brightness averaged over 2 x 2 pixels.
        alike: (h, w) mean product of the removed brightness with that of the next pixel of the
            cell, of rows and columns.
        directions: (3, h, w) structure tensor of the removed brightness (Bigun and Granlund,
            "Optimal orientation detection of linear symmetry", ICCV 1987): mean square of
            its slope across less that of its slope down, twice their product, the squares' sum.
        grain: (h, w) variance that white noise in the noisy brightness would have, by Immerkaer's
            operator (Fast noise variance estimation, CVIU 1996): blind to edges and gradients.
        brightness: (h, w) mean of the denoised brightness.
        colour: (C, h, w) means of the denoised colour.
        squares: (2, h, w) mean squares of the denoised brightness and colour.
        uniform: (h, w) bool, whether all noisy pixels are equally bright: there is no noise.
        telling: (h, w) bool, whether the picture's noise can be told from the cell: not where it is
            clipped to black or white.
    """

    power: Tensor
    coarse: Tensor
    alike: Tensor
    directions: Tensor
    grain: Tensor
    brightness: Tensor
    colour: Tensor
    squares: Tensor
    uniform: Tensor
    telling: Tensor


def block_stats(noisy: Tensor, denoised: Tensor, *, above: int = 0, below: int = 0) -> BlockStats:
    """Measure a picture, and how much was removed in each cell.

    Args:
        noisy: (C, above + H + below, W) float32 in [0, 1], with C = 1 or 3; H a multiple of BLOCK_SIZE,
            but for the last rows of a picture.
        denoised: the same shape.
        above: 1 where the row above is given as well, to see how cells go on there, else 0.
        below: the same of the row below.
    """
    rows = np.s_[:, above : noisy.shape[1] - below]
    luma, chroma = split(noisy - denoised)
    directions = _directions(luma[0], above, below)
    noisy, denoised, luma, chroma = (x[rows] for x in (noisy, denoised, luma, chroma))
    left = split(denoised)
    shown = luma + left[0]
    power, squares = (
        block_means(torch.cat([y.square(), c.square().mean(0, keepdim=True)]))
        for y, c in ((luma, chroma), left)
    )
    alike = [
        _mean_within(luma[:, :, 1:] * luma[:, :, :-1], 0, 1),
        _mean_within(luma[:, 1:] * luma[:, :-1], 1, 0),
    ]
    bends = shown.diff(n=2, dim=1).diff(n=2, dim=2) / 6
    # With the pixels around, as the last cell may be a single pixel.
    ends = F.max_pool2d(
        torch.cat([shown, -shown])[None], BLOCK_SIZE + 2, BLOCK_SIZE, 1, ceil_mode=True
    )
    uniform = ends[0].sum(0) < _ROUNDING
    clipped = ((noisy <= 0) | (noisy >= 1)).all(0, keepdim=True).float()
    return BlockStats(
        power=torch.where(uniform, 0.0, power),
        coarse=F.avg_pool2d(
            F.avg_pool2d(luma, 2, ceil_mode=True, count_include_pad=False).square(),
            BLOCK_SIZE // 2,
            ceil_mode=True,
        )[0],
        alike=0.5 * (alike[0] + alike[1]),
        directions=directions,
        grain=_mean_within(bends.square(), 2, 2),
        brightness=block_means(left[0])[0],
        colour=block_means(left[1]),
        squares=squares,
        uniform=uniform,
        telling=block_means(clipped)[0] < _CLIPPED,
    )


def quiet_power(removed: BlockStats) -> float:
    """Tell how much brightness was removed where it was least, as a mean square; 0 if untold."""
    power = removed.power[0][removed.telling]
    return float(quantile(power, QUIET)) if len(power) else 0.0


def quiet_correlation(removed: BlockStats) -> float:
    """Tell how alike neighbouring pixels are in what was removed there, in [-1, 1]; 0 if untold."""
    power, alike = removed.power[0][removed.telling], removed.alike[removed.telling]
    quiet = power <= quiet_power(removed)
    return float(alike[quiet].sum() / power[quiet].sum().clamp_min(1e-12))


def split(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Split (C, H, W) into brightness, (1, H, W), and what is left of each channel, (C, H, W)."""
    if picture.shape[0] == 1:
        return picture, torch.zeros_like(picture)
    luma = torch.einsum("chw,c->hw", picture, picture.new_tensor(_LUMA))[None]
    return luma, picture - luma


def quantile(values: Tensor, share: float) -> Tensor:
    """Quantile of the last dimension, as torch's is, but for any number of values."""
    return values.kthvalue(1 + int(share * (values.shape[-1] - 1))).values


def _directions(luma: Tensor, above: int, below: int) -> Tensor:
    """Compute `BlockStats.directions` of (above + H + below, W)."""
    across, down = (torch.zeros_like(luma) for _ in range(2))
    across[:, 1:-1] = luma[:, 2:] - luma[:, :-2]
    down[1:-1] = luma[2:] - luma[:-2]
    squares = torch.stack([across.square(), 2 * across * down, down.square()])
    means = block_means(squares[:, above : len(luma) - below])
    return torch.stack([means[0] - means[2], means[1], means[0] + means[2]])


def _mean_within(values: Tensor, rows: int, columns: int) -> Tensor:
    """Mean by cell of what is computed from each pixel and so many rows and columns on.

    Args:
        values: (1, H - rows, W - columns); those that look into the next cell do not count, so
            that a cell is the same whatever rows are computed together.
        rows: see there.
        columns: see there.

    Returns:
        (h, w).
    """
    sums = F.pad(values, (0, columns, 0, rows))
    for lost in range(1, rows + 1):
        sums[:, BLOCK_SIZE - lost :: BLOCK_SIZE] = 0
    for lost in range(1, columns + 1):
        sums[:, :, BLOCK_SIZE - lost :: BLOCK_SIZE] = 0
    down, across = (
        (torch.arange(size) % BLOCK_SIZE < BLOCK_SIZE - lost) & (torch.arange(size) < size - lost)
        for size, lost in ((sums.shape[1], rows), (sums.shape[2], columns))
    )
    counted = torch.outer(*(block_means(x.float()[None, None])[0, 0] for x in (down, across)))
    return block_means(sums)[0] / counted.clamp_min(1e-6)

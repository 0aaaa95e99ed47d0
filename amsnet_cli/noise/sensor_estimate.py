"""Estimate the noise of a sensor from one mosaic, without its clean version.

The picture is cut into blocks, and in each the variance of what neighbours of the same colour do
not predict is taken. It is that of the noise, a x + b, and that of texture together. Texture only
adds, and differs from block to block, while noise follows one law all over the picture and all of
its colours. So the block variances are a mixture: of the noise alone, and of the noise with more
and more texture. Each (a, b) is rated by how likely such a mixture makes the variances that were
found, and by how common such sensors and such textures are.

Related: Foi et al. (IEEE TIP 2008) fit the law to flat segments; Pyatykh et al. (IEEE TIP 2013)
take noise for what is left in the plainest patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.noise.sensor import SensorNoise


@dataclass(frozen=True, kw_only=True)
class EstimateConfig:
    """Numbers that the estimate rests on.

    Attributes:
        block: photosites to the side of a block, about.
        white: values from which a block counts as clipped, 1 at white.
        most_blocks: blocks looked at, at random, for time.
        gain_per_iso: median of a / ISO of cameras with interchangeable lenses.
        gain_spread: standard deviation of its logarithm.
        gain_tail: exponent at which cameras of a larger a / ISO become rarer: small sensors.
        dark_ratio: median of b / a^2, the variance in the dark in squares of a photon.
        dark_spread: standard deviation of its logarithm.
        texture: median over blocks of the standard deviation of texture in the stabilised scale.
        texture_spread: standard deviation of its logarithm.
        texture_weight: blocks that this prior of texture counts for.
        weight: how much each block counts, as blocks of one picture are alike.
        quantile: of a, by its posterior: below 1/2 is cautious.
    """

    block: int = 16
    white: float = 0.98
    most_blocks: int = 1200
    gain_per_iso: float = 1.8e-7
    gain_spread: float = 0.5
    gain_tail: float = 1.5
    dark_ratio: float = 5.0
    dark_spread: float = 1.3
    texture: float = 5e-3
    texture_spread: float = 1.5
    texture_weight: float = 20.0
    weight: float = 0.3
    quantile: float = 0.4


@dataclass(frozen=True, kw_only=True)
class BlockVariances:
    """What was measured in N blocks of one colour each.

    Attributes:
        light: (N,) mean value.
        variance: (N,) mean square of the residuals, of which noise alone has the variance of noise.
        freedom: (N,) degrees of freedom of that variance, as of a chi-squared distribution.
    """

    light: Tensor
    variance: Tensor
    freedom: Tensor


def estimate_sensor_noise(
    mosaic: Tensor, colours: Tensor, iso: float | None = None, config: EstimateConfig | None = None
) -> SensorNoise | None:
    """Estimate a and b.

    Args:
        mosaic: (H, W) float, 0 at black and 1 at white; values below black are there.
        colours: (3, H, W): 1 where a photosite records red, green, blue, else 0.
        iso: what the camera says, if it does: it tells noise from fine texture where the picture
            does not.
        config: the defaults if None.

    Returns:
        None where fewer than 30 blocks are neither black nor white.
    """
    config = config or EstimateConfig()
    blocks = block_variances(mosaic, colours, config)
    if len(blocks.light) < 30:
        return None
    return most_likely_noise(blocks, iso, config)


def block_variances(mosaic: Tensor, colours: Tensor, config: EstimateConfig) -> BlockVariances:
    """Measure the variance of residuals in the blocks of a mosaic."""
    mosaic = mosaic.double()
    period = _period(colours)
    side = period * max(1, round(config.block / period))
    freedom = _freedom(colours, period, side)
    residuals = _residuals(mosaic, colours, period)
    least = mosaic.min()
    usable = (mosaic < config.white) & (residuals == residuals)
    pinned = mosaic <= least
    groups = [colours[c].bool() for c in range(3)] if period > 1 else [colours[0].bool()]
    found = []
    for index, group in enumerate(groups):
        count = _block_sums(group.double(), side)
        good = _block_sums((group & usable).double(), side) == count
        good &= _block_sums((group & pinned).double(), side) <= 0.02 * count
        squares = torch.where(group, residuals.square().nan_to_num(), 0)
        light = _block_sums(torch.where(group, mosaic, 0), side) / count
        variance = _block_sums(squares, side) / count
        good &= variance > 0
        found.append(
            torch.stack([light, variance, torch.full_like(light, freedom[index])], -1)[good]
        )
    values = torch.cat(found)
    if len(values) > config.most_blocks:
        order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
        values = values[order[: config.most_blocks]]
    return BlockVariances(light=values[:, 0], variance=values[:, 1], freedom=values[:, 2])


def most_likely_noise(
    blocks: BlockVariances, iso: float | None, config: EstimateConfig
) -> SensorNoise:
    """Rate a grid of (a, b) by the variances found in blocks."""
    a = torch.logspace(-6.2, -0.7, 111, dtype=torch.float64)
    ratio = torch.logspace(-0.6, 2.4, 7, dtype=torch.float64)
    texture = torch.cat([torch.zeros(1), torch.logspace(-3.4, -0.4, 25)]).double()
    prior = _log_normal(texture[1:], config.texture, config.texture_spread).exp()
    prior = torch.cat([prior[:1], prior])
    prior = config.texture_weight * prior / prior.sum()

    grid_a, grid_ratio = (x.flatten() for x in torch.meshgrid(a, ratio, indexing="ij"))  # (G,)
    noise = grid_a[:, None] * blocks.light.clamp_min(0) + (grid_ratio * grid_a.square())[:, None]
    # In the stabilised scale texture is as strong in the light as in the dark.
    slope = 4 * (blocks.light.clamp_min(0) + 1e-4)  # (N,)
    rating = torch.empty_like(grid_a)
    freedom, found = blocks.freedom[:, None], blocks.variance[:, None]
    for g in range(len(grid_a)):
        expected = noise[g][:, None] + slope[:, None] * texture.square()  # (N, K)
        share = freedom * found / (2 * expected)
        logs = freedom / 2 * share.log() - share - torch.lgamma(freedom / 2)  # (N, K)
        top = logs.amax(1, keepdim=True)
        likelihood = (logs - top).exp()
        mix = prior / prior.sum()
        for _ in range(12):
            each = likelihood * mix
            counts = config.weight * (each / each.sum(1, keepdim=True)).sum(0) + prior
            mix = counts / counts.sum()
        total = (likelihood @ mix).log() + top[:, 0]
        rating[g] = config.weight * total.sum() + (prior * mix.log()).sum()
    rating += _log_normal(grid_ratio, config.dark_ratio, config.dark_spread)
    if iso:
        gain = (grid_a / iso / config.gain_per_iso).log()
        bell = -0.5 * (gain / config.gain_spread) ** 2
        rating += torch.maximum(bell, torch.where(gain > 0, -config.gain_tail * gain - 1, -math.inf))
    posterior = (rating - rating.max()).exp().reshape(len(a), len(ratio))
    cumulative = posterior.sum(1).cumsum(0) / posterior.sum()
    index = int((cumulative < config.quantile).sum())
    mean_log_ratio = (posterior[index] * ratio.log()).sum() / posterior[index].sum()
    best = float(a[index])
    return SensorNoise(a=best, b=float(mean_log_ratio.exp()) * best**2)


def _log_normal(x: Tensor, median: float, spread: float) -> Tensor:
    return -0.5 * ((x / median).log() / spread) ** 2


def _period(colours: Tensor) -> int:
    """Smallest side of a tile of which the colours are made, of those that sensors have."""
    for period in (1, 2, 6):
        same_down = torch.equal(colours[:, period:], colours[:, :-period])
        if same_down and torch.equal(colours[..., period:], colours[..., :-period]):
            return period
    raise ValueError("the colours of this mosaic do not repeat every one, two or six photosites")


def _residuals(mosaic: Tensor, colours: Tensor, period: int) -> Tensor:
    """What a surface through photosites of the same colour does not explain, (H, W).

    The surface is 1, x, y, x^2, y^2 about each photosite: level, slope, and an edge along either
    axis. The residual is scaled so that white noise keeps its variance. At the border it is nan.
    """
    half = 3 if period == 6 else 2
    height, width = mosaic.shape
    residuals = torch.full_like(mosaic, torch.nan)
    steps = torch.arange(-half, half + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    surface = torch.stack([torch.ones_like(x), x, y, x * x, y * y], -1)  # (w, w, 5)
    for i in range(half, half + period):
        for j in range(half, half + period):
            around = colours[:, i - half : i + half + 1, j - half : j + half + 1]
            same = (around == around[:, half : half + 1, half : half + 1]).all(0)
            design = surface[same]  # (n, 5)
            centre = torch.zeros(len(design), dtype=torch.float64)
            centre[int(same.flatten()[: same.numel() // 2].sum())] = 1
            taps = centre - design @ (torch.linalg.pinv(design) @ centre)
            kernel = torch.zeros_like(x)
            kernel[same] = taps / taps.norm()
            part = mosaic[i - half :, j - half :][None, None]
            rows, columns = (height - i - half - 1) // period, (width - j - half - 1) // period
            values = F.conv2d(part, kernel[None, None], stride=period)[0, 0]
            values = values[: rows + 1, : columns + 1]
            residuals[i : height - half : period, j : width - half : period] = values
    return residuals


def _freedom(colours: Tensor, period: int, side: int) -> list[float]:
    """Degrees of freedom of a block's variance, by colour; from white noise."""
    tile = colours[:, :period, :period]
    repeats = 24 * side // period
    colours = tile.repeat(1, repeats, repeats)
    noise = torch.randn(
        colours.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    squares = _residuals(noise, colours, period).square()
    freedom = []
    for group in colours[: 3 if period > 1 else 1].bool():
        sums = _block_sums(torch.where(group, squares, 0), side)[1:-1, 1:-1]
        freedom.append(float(2 * sums.mean() ** 2 / sums.var()))
    return freedom


def _block_sums(plane: Tensor, side: int) -> Tensor:
    """Sum over whole blocks, (H // side, W // side)."""
    return F.avg_pool2d(plane[None, None], side)[0, 0] * side**2

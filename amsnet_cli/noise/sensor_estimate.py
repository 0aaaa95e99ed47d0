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
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.noise.colour_pattern import pattern_period
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.noise.sensor_prior import Caution, GainPrior

_WINDOWS = (1, 2, 3)
"""Photosites to each side, for monochrome, Bayer, and the red and blue of X-Trans."""
_ENOUGH = 9
"""Photosites that a surface of five numbers is laid through."""


@dataclass(frozen=True, kw_only=True)
class EstimateConfig:
    """Numbers that the estimate rests on.

    The gain by ISO is that of 6 micrometres by `sensor_prior.gain_by_pitch`: full frame with 24
    megapixels. Photosites of 3.8 to 8.4, of full frame, have 2.5 to .5 times as much, and those of
    2.4, of one inch, 6 times, which is why a larger gain becomes rare only slowly. Read noise of
    one to five photons is what data sheets of sensors state. The other numbers were chosen on
    mosaics of Kodak's pictures (Bayer, X-Trans, monochrome), for the least loss of a network that
    is told the estimate, none being worse than noisy: twice the noise costs it four times
    what half the noise costs.

    Attributes:
        block: photosites to the side of a block, about.
        white: value from which a photosite counts as clipped.
        pinned: share of a block's photosites that may have the lowest value of the mosaic.
        most_photosites: of a larger mosaic, bands of rows are looked at.
        most_blocks: blocks rated, at random.
        fewest_blocks: blocks without which there is no estimate.
        gain_per_iso: median of a / ISO of cameras with interchangeable lenses.
        gain_spread: standard deviation of its logarithm.
        gain_tail: exponent at which a larger a / ISO, of smaller sensors, becomes rarer.
        usual_iso: median of ISO, where a file does not tell.
        iso_spread: standard deviation of the logarithm of a then.
        dark_ratio: median of b / a^2, the variance in the dark in squares of a photon.
        dark_spread: standard deviation of its logarithm.
        texture: median over blocks of the standard deviation of texture in the stabilised scale.
        texture_spread: standard deviation of its logarithm.
        texture_weight: blocks that this prior of texture counts for.
        weight: what each block counts, as blocks of one picture are correlated.
        caution: where the ISO is known, or a gain.
        caution_without_iso: where nothing is known but the picture.
    """

    block: int = 16
    white: float = 0.98
    pinned: float = 0.02
    most_photosites: int = 1_000_000
    most_blocks: int = 600
    fewest_blocks: int = 30
    gain_per_iso: float = 1.8e-7
    gain_spread: float = 0.5
    gain_tail: float = 1.0
    usual_iso: float = 800.0
    iso_spread: float = 1.7
    dark_ratio: float = 5.0
    dark_spread: float = 1.3
    texture: float = 5e-3
    texture_spread: float = 1.5
    texture_weight: float = 10.0
    weight: float = 0.02
    caution: Caution = field(default_factory=Caution)
    caution_without_iso: Caution = field(
        default_factory=lambda: Caution(faint=1e-4, faint_quantile=0.003)
    )


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
    mosaic: Tensor,
    colours: Tensor,
    *,
    iso: float | None = None,
    gain: GainPrior | None = None,
    dark: float | None = None,
    config: EstimateConfig = EstimateConfig(),
) -> SensorNoise | None:
    """Estimate a and b.

    Args:
        mosaic: (H, W) float, 0 at black and 1 at white; values below black are as they were read.
        colours: (3, H, W): 1 where a photosite records red, green, blue, else 0.
        iso: what the camera was set to, if the file says: it tells noise from fine texture where
            the picture cannot.
        gain: what else is known of a, in place of what is usual at that ISO.
        dark: b, where it is known.
        config: numbers that the estimate rests on.

    Returns:
        None where fewer than `config.fewest_blocks` blocks are free of clipping.

    Raises:
        ValueError: the colours do not repeat every one, two or six photosites.
    """
    blocks = block_variances(mosaic, colours, config)
    if len(blocks.light) < config.fewest_blocks:
        return None
    return most_likely_noise(blocks, iso, config, gain=gain, dark=dark)


def block_variances(
    mosaic: Tensor, colours: Tensor, config: EstimateConfig = EstimateConfig()
) -> BlockVariances:
    """Measure the variance of residuals in the blocks of a mosaic, shaped as above."""
    period = pattern_period(colours)
    side = period * round(config.block / period)
    freedom = _freedom(colours, period, side)
    least = float(mosaic.min())
    measure = partial(
        _measure, period=period, side=side, freedom=freedom, least=least, config=config
    )
    bands = _bands(mosaic, side, config.most_photosites)
    found = torch.cat([measure(mosaic[b].double(), colours[:, b].bool()) for b in bands])
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    light, variance, degrees = found[order[: config.most_blocks]].unbind(1)
    return BlockVariances(light=light, variance=variance, freedom=degrees)


def most_likely_noise(
    blocks: BlockVariances,
    iso: float | None,
    config: EstimateConfig = EstimateConfig(),
    *,
    gain: GainPrior | None = None,
    dark: float | None = None,
) -> SensorNoise:
    """Rate a grid of (a, b) by the variances found in blocks, and take a cautious one.

    For each (a, b) the shares of texture of different strength are fitted by expectation
    maximisation, under a Dirichlet prior.
    """
    a = torch.logspace(-6.2, -0.7, 67, dtype=torch.float64)
    darks = a[:, None].square() * torch.logspace(-0.6, 2.2, 5, dtype=torch.float64)  # (A, R)
    if dark is not None:
        darks = torch.full((len(a), 1), dark, dtype=torch.float64)
    texture = torch.cat([torch.zeros(1), torch.logspace(-3.4, -0.6, 15)]).double()  # (K,)
    prior = _log_normal(texture[1:], config.texture, config.texture_spread).exp()
    prior = torch.cat([prior[:1], prior])  # No texture is as rare as the faintest.
    prior = config.texture_weight * prior / prior.sum()

    light = blocks.light.clamp_min(0)[:, None]  # (N, 1)
    found, freedom = blocks.variance[:, None], blocks.freedom[:, None]
    # In the stabilised scale, texture is as strong in the light as in the dark.
    from_texture = 4 * (light + 1e-4) * texture.square()  # (N, K)
    rating = torch.empty_like(darks)
    for i, slope in enumerate(a):
        for j, level in enumerate(darks[i]):
            share = freedom * found / (2 * (slope * light + level + from_texture))
            logs = freedom / 2 * share.log() - share - torch.lgamma(freedom / 2)  # (N, K)
            top = logs.amax(1, keepdim=True)
            likelihood = (logs - top).exp()
            mixture = prior / prior.sum()
            for _ in range(8):
                each = likelihood * mixture
                each = each / each.sum(1, keepdim=True)
                mixture = config.weight * each.sum(0) + prior
                mixture = mixture / mixture.sum()
            total = ((likelihood @ mixture).log() + top[:, 0]).sum()
            rating[i, j] = config.weight * total + prior @ mixture.log()
    ratio = darks / a[:, None].square()
    rating += _log_normal(ratio, config.dark_ratio, config.dark_spread)
    prior_of_a = _log_normal(a, gain.median, gain.spread) if gain else _gain_prior(a, iso, config)
    rating += prior_of_a[:, None]
    posterior = (rating - rating.max()).exp()
    cumulative = posterior.sum(1).cumsum(0) / posterior.sum()
    caution = config.caution if iso or gain else config.caution_without_iso
    wanted = caution.quantiles(a)
    index = int((cumulative >= wanted).int().argmax())
    log_ratio = posterior[index] @ ratio[index].log() / posterior[index].sum()
    share = (cumulative[index] - wanted[index]) / (posterior[index].sum() / posterior.sum())
    best = float(a[index] * (a[1] / a[0]) ** (0.5 - share))
    return SensorNoise(a=best, b=math.exp(log_ratio) * best**2 if dark is None else dark)


def _gain_prior(a: Tensor, iso: float | None, config: EstimateConfig) -> Tensor:
    """How common each a is, as a logarithm."""
    usual = config.gain_per_iso * (iso or config.usual_iso)
    bell = _log_normal(a, usual, config.gain_spread if iso else config.iso_spread)
    tail = -1 - config.gain_tail * (a / usual).log()
    return torch.where(a > usual, torch.maximum(bell, tail), bell)


def _bands(mosaic: Tensor, side: int, most: int) -> list[slice]:
    """Bands of rows, four blocks high and a margin, that hold at most about `most` photosites."""
    height, width = mosaic.shape
    if height * width <= most:
        return [slice(0, height)]
    rows = 4 * side
    count = max(1, most // (rows * width))
    # Every mosaic begins anew at a multiple of the block, and so of the pattern.
    starts = [(height - rows) * i // count // side * side for i in range(count)]
    return [slice(start, start + rows) for start in starts]


def _measure(
    mosaic: Tensor,
    colours: Tensor,
    *,
    period: int,
    side: int,
    freedom: list[float],
    least: float,
    config: EstimateConfig,
) -> Tensor:
    """Light, variance and degrees of freedom of the blocks that are not clipped, (N, 3)."""
    residuals = _residuals(mosaic, colours, period)
    whole = (mosaic < config.white) & ~residuals.isnan()
    squares = residuals.square().nan_to_num()
    found = []
    for colour, degrees in zip(colours, freedom, strict=False):
        count = _block_sums(colour, side)
        light, variance = (_block_sums(x * colour, side) / count for x in (mosaic, squares))
        pinned = _block_sums(colour & (mosaic <= least), side)
        good = (_block_sums(colour & whole, side) == count) & (pinned <= config.pinned * count)
        good &= variance > 0
        found.append(torch.stack([light, variance, torch.full_like(light, degrees)], -1)[good])
    return torch.cat(found)


def _log_normal(x: Tensor, median: float, spread: float) -> Tensor:
    return -0.5 * ((x / median).log() / spread) ** 2


def _residuals(mosaic: Tensor, colours: Tensor, period: int) -> Tensor:
    """What a surface through photosites of the same colour does not explain, (H, W).

    The surface is 1, x, y, x^2, y^2 about each photosite: level, slope, and edges along either
    axis. The residual is scaled so that white noise keeps its variance. At the border it is nan.
    """
    height, width = mosaic.shape
    residuals = torch.full_like(mosaic, torch.nan)
    border = max(_WINDOWS)
    for i in range(border, border + period):
        for j in range(border, border + period):
            kernel = _residual_kernel(colours[:, i - border : i + border + 1, j - border :])
            values = F.conv2d(
                mosaic[None, None, i - border :, j - border :], kernel[None, None], stride=period
            )[0, 0]
            residuals[i : height - border : period, j : width - border : period] = values
    return residuals


def _residual_kernel(colours: Tensor) -> Tensor:
    """Filter for the photosite amid the first seven by seven, (7, 7), of unit norm.

    It looks at as small a window as has enough of its colour.
    """
    border = max(_WINDOWS)
    steps = torch.arange(-border, border + 1, dtype=torch.float64)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    around = colours[:, : 2 * border + 1, : 2 * border + 1]
    same = (around == around[:, border, border, None, None]).all(0)
    chosen = same
    for half in _WINDOWS:
        chosen = same & (x.abs() <= half) & (y.abs() <= half)
        if chosen.sum() >= _ENOUGH:
            break
    surface = torch.stack([torch.ones_like(x), x, y, x * x, y * y], -1)[chosen]  # (n, 5)
    centre = ((x == 0) & (y == 0))[chosen].double()
    taps = centre - surface @ (torch.linalg.pinv(surface) @ centre)
    kernel = torch.zeros_like(x)
    kernel[chosen] = taps / taps.norm()
    return kernel


def _freedom(colours: Tensor, period: int, side: int) -> list[float]:
    """Degrees of freedom of a block's variance, by colour, measured on white noise.

    A monochrome mosaic has one.
    """
    repeats = 24 * side // period
    colours = colours[:, :period, :period].repeat(1, repeats, repeats).bool()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(colours.shape[1:], generator=generator, dtype=torch.float64)
    squares = _residuals(noise, colours, period).square().nan_to_num()
    freedom = []
    for colour in colours[: 3 if period > 1 else 1]:
        sums = _block_sums(squares * colour, side)[1:-1, 1:-1]
        freedom.append(float(2 * sums.mean() ** 2 / sums.var()))
    return freedom


def _block_sums(plane: Tensor, side: int) -> Tensor:
    """Sum over whole blocks, (H // side, W // side)."""
    return F.avg_pool2d(plane.double()[None, None], side)[0, 0] * side**2

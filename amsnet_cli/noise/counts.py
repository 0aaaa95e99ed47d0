"""The noise of pictures that count light: its variance by brightness, and a scale without it.

Cameras of microscopes and telescopes give x = a p + n, with p photons and Gaussian noise n, so the
variance is a x + b. A pedestal that the camera adds makes b lower, also below 0. The generalised
Anscombe transform (Murtagh, Starck and Bijaoui 1995) makes the standard deviation 1 everywhere. Its
inverse is the unbiased one of Mäkitalo and Foi ("Optimal inversion of the generalized Anscombe
transformation for Poisson-Gaussian noise", IEEE TIP 2013), in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 16
"""Side of the blocks in which the variance is measured, in pixels."""
_FREEDOM = _BLOCK**2 / (70 / 36) ** 2
"""Degrees of freedom of a block's variance: Immerkær's residuals are correlated."""
_KNOWN = 0.5
"""Share of the pixels that a block must have."""
_ROUNDING = 1e-6
_ROOT = math.sqrt(1.5)
_ROUNDS = 20
"""Of the fit, each with the weights that the one before suggests."""


@dataclass(frozen=True, kw_only=True)
class CountsNoise:
    """Noise with the variance a x + b, in the units of the picture.

    Attributes:
        a: variance per unit of light, >= 0: the inverse of the gain in photons per unit.
        b: variance at 0; below 0 where the camera adds a pedestal.

    Raises:
        ValueError: a is below 0, or there is no noise at any brightness.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        finite = math.isfinite(self.a) and math.isfinite(self.b)
        if not finite or self.a < 0 or (self.a == 0 and self.b <= 0):
            raise ValueError("noise of counts needs a > 0, or a = 0 and b > 0")

    def variance(self, clean: Tensor) -> Tensor:
        """Variance of the noise at clean values of any shape; >= 0."""
        return (self.a * clean + self.b).clamp_min(0)

    def stabilise(self, values: Tensor) -> Tensor:
        """Bring values, of any shape, to the scale in which noise has the standard deviation 1."""
        if self.a == 0:
            return values / math.sqrt(self.b)
        return 2 / self.a * (self.a * values + 0.375 * self.a**2 + self.b).clamp_min(0).sqrt()

    def unstabilise(self, mean: Tensor) -> Tensor:
        """Return the values whose noisy versions have this mean in the stabilised scale."""
        if self.a == 0:
            return mean * math.sqrt(self.b)
        d = mean.clamp_min(2 * math.sqrt(0.375))  # The mean without any photon.
        photons = d**2 / 4 + _ROOT / 4 / d - 11 / 8 / d**2 + 5 * _ROOT / 8 / d**3 - 1 / 8
        return self.a * photons.clamp_min(0) - self.b / self.a


@dataclass(frozen=True, kw_only=True)
class CountsConfig:
    """Numbers of `estimate_counts_noise`; `tests/test_counts.py` shows that they hold.

    Attributes:
        quantile: of the variances of blocks about as bright, which is compared with that of noise
            alone. Texture only adds, so most blocks may have some.
        bins: brightnesses that are told apart.
        per_bin: blocks to a bin.
        fewest: blocks without which there is no estimate.
        certainty: standard errors by which the variance must grow with the light, to be believed.
        texture: weight of a bin above the line, against one below it.
    """

    quantile: float = 0.25
    bins: int = 12
    per_bin: int = 12
    fewest: int = 6
    certainty: float = 3.0
    texture: float = 0.3


def estimate_counts_noise(
    runs: Sequence[Sequence[Tensor]],
    *,
    a: float | None = None,
    dark: tuple[float, float] | None = None,
    config: CountsConfig = CountsConfig(),
) -> CountsNoise | None:
    """Measure the variance against the mean.

    It is measured within each frame, where texture adds to it, and in the differences of frames
    that follow each other, where movement does. The lesser counts.

    Args:
        runs: frames of one detector, (H, W) double, those of a run of one place at one time after
            another; NaN where nothing was measured.
        a: variance per unit of light, if it is known.
        dark: value and variance without light, if they are known.
        config: see `CountsConfig`.

    Returns:
        None where there is too little to measure, or no noise at all.
    """
    frames = [frame for run in runs for frame in run]
    pairs = [pair for run in runs for pair in pairwise(run) if not torch.equal(*pair)]
    within = [_blocks(frame, frame) for frame in frames]
    between = [_blocks((y - x) / math.sqrt(2), (x + y) / 2) for x, y in pairs]
    found = [_line(torch.cat(blocks), a, dark, config) for blocks in (within, between) if blocks]
    laws = [law for law in found if law is not None]
    if not laws:
        return None
    light = torch.cat(within)[:, 0]
    typical = light.quantile(torch.tensor([0.25, 0.5, 0.75]).double())
    return min(laws, key=lambda law: float(law.variance(typical).mean()))


def block_variances(runs: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return mean light and variance of the blocks of frames, (N, 2); texture adds to it."""
    return torch.cat([_blocks(frame, frame) for run in runs for frame in run])


def _blocks(noisy: Tensor, light: Tensor) -> Tensor:
    """Mean light, and variance of Immerkær's residuals, of blocks with few gaps; (N, 2)."""
    if min(noisy.shape) < _BLOCK + 2:
        return noisy.new_empty(0, 2)
    line = torch.tensor([1.0, -2.0, 1.0], dtype=noisy.dtype)
    residual = F.conv2d(noisy[None, None], (line[:, None] * line / 6)[None, None])
    known = residual.isfinite()
    share = F.avg_pool2d(known.double(), _BLOCK)
    mean, variance = (
        F.avg_pool2d(torch.where(known, x, 0.0), _BLOCK) / share
        for x in (light[None, None, 1:-1, 1:-1], residual.square())
    )
    # Below is what rounding to float32 leaves.
    usable = (share >= _KNOWN) & (variance > (_ROUNDING * mean).square()) & variance.isfinite()
    return torch.stack([mean[usable], variance[usable]], 1)


def _line(
    blocks: Tensor, a: float | None, dark: tuple[float, float] | None, config: CountsConfig
) -> CountsNoise | None:
    """Fit a x + b to the lower edge of the variances of blocks, (N, 2)."""
    if len(blocks) < config.fewest:
        return None
    count = max(1, min(config.bins, len(blocks) // config.per_bin))
    bins = blocks[blocks[:, 0].argsort()].tensor_split(count)
    x = torch.stack([b[:, 0].mean() for b in bins])
    share = 2 / (9 * _FREEDOM)
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(2 * config.quantile - 1)))
    of_noise = (1 - share + z * math.sqrt(share)) ** 3  # Wilson and Hilferty 1931
    v = torch.stack([b[:, 1].quantile(config.quantile) for b in bins]) / of_noise
    error = v * torch.tensor([1.4 * math.sqrt(2 / _FREEDOM / len(b)) for b in bins]).to(v)
    least = float(v.min())
    if a is not None:
        level = float((v - a * x).quantile(config.quantile))
        return _law(a, level if dark is None else dark[1] - a * dark[0], least, x)
    weights = error**-2
    for _ in range(_ROUNDS):
        # The line goes through the point without light, or where it fits best.
        x0, v0 = dark or (float((weights * t).sum() / weights.sum()) for t in (x, v))
        spread = float((weights * (x - x0) ** 2).sum())
        if spread <= 0:
            break
        slope = float((weights * (x - x0) * (v - v0)).sum()) / spread
        fitted = (slope * (x - x0) + v0).clamp_min(least / 4)
        weights = torch.where(v > fitted, config.texture, 1.0) / (error / v * fitted) ** 2
    if spread <= 0 or slope < config.certainty * spread**-0.5:
        return _law(0.0, float((weights * v).sum() / weights.sum()), least, x)
    return _law(slope, v0 - slope * x0, least, x)


def _law(a: float, b: float, least: float, x: Tensor) -> CountsNoise | None:
    """Make a law of which the darkest light that was measured has some variance."""
    b = max(b, least / 4 - a * float(x.min()))
    return None if a == 0 and b <= 0 else CountsNoise(a=a, b=b)

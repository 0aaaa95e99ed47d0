"""Frames of one scene in which nothing moves, as many noisy views of it (Noise2Noise).

A network that sees one frame and is compared with others of other noise learns their mean (Lehtinen
et al., "Noise2Noise", ICML 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from amsnet_cli.noise.counts import CountsNoise
from amsnet_cli.stacks.stack import Page, Stack


@dataclass(frozen=True, kw_only=True)
class StillConfig:
    """Numbers of `is_still`.

    Attributes:
        block: side in pixels of the blocks that are compared.
        variance: standard errors above the median by which the variance of a block's difference
            between two frames tells movement.
        tails: quantile of the blocks' kurtosis that the standard error is computed with. Few
            counts have heavier tails than normal noise, and movement in a tenth of the blocks has
            no say.
        mean: standard errors by which its mean tells movement, or light that changes.
        share: of the blocks that may do so.
        coarse: side in pixels of the small blocks whose means are noise alone where nothing moves.
        excess: share by which their power may be greater than that of noise, or `mean` standard
            errors if that is more. A fifth is 1 % of the noise's variance, far below what a
            network leaves.
    """

    block: int = 16
    variance: float = 6.0
    tails: float = 0.9
    mean: float = 6.0
    share: float = 0.002
    coarse: int = 4
    excess: float = 0.2


def scene_of(stack: Stack, index: int) -> list[int]:
    """Return the pages of the same place along the first axis, this one included, in order."""
    followers = {kind.follows: i for i, kind in enumerate(stack.pages) if kind.follows is not None}
    first = index
    while (before := stack.pages[first].follows) is not None:
        first = before
    scene = [first]
    while (after := followers.get(scene[-1])) is not None:
        scene.append(after)
    return scene


def is_still(
    pages: Sequence[Page], noise: CountsNoise, config: StillConfig = StillConfig()
) -> bool:
    """Return whether nothing moves, and no light changes, between the first page and each other.

    In the scale of even noise, the difference of two views of one scene is noise of one strength
    everywhere, around 0.
    """
    frames = [
        noise.stabilise(torch.from_numpy(page.astype("float64")))[None, None] for page in pages
    ]
    count = config.block**2
    for frame in frames[1:]:
        difference = frame - frames[0]
        mean = F.avg_pool2d(difference, config.block)
        power = F.avg_pool2d(difference.square(), config.block)
        variance = power - mean.square()
        if not (variance.numel() and variance.isfinite().all()):
            return False
        usual = float(variance.median())
        kurtosis = F.avg_pool2d(difference**4, config.block) / power.square().clamp_min(1e-12)
        tails = float(kurtosis.quantile(config.tails)) - 1
        strange = variance > usual * (1 + config.variance * (tails / count) ** 0.5)
        strange |= mean.abs() > config.mean * (usual / count) ** 0.5
        small = F.avg_pool2d(difference, config.coarse)
        coarse_power = float(small.square().mean()) * config.coarse**2 / usual
        allowed = max(config.excess, config.mean * (2 / small.numel()) ** 0.5)
        if float(strange.double().mean()) > config.share or coarse_power > 1 + allowed:
            return False
    return True

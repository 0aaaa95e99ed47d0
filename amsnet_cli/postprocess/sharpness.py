"""Limit sharpness to the bandwidth of demosaicked noise.

A sensor sees one colour at each pixel, so a camera interpolates the rest, and whatever has gone
through that, light or noise, is shared by neighbouring pixels. A network that has learned from
photos of any sharpness still draws some edges as crisp as a pixel. Where the noise shows that the
photo was demosaicked, each pixel is pulled towards the mean around, by no more than a share of the
noise's difference between neighbours: strong edges and the detail of nearly noiseless photos stay,
and white noise, as of photos that were reduced in size, changes nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.block_stats import BlockStats, quiet_correlation
from amsnet_cli.postprocess.config import PostprocessConfig, ramp


def clip_radius(stats: BlockStats, config: PostprocessConfig = PostprocessConfig()) -> Tensor:
    """Per-block limit of how far `limit_sharpness` changes a pixel.

    Args:
        stats: of the whole image.
        config: its `sharpness` counts.

    Returns:
        (1, h, w) in [0, 1] units: a share of the standard deviation that white noise of the same
        difference between neighbours would have; 0 where the noise is white.
    """
    numbers = config.sharpness
    demosaicked = ramp(quiet_correlation(stats, config), numbers.correlation)
    difference = (stats.residual_power[0] - stats.residual_autocovariance).clamp_min(0).sqrt()
    return (demosaicked * numbers.clip * difference)[None]


def limit_sharpness(
    image: Tensor,
    clip_radius: Tensor,
    *,
    above: int = 0,
    below: int = 0,
    config: PostprocessConfig = PostprocessConfig(),
) -> Tensor:
    """Pull pixels towards the binomial mean of the 3 x 3 around.

    Args:
        image: (C, above + H + below, W) float32.
        clip_radius: (1, H, W), from `clip_radius` by `blocks.upsample_blocks`.
        above: 1 where the row above is given as well, else 0: the first row is repeated.
        below: the same of the row below.
        config: its `sharpness` counts.

    Returns:
        (C, H, W).
    """
    pull = config.sharpness.pull
    sums = F.pad(image[None], (1, 1, 1 - above, 1 - below), mode="replicate")[0]
    for _ in range(2):  # binomial: (1, 1) twice in each direction
        sums = sums[:, :-1] + sums[:, 1:]
        sums = sums[..., :-1] + sums[..., 1:]
    own = image[:, above : image.shape[1] - below]
    change = torch.sub(pull / 16 * sums, own, alpha=pull)
    return own + torch.maximum(torch.minimum(change, clip_radius), -clip_radius)

"""Limit sharpness to the bandwidth of demosaicked noise.

A sensor measures one colour at each pixel, and the camera interpolates the other two. This smooths
both light and noise over neighbouring pixels. The network has learned from photos of any sharpness,
so it still draws some edges too sharp. Where the noise shows that the photo was demosaicked, each
pixel is pulled towards the mean around it. It moves at most by a share of the noise's difference
between neighbours, so strong edges stay, and so does the detail of nearly noiseless photos. That
share is the correlation between neighbours, so under white noise nothing changes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.block_stats import BlockStats, quiet_correlation
from amsnet_cli.postprocess.config import PostprocessConfig


def clip_radius(stats: BlockStats, config: PostprocessConfig = PostprocessConfig()) -> Tensor:
    """Per-block limit of how far `limit_sharpness` changes a pixel.

    Args:
        stats: of the whole image.
        config: see `PostprocessConfig`.

    Returns:
        (1, h, w) in [0, 1] units: a share of the standard deviation that white noise of the same
        difference between neighbours would have; 0 where the noise is white.
    """
    correlation = max(0.0, quiet_correlation(stats, config.block_stats))
    difference = (stats.residual_power[0] - stats.residual_autocovariance).clamp_min(0).sqrt()
    return (correlation * difference)[None]


def limit_sharpness(
    image: Tensor, clip_radius: Tensor, *, above: int = 0, below: int = 0
) -> Tensor:
    """Pull pixels half of the way to the binomial mean of the 3 x 3 around.

    Args:
        image: (C, above + H + below, W) float32.
        clip_radius: (1, H, W), from `clip_radius` by `blocks.upsample_blocks`.
        above: 1 if the image includes the row above, else 0: then the first row is repeated.
        below: the same for the row below.

    Returns:
        (C, H, W).
    """
    sums = F.pad(image[None], (1, 1, 1 - above, 1 - below), mode="replicate")[0]
    for _ in range(2):  # binomial: (1, 1) twice in each direction
        sums = sums[:, :-1] + sums[:, 1:]
        sums = sums[..., :-1] + sums[..., 1:]
    own = image[:, above : image.shape[1] - below]
    change = sums.mul_(1 / 32).sub_(own, alpha=0.5)
    torch.minimum(change, clip_radius, out=change)
    return torch.maximum(change, -clip_radius, out=change).add_(own)

"""Detect graphics: drawings and screenshots, which have blocks of a single tone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.block_stats import BlockStats
from amsnet_cli.postprocess.config import PostprocessConfig


def graphics(stats: BlockStats, config: PostprocessConfig = PostprocessConfig()) -> Tensor:
    """Confidence that the surroundings of each block are graphics, (h, w) in [0, 1].

    Noise leaves no block uniform, except where it is clipped at black or white. In the photos of
    SIDD, RENOIR and PolyU hardly one block in a thousand is uniform.
    """
    if stats.unclipped.sum() <= config.min_unclipped * (~stats.uniform).sum():
        return torch.ones_like(stats.luma)  # Hardly any block shows noise: black and white print.

    def mean_around(blocks: Tensor) -> Tensor:
        mean = blocks.float()[None]
        size, padding = config.graphics_window, config.graphics_window // 2
        for window, pad in (((size, 1), (padding, 0)), ((1, size), (0, padding))):
            mean = F.avg_pool2d(mean, window, 1, pad, count_include_pad=False)
        return mean[0]

    uniform = mean_around(stats.uniform & stats.unclipped)
    share = uniform / mean_around(stats.unclipped).clamp_min(1e-6)
    return (2 * share / config.uniform_share - 1).clamp(0, 1)

"""Detect anisotropic residuals: fur and hair, which have one direction where noise has none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.block_stats import BlockStats, quiet_correlation
from amsnet_cli.postprocess.config import PostprocessConfig


def anisotropy(stats: BlockStats, config: PostprocessConfig = PostprocessConfig()) -> Tensor:
    """Confidence that the residual around each block is anisotropic, (h, w) in [0, 1].

    The median direction of all blocks is subtracted first. So noise with one direction everywhere,
    as in interpolated rows, does not count.
    """
    numbers, correlation = config.anisotropy, quiet_correlation(stats, config)
    gradients, power = stats.structure_tensor[:2], stats.structure_tensor[2:]
    usual = (gradients / power.clamp_min(1e-9)).flatten(1).median(1).values
    tensor = torch.cat([gradients - usual[:, None, None] * power, power])
    beyond = numbers.window - 1
    tensor = F.pad(tensor[None], (0, beyond, 0, beyond), "replicate")
    tensor = F.avg_pool2d(tensor, numbers.window, stride=1)
    coherence = tensor[:, :2].square().sum(1).sqrt() / tensor[:, 2].clamp_min(1e-9)  # (1, h, w)
    left, right = (numbers.mean_window - 1) // 2, numbers.mean_window // 2
    padded = F.pad(coherence, (left, right, left, right), "replicate")
    around = F.avg_pool2d(padded, numbers.mean_window, stride=1)[0]
    by_chance = numbers.chance * max(0.0, correlation - numbers.coarse_noise) ** 2
    low, high = numbers.coherence
    return ((around - by_chance - low) / (high - low)).clamp(0, 1)

"""The mask scheme: complementary masks, training masks, and the values that fill masked pixels."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Fill = Literal["mean", "zeros"]

_NEIGHBOURS = ((1.0, 2.0, 1.0), (2.0, 0.0, 2.0), (1.0, 2.0, 1.0))


def partition_masks(n_masks: int, size: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw a random partition of the pixels into complementary masks (AMSNet, multi-mask scheme).

    Mask j masks the pixels whose index is j. So all masks together hide every pixel exactly once,
    and each hides about 1 / n_masks of them.

    Args:
        n_masks: k, from 1 (everything masked at once) to 255.
        size: (B, H, W).
        generator: a CPU generator; the same state gives the same masks on every device.

    Returns:
        (B, 1, H, W) uint8 mask index with values in [0, k).
    """
    batch, height, width = size
    return torch.randint(n_masks, (batch, 1, height, width), generator=generator, dtype=torch.uint8)


def random_mask(
    mask_ratio: Tensor, size: tuple[int, int, int], generator: torch.Generator
) -> Tensor:
    """Draw one training mask per image (AMSNet, single mask scheme).

    Each pixel is masked independently.

    Args:
        mask_ratio: (B,) probabilities in [0, 1], one for each image.
        size: (B, H, W).
        generator: a CPU generator.

    Returns:
        (B, 1, H, W) bool, True where masked.
    """
    batch, height, width = size
    draw = torch.rand((batch, 1, height, width), generator=generator)
    return draw < mask_ratio.reshape(-1, 1, 1, 1)


def fill_masked(noisy: Tensor, mask: Tensor, fill: Fill) -> Tensor:
    """Replace masked pixels by values that do not depend on any masked pixel.

    Args:
        noisy: (B, C, H, W) float.
        mask: (B, 1, H, W) bool, True where masked.
        fill: "zeros", as in the paper, or "mean": the mean of the visible pixels of the 3x3
            neighbourhood, where edges weigh twice as much as corners. If none of them is visible,
            the mean of the 9x9 neighbourhood; if none there, of the whole image.

    Returns:
        (B, C, H, W); visible pixels unchanged. All zeros if no pixel of the image is visible.
    """
    if fill == "zeros":
        return noisy.masked_fill(mask, 0.0)
    if not mask.any():
        return noisy
    visible = (~mask).to(noisy.dtype)
    visible_values = noisy * visible
    channels = noisy.shape[1]
    kernel = torch.tensor(_NEIGHBOURS, dtype=noisy.dtype, device=noisy.device)
    kernel = kernel.expand(channels + 1, 1, 3, 3)
    sums = F.conv2d(torch.cat([visible_values, visible], 1), kernel, padding=1, groups=channels + 1)
    total, weight = sums[:, :channels], sums[:, channels:]
    isolated = mask & (weight == 0)
    if isolated.any():
        wide = F.avg_pool2d(torch.cat([visible_values, visible], 1), 9, stride=1, padding=4)
        overall = torch.cat([visible_values, visible], 1).mean((2, 3), keepdim=True).expand_as(wide)
        wide = torch.where(wide[:, channels:] > 0, wide, overall)
        total = torch.where(isolated, wide[:, :channels], total)
        weight = torch.where(isolated, wide[:, channels:], weight)
    mean = total / weight.clamp_min(torch.finfo(noisy.dtype).tiny)
    return torch.where(mask, mean, noisy)

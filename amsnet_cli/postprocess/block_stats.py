"""Per-block statistics of an image and its denoising residual.

Luma is that of Rec. ITU-R BT.709, a weighted sum of the coded channels. Chroma is each channel
minus the luma.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.postprocess.blocks import BLOCK_SIZE, block_means
from amsnet_cli.postprocess.config import BlockStatsConfig

BT709_LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True, kw_only=True)
class BlockStats:
    """Per-block statistics of an image and its residual; (h, w) blocks, in [0, 1] units.

    Attributes:
        residual_power: (2, h, w) mean square of the residual's luma and chroma.
        residual_power_2x2: (h, w) mean square of its luma averaged over 2 x 2 pixels.
        residual_autocovariance: (h, w) lag-1 autocovariance of its luma within the block, mean of
            rows and columns.
        luma: (h, w) mean of the denoised luma.
        chroma: (C, h, w) means of the denoised chroma.
        mean_square: (2, h, w) of the denoised luma and chroma.
        uniform: (h, w) bool, whether all noisy pixels are the same, so without noise.
        unclipped: (h, w) bool, whether few pixels are clipped to black or white, which hides the
            noise.
    """

    residual_power: Tensor
    residual_power_2x2: Tensor
    residual_autocovariance: Tensor
    luma: Tensor
    chroma: Tensor
    mean_square: Tensor
    uniform: Tensor
    unclipped: Tensor


def block_stats(
    noisy: Tensor, denoised: Tensor, config: BlockStatsConfig = BlockStatsConfig()
) -> BlockStats:
    """Per-block statistics of some rows of an image.

    Args:
        noisy: (C, H, W) float32 in [0, 1], with C = 1 or 3; H a multiple of BLOCK_SIZE, except for
            the last rows of an image.
        denoised: the same shape.
        config: see `BlockStatsConfig`.
    """
    luma, chroma = split_luma(noisy - denoised)
    clean_luma, clean_chroma = split_luma(denoised)
    residual_power, mean_square = (
        block_means(torch.cat([y.square(), c.square().mean(0, keepdim=True)]))
        for y, c in ((luma, chroma), (clean_luma, clean_chroma))
    )
    across = _mean_within(luma[:, :, 1:] * luma[:, :, :-1], 0, 1)
    down = _mean_within(luma[:, 1:] * luma[:, :-1], 1, 0)
    uniform = _uniform_blocks(noisy)
    # x (1 - x) is 0 for black and for white.
    clipped = torch.addcmul(noisy, noisy, noisy, value=-1).amax(0, keepdim=True).le_(0)
    return BlockStats(
        residual_power=torch.where(uniform, 0.0, residual_power),
        residual_power_2x2=F.avg_pool2d(
            F.avg_pool2d(luma, 2, ceil_mode=True, count_include_pad=False).square(),
            BLOCK_SIZE // 2,
            ceil_mode=True,
        )[0],
        residual_autocovariance=0.5 * (across + down),
        luma=block_means(clean_luma)[0],
        chroma=block_means(clean_chroma),
        mean_square=mean_square,
        uniform=uniform,
        unclipped=block_means(clipped)[0] < config.max_clipped,
    )


def quiet_power(
    stats: BlockStats, config: BlockStatsConfig = BlockStatsConfig()
) -> tuple[float, float]:
    """Residual power of luma and chroma in the quiet blocks, mean squares; 0 if all are clipped."""
    power = stats.residual_power[:, stats.unclipped]
    luma, chroma = quantile(power, config.quietest).cpu().tolist() if power.numel() else (0.0, 0.0)
    return luma, chroma


def quiet_correlation(stats: BlockStats, config: BlockStatsConfig = BlockStatsConfig()) -> float:
    """Lag-1 correlation of the residual in the quiet blocks, in [-1, 1]; 0 if all are clipped."""
    power = stats.residual_power[0][stats.unclipped]
    covariance = stats.residual_autocovariance[stats.unclipped]
    quiet = power <= quiet_power(stats, config)[0]
    return float(covariance[quiet].sum() / power[quiet].sum().clamp_min(1e-12))


def noise_variance(noisy: Tensor) -> Tensor:
    """Variance of the noise of luma in each block, which ignores edges and gradients.

    Immerkaer, "Fast noise variance estimation" (CVIU 1996).

    Args:
        noisy: (C, H, W) float32.

    Returns:
        (h, w).
    """
    second_differences = split_luma(noisy)[0].diff(n=2, dim=1).diff(n=2, dim=2) / 6
    return _mean_within(second_differences.square(), 2, 2)


def split_luma(image: Tensor) -> tuple[Tensor, Tensor]:
    """Split (C, H, W) into luma, (1, H, W), and chroma, each channel minus luma, (C, H, W)."""
    luma = luma_of(image)
    return luma, image - luma


def luma_of(image: Tensor) -> Tensor:
    """Luma of (C, H, W), (1, H, W)."""
    if image.shape[0] == 1:
        return image
    weights = torch.tensor(BT709_LUMA, dtype=image.dtype, device=image.device)
    return torch.einsum("chw,c->hw", image, weights)[None]


def quantile(values: Tensor, share: float) -> Tensor:
    """Lower quantile of the last dimension; unlike torch's, without a limit of its size."""
    return values.kthvalue(1 + int(share * (values.shape[-1] - 1))).values


def _uniform_blocks(image: Tensor) -> Tensor:
    """Whether all pixels of a block are the same; of (C, H, W), (h, w) bool.

    Includes the pixels around each block, as the last block may be a single pixel. Only blocks
    whose corners are the same are looked at whole, as most photos have few of them.
    """
    height, width = image.shape[1:]
    padding = (1, 1 + -width % BLOCK_SIZE, 1, 1 + -height % BLOCK_SIZE)
    padded = F.pad(image[None], padding, mode="replicate")[0]
    side = BLOCK_SIZE + 2
    windows = padded.unfold(1, side, BLOCK_SIZE).unfold(2, side, BLOCK_SIZE)  # (C, h, w, 10, 10)
    corners = windows[..., :: side - 1, :: side - 1]
    uniform = (corners == corners[..., :1, :1]).flatten(3).all(3).all(0)
    rows, columns = uniform.nonzero(as_tuple=True)
    if len(rows):
        likely = windows[:, rows, columns].flatten(2)  # (C, N, 100)
        uniform[rows, columns] = (likely == likely[..., :1]).all(2).all(0)
    return uniform


def _mean_within(values: Tensor, rows: int, columns: int) -> Tensor:
    """Per-block mean of values that were each computed from several neighbouring pixels.

    Values that were computed from two blocks are left out. So a block's mean does not depend on
    which rows are processed together.

    Args:
        values: (1, H - rows, W - columns), each computed from its pixel and pixels below or right.
        rows: how many rows below.
        columns: how many columns to the right.

    Returns:
        (h, w).
    """
    sums = F.pad(values, (0, columns, 0, rows))
    for lost in range(1, rows + 1):
        sums[:, BLOCK_SIZE - lost :: BLOCK_SIZE] = 0
    for lost in range(1, columns + 1):
        sums[:, :, BLOCK_SIZE - lost :: BLOCK_SIZE] = 0
    places = (torch.arange(size, device=sums.device) for size in sums.shape[1:])
    down, across = (
        (place % BLOCK_SIZE < BLOCK_SIZE - lost) & (place < len(place) - lost)
        for place, lost in zip(places, (rows, columns), strict=True)
    )
    counted = torch.outer(*(block_means(x.float()[None, None])[0, 0] for x in (down, across)))
    return block_means(sums)[0] / counted.clamp_min(1e-6)

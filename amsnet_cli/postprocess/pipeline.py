"""Post-processing in two streamed steps: collect statistics, then correct rows.

    statistics = Statistics(height, width, channels)
    for rows in image: statistics.add(noisy, denoised)
    corrector = Corrector(statistics.finish(), ...)
    for rows in image: corrector.apply(noisy, denoised, below=...)

So a whole image is never held as floats. Parts are whole blocks high, see `row_parts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from amsnet_cli.postprocess.block_stats import BlockStats, block_stats
from amsnet_cli.postprocess.blocks import BLOCK_SIZE, BlockStack, upsample_blocks
from amsnet_cli.postprocess.brightness import (
    ResidualHistogram,
    bias_by_tone,
    correct_brightness,
    sampling,
)
from amsnet_cli.postprocess.config import PostprocessConfig
from amsnet_cli.postprocess.residual_noise import smooth_residual_noise, smoothing_weights
from amsnet_cli.postprocess.sharpness import clip_radius, limit_sharpness
from amsnet_cli.postprocess.texture import blend_residual, blend_weights

PIXELS_AT_A_TIME = {"cpu": 1 << 18, "mps": 1 << 20, "cuda": 1 << 21}
"""Approximate number of pixels of a part, by type of device: CPUs keep one in their cache, for GPUs
each part costs a wait."""

Strength = float | Literal["auto"]


@dataclass(frozen=True, kw_only=True)
class BlendSettings:
    """How much of the residual is removed.

    Attributes:
        luma: share of its luma, in [0, 1]; "auto" removes all, except in graphics.
        chroma: the same of its chroma.
        detail: share of the likely texture that is restored in luma, in [0, 1].
        corrections: whether brightness, residual noise and sharpness are corrected as well.
    """

    luma: Strength = "auto"
    chroma: Strength = "auto"
    detail: float = 0.0
    corrections: bool = True


@dataclass(frozen=True, kw_only=True)
class ImageStatistics:
    """Statistics of an image and its residual.

    Attributes:
        blocks: per-block statistics.
        residuals: histograms of the residual.
    """

    blocks: BlockStats
    residuals: ResidualHistogram


class Statistics:
    """Collects the statistics of an image, some rows at a time.

    Args:
        height: of the image.
        width: of the image.
        channels: C, 1 or 3.
        config: see `PostprocessConfig`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        channels: int,
        config: PostprocessConfig = PostprocessConfig(),
    ) -> None:
        self._config = config
        self._blocks: BlockStack[BlockStats] = BlockStack(height)
        self._residuals = ResidualHistogram(channels, config)
        self._row_step, self._column_step = sampling(height, width)
        self._top = 0

    def add(self, noisy: Tensor, denoised: Tensor) -> None:
        """Add the next rows.

        Args:
            noisy: (C, H, W) float32 in [0, 1]; H as from `row_parts`.
            denoised: the same shape.
        """
        height = noisy.shape[1]
        first = -self._top % self._row_step
        sampled = np.s_[:, first : height : self._row_step, :: self._column_step]
        self._residuals.add(noisy[sampled], denoised[sampled])
        self._blocks.add(block_stats(noisy, denoised, self._config.block_stats))
        self._top += height

    def finish(self) -> ImageStatistics:
        """Return the statistics of all rows; at least some were added."""
        return ImageStatistics(blocks=self._blocks.whole(), residuals=self._residuals)


class Corrector:
    """Corrects an image, some rows at a time, from the top down.

    Args:
        statistics: of the whole image.
        settings: how much of the residual is removed.
        config: see `PostprocessConfig`.
    """

    def __init__(
        self,
        statistics: ImageStatistics,
        settings: BlendSettings,
        config: PostprocessConfig = PostprocessConfig(),
    ) -> None:
        blocks = statistics.blocks
        corrections = settings.corrections
        self._smooth = corrections and config.smooth_residual_noise
        self._limit = corrections and config.limit_sharpness
        self._bias = None
        if corrections and config.correct_brightness:
            bias = statistics.residuals.bias()
            if bias.any():
                self._bias = bias_by_tone(bias).to(blocks.luma.device)
        luma, chroma = (
            None if share == "auto" else share for share in (settings.luma, settings.chroma)
        )
        self._weights = blend_weights(blocks, luma, chroma, settings.detail, config)  # (2, h, w)
        self._keeps_some = (self._weights != 1).any(2).any(0).cpu()  # of the residual, in a row
        self._maps = None
        if corrections:  # (1 + 3 + C, h, w)
            maps = [clip_radius(blocks, config), smoothing_weights(blocks, config)]
            self._maps = torch.cat(maps)
        self._top = 0
        self._row_above: Tensor | None = None

    def apply(self, noisy: Tensor, denoised: Tensor) -> Tensor:
        """Correct the next rows.

        Args:
            noisy: (C, H, W) float32 in [0, 1]; H as from `row_parts`.
            denoised: (C, H + below, W), with the row below, except for the last rows of the image.

        Returns:
            (C, H, W).
        """
        height, width = noisy.shape[1:]
        top, self._top = self._top, self._top + height
        fine = None
        if self._maps is not None:
            fine = upsample_blocks(self._maps, top, denoised.shape[1], width)
        if self._smooth and fine is not None:
            denoised = smooth_residual_noise(denoised, fine[1:])
        if self._bias is not None:
            denoised = correct_brightness(denoised, self._bias)
        if self._limit and fine is not None:
            denoised = self._limit_sharpness(denoised, fine[:1, :height], height)
        denoised = denoised[:, :height]
        around = slice(max(0, top // BLOCK_SIZE - 1), (top + height - 1) // BLOCK_SIZE + 2)
        if not self._keeps_some[around].any():
            return denoised
        luma_share, chroma_share = upsample_blocks(self._weights, top, height, width)
        return blend_residual(noisy, denoised, luma_share[None], chroma_share[None])

    def _limit_sharpness(self, denoised: Tensor, radius: Tensor, height: int) -> Tensor:
        """Limit the sharpness of `height` rows, with the row above as it was before."""
        below = denoised.shape[1] - height
        above = 0 if self._row_above is None else 1
        rows = denoised if self._row_above is None else torch.cat([self._row_above, denoised], 1)
        self._row_above = denoised[:, height - 1 : height].clone()
        return limit_sharpness(rows, radius, above=above, below=below)


def row_parts(height: int, width: int, device: torch.device) -> list[tuple[int, int]]:
    """Cut an image into parts that are whole blocks high: first and end row of each."""
    rows = BLOCK_SIZE * max(1, PIXELS_AT_A_TIME[device.type] // (BLOCK_SIZE * width))
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def memory_needed(height: int, width: int, device: torch.device) -> int:
    """Bytes of a device that the post-processing takes besides stored pixels (measured on CPUs)."""
    per_part = 24 * 3 * 4 * max(PIXELS_AT_A_TIME[device.type], BLOCK_SIZE * width)
    blocks = 7 * height * width // 2
    return per_part + blocks

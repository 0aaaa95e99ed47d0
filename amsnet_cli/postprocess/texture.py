"""How much of the residual is removed: all, less in graphics, and less where texture went with it.

A network sometimes takes fine texture for noise: a mesh, a weave, print. This shows without a clean
image. Noise is about equally strong wherever the brightness is the same. So where the residual is
stronger than in the quietest blocks of that brightness, structure was removed as well. With
`DenoiseOptions.detail` a share of it comes back.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.core.photo_noise import LEVELS
from amsnet_cli.noise.curve import interpolate
from amsnet_cli.postprocess.block_stats import BlockStats, luma_of, quantile
from amsnet_cli.postprocess.blocks import BLOCK_SIZE
from amsnet_cli.postprocess.config import PostprocessConfig
from amsnet_cli.postprocess.graphics import graphics

_BINOMIAL_ERROR = 3 / 8
"""Standard error of binomial means of 3 x 3, over that of a single one."""


def blend_weights(
    stats: BlockStats,
    luma: float | None,
    chroma: float | None,
    detail: float,
    config: PostprocessConfig = PostprocessConfig(),
) -> Tensor:
    """Per-block share of the residual that is removed; linear in `luma`, `chroma` and `detail`.

    Args:
        stats: of the whole image.
        luma: share of the luma, in [0, 1]; None for all, except in graphics.
        chroma: the same of the chroma.
        detail: share of the likely texture that is restored in luma, in [0, 1].
        config: see `PostprocessConfig`.

    Returns:
        (2, h, w) float32 in [0, 1], of luma and chroma.
    """
    photo = torch.ones_like(stats.luma)
    if config.keep_graphics:
        photo = (1 - graphics(stats, config)).masked_fill(stats.uniform, 0.0)
    weights = torch.stack(
        [photo if share is None else torch.full_like(photo, share) for share in (luma, chroma)]
    )
    if detail:
        weights[0] *= 1 - detail * (1 - photo * noise_share(stats, config))
    return weights


def noise_share(stats: BlockStats, config: PostprocessConfig = PostprocessConfig()) -> Tensor:
    """Share of noise in the residual's luma, per block: a Wiener gain.

    Luma is tested pixel by pixel and in means of 2 x 2 pixels. The texture of cloth, fur and wood
    is coarser than noise, so it shows first in the means.

    Args:
        stats: of the whole image.
        config: see `PostprocessConfig`.

    Returns:
        (h, w) float32 in [0, 1]: 1 up to as much power as noise has by chance, above it the share
        of noise in the sum of noise and structure.
    """
    powers = torch.stack([stats.residual_power[0], stats.residual_power_2x2])
    if not stats.unclipped.any():
        return torch.ones_like(stats.luma)
    samples = torch.tensor([BLOCK_SIZE**2, BLOCK_SIZE**2 // 4], device=powers.device)
    by_chance = 1 + config.certainty * _BINOMIAL_ERROR * (2 / samples[:, None, None]).sqrt()
    limit = by_chance * _noise_power(powers, stats, config)
    structure = _binomial((stats.mean_square[0] - stats.luma.square()).clamp_min(0))
    limit += config.edge_noise * structure
    found = torch.stack([_binomial(power) for power in powers])
    return torch.where(found > limit, limit / found, 1.0).amin(0)


def blend_residual(noisy: Tensor, denoised: Tensor, luma: Tensor, chroma: Tensor) -> Tensor:
    """Add the part of the residual that is not removed back; linear in both shares.

    Args:
        noisy: (C, H, W) float32.
        denoised: the same shape.
        luma: (1, H, W) share in [0, 1] of the residual's luma that is removed.
        chroma: the same of its chroma; no effect on grey.

    Returns:
        (C, H, W): `denoised` where both are 1, `noisy` where both are 0.
    """
    residual = noisy - denoised
    of_luma = (chroma - luma) * luma_of(residual)  # beside the same share of luma as of chroma
    return torch.addcmul(denoised, 1 - chroma, residual).add_(of_luma)


def _noise_power(powers: Tensor, stats: BlockStats, config: PostprocessConfig) -> Tensor:
    """Power of the noise at each block's brightness, from the quiet blocks of that brightness.

    The curve is sampled evenly in the square root of brightness: where black clips the noise, its
    power grows several times over the darkest tenth of the range.

    Args:
        powers: (N, h, w) of the residual.
        stats: of the whole image.
        config: see `PostprocessConfig`.

    Returns:
        (N, h, w).
    """
    root = stats.luma.clamp(0, 1).sqrt()
    sorted_root, order = root[stats.unclipped].sort()
    sorted_powers = powers[:, stats.unclipped][:, order]
    curves = root.new_full((len(powers), LEVELS), torch.nan)
    places = torch.arange(-1, LEVELS + 1, device=root.device) / (LEVELS - 1)
    ends = torch.searchsorted(sorted_root, places).cpu().tolist()
    for i in range(LEVELS):
        near = sorted_powers[:, ends[i] : ends[i + 2]]
        if near.shape[1]:
            curves[:, i] = quantile(near, config.block_stats.quietest)
    return torch.stack([interpolate(curve, root * (LEVELS - 1)) for curve in curves])


def _binomial(blocks: Tensor) -> Tensor:
    """Binomial 3 x 3 over (h, w), edges repeated."""
    taps = torch.tensor([0.25, 0.5, 0.25], device=blocks.device)
    padded = F.pad(blocks[None, None], (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, torch.outer(taps, taps)[None, None])[0, 0]

"""Detect white noise: noise without correlation between neighbouring pixels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

WHITENESS_BLOCK = 8
"""Side in pixels of the blocks that are compared."""


@dataclass(frozen=True, kw_only=True)
class WhitenessConfig:
    """Numbers of `is_white`; `tests/test_noise_level.py` checks them.

    Attributes:
        quietest: fraction of the blocks that is measured: those with the weakest differences.
        min_blocks: least number of unclipped blocks; with fewer, nothing is detected.
        unclipped_share: a block counts if more than this fraction of its pixels is neither black
            nor white.
        min_ratio: least power of differences between neighbours, relative to pixels two apart; the
            largest is its inverse. White noise has 1; demosaicked noise .55 to .65, phones .4 to
            .5, photos reduced to half their size .7 to .8, dithered images more than 1.
        min_sigma: standard deviation of colour noise, in [0, 1], below which noise is ignored.
    """

    quietest: float = 0.25
    min_blocks: int = 20
    unclipped_share: float = 0.9
    min_ratio: float = 0.85
    min_sigma: float = 2 / 255


def is_white(image: Tensor, config: WhitenessConfig = WhitenessConfig()) -> bool:
    """Return whether an image has white noise.

    Noise is white where nothing was demosaicked: sensors without a mosaic, downscaled photos,
    simulations. It is measured in the colour differences (red and blue minus green) of the quietest
    blocks, which contain little structure; in a grey image, in its brightness. Structure makes
    neighbours more similar than pixels two apart, as correlated noise does. So it can hide white
    noise, but not imitate it.

    Args:
        image: (C, H, W) float in [0, 1], C = 1 or 3; or some rows of one, in whole blocks of 8.
        config: see `WhitenessConfig`.
    """
    if min(image.shape[1:]) < WHITENESS_BLOCK:
        return False
    planes = image[::2] - image[1:2] if len(image) > 1 else image
    if not planes.any():
        planes = image[:1]
    near, far = (_difference_power(planes, distance) for distance in (1, 2))
    unclipped = _blocks((image > 0) & (image < 1)).float().mean((0, 3, 4))  # (h, w)
    usable = (unclipped > config.unclipped_share) & (near + far > 0)
    near, far = near[usable], far[usable]
    if len(near) < config.min_blocks:
        return False
    activity = near + far
    threshold = activity.kthvalue(1 + int(config.quietest * (len(activity) - 1))).values
    quiet = activity <= threshold
    power = float(near[quiet].mean()) / 2
    ratio = float(near[quiet].sum() / far[quiet].sum().clamp_min(1e-12))
    return power > config.min_sigma**2 and config.min_ratio < ratio < 1 / config.min_ratio


def _difference_power(planes: Tensor, distance: int) -> Tensor:
    """Per-block mean square difference of pixels at a distance, down and across; (h, w)."""
    blocks = _blocks(planes)
    down = blocks[..., distance:, :] - blocks[..., :-distance, :]
    across = blocks[..., distance:] - blocks[..., :-distance]
    return 0.5 * (down.square().mean((0, 3, 4)) + across.square().mean((0, 3, 4)))


def _blocks(planes: Tensor) -> Tensor:
    """Cut (C, H, W) into whole blocks, (C, h, w, 8, 8)."""
    size = WHITENESS_BLOCK
    return planes.unfold(1, size, size).unfold(2, size, size)

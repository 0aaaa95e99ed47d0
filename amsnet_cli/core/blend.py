"""How much of the removed noise goes back: brightness and colour apart, and texture.

Brightness is the luma of Rec. ITU-R BT.709, a weighted sum of the channels as they are coded;
what is left when it is taken from each channel is colour.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.2126, 0.7152, 0.0722)
WINDOW = 11
"""Side in pixels of the square in which texture is looked for."""
LEVELS = 16
"""Of brightness, each with a noise of its own."""
QUIET_SHARE = 0.25
"""Of the places of one brightness: these are taken to hold noise alone."""
SPREAD = 1.3
"""By which the variance of noise in a window may exceed that of the quiet places."""


def blend(
    noisy: Tensor, denoised: Tensor, luma: float = 1.0, chroma: float = 1.0, detail: float = 0.0
) -> Tensor:
    """Give back some of what was removed; linear in each of the three.

    Args:
        noisy: (B, C, H, W), C = 1 (grey) or 3 (RGB).
        denoised: the same shape.
        luma: share of the brightness noise that stays away, in [0, 1].
        chroma: share of the colour noise that stays away, in [0, 1]; nothing to grey.
        detail: share of the lost texture that is given back, in [0, 1]; see `texture`. Less
            than all that was taken goes back anywhere.

    Returns:
        (B, C, H, W): `denoised` at 1, 1, 0, and `noisy` at 0, 0, whatever the detail.
    """
    removed = noisy - denoised
    brightness = _luma(removed)
    result = denoised + (1 - chroma) * (removed - brightness)
    back = torch.full_like(brightness, 1 - luma)
    if detail:
        back += luma * detail * texture(_luma(denoised), brightness)
    return result.addcmul_(back, brightness)


def texture(denoised: Tensor, removed: Tensor) -> Tensor:
    """Tell how much of what was removed is texture.

    What was removed varies more where texture went with the noise. By how much more than in the
    quietest places of the same brightness gives the gain of Wiener's filter, the best guess of
    the texture in it.

    Args:
        denoised: (B, 1, H, W).
        removed: (B, 1, H, W).

    Returns:
        (B, 1, H, W) in [0, 1).
    """
    variance = _variance(removed)
    level = denoised.clamp(0, 1) * (LEVELS - 1)
    step = max(4, math.isqrt(variance.numel() >> 20))  # enough to know the noise from
    noise = _noise_by_level(level[..., ::step, ::step], variance[..., ::step, ::step])
    below = level.long().clamp_(max=LEVELS - 2)
    expected = SPREAD * torch.lerp(noise[below], noise[below + 1], level - below)
    return (1 - expected / variance.clamp(min=1e-10)).clamp_(min=0)


def _noise_by_level(level: Tensor, variance: Tensor) -> Tensor:
    """Estimate the noise variance at each whole level, (LEVELS,)."""
    everywhere = variance.flatten().quantile(QUIET_SHARE)
    noise = everywhere.repeat(LEVELS)
    nearest = level.round()
    for i in range(LEVELS):
        here = variance[nearest == i]
        if len(here) >= WINDOW * WINDOW:
            noise[i] = here.quantile(QUIET_SHARE)
    return noise


def _luma(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    return (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def _variance(x: Tensor) -> Tensor:
    mean, mean_square = (
        F.avg_pool2d(y, WINDOW, stride=1, padding=WINDOW // 2, count_include_pad=False)
        for y in (x, x * x)
    )
    return (mean_square - mean * mean).clamp_(min=0)

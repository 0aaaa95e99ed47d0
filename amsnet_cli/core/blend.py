"""How much of the removed noise goes back: brightness and colour apart, and texture.

Brightness is the luma of Rec. ITU-R BT.709, a weighted sum of the channels as they are coded;
what is left when it is taken from each channel is colour.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.2126, 0.7152, 0.0722)
WINDOW = 7
"""Side in pixels of the square in which texture is looked for."""


def blend(
    noisy: Tensor, denoised: Tensor, luma: float = 1.0, chroma: float = 1.0, detail: float = 0.0
) -> Tensor:
    """Give back some of what was removed; linear in each of the three.

    Args:
        noisy: (B, C, H, W), C = 1 (grey) or 3 (RGB).
        denoised: the same shape.
        luma: share of the brightness noise that stays away, in [0, 1].
        chroma: share of the colour noise that stays away, in [0, 1]; nothing to grey.
        detail: share of the lost texture that is given back, in [0, 1]: of the brightness
            noise removed, where the denoised picture has structure. Less than all of it goes
            back anywhere, and none where the picture is flat.

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
    """Tell how much of what was removed is likely to be texture (the gain of Wiener's filter).

    Args:
        denoised: (B, 1, H, W).
        removed: (B, 1, H, W).

    Returns:
        (B, 1, H, W) in [0, 1): the variance of the denoised picture around each pixel against
        that of what was removed.
    """
    signal, noise = _variance(denoised), _variance(removed)
    return signal / (signal + noise).clamp_(min=1e-10)


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

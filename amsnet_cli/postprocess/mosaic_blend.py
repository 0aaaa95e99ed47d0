"""Blend a denoised mosaic with the noisy one: strength by luma and chroma, and detail."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MosaicBlend:
    """How much of what the network removes is removed.

    Attributes:
        luma: share of its luma, in [0, 1].
        chroma: share of its chroma, in [0, 1].
        detail: share of the likely detail that is restored, in [0, 1].
        chroma_spread: standard deviation, in photosites, of the Gaussian over which chroma is
            smooth. Of noise that LibRaw develops by AHD, luma then holds .72 to .79 of the luma
            and chroma .58 to .64 of the chroma; 0.5 and 1.0 are worse for one of the two.
        detail_window: side in photosites of the square in which removed noise is measured, odd.
        detail_certainty: standard errors of that measurement by which it must exceed the noise.
    """

    luma: float = 1.0
    chroma: float = 1.0
    detail: float = 0.0
    chroma_spread: float = 0.8
    detail_window: int = 9
    detail_certainty: float = 3.0


def kept_noise(removed: Tensor, colours: Tensor, gains: Tensor, blend: MosaicBlend) -> Tensor:
    """Return the part of what a network removed that is to stay in the mosaic.

    Chroma is what differs between the colours once each is smoothed over its neighbours, after
    white balance: a demosaicker takes it for colour. Luma is the rest.

    Args:
        removed: (1, 1, H, W), the noisy mosaic less the denoised one, 0 at black and 1 at white.
        colours: (1, 3, H, W): 1 where a photosite records red, green, blue, else 0.
        gains: (3,) factors of white balance.
        blend: see `MosaicBlend`; `detail` is not looked at.

    Returns:
        (1, 1, H, W), linear in both shares.
    """
    kept = (1 - blend.luma) * removed
    if blend.chroma == blend.luma or bool(colours.all()):
        return kept
    gain = (colours * gains[:, None, None].to(colours)).sum(1, keepdim=True)
    chroma = _chroma(removed * gain, colours, blend.chroma_spread) / gain
    return kept + (blend.luma - blend.chroma) * chroma


def likely_detail(deviations: Tensor, blend: MosaicBlend) -> Tensor:
    """Return the share of what was removed that was not noise, by its local power.

    Args:
        deviations: (1, 1, H, W), what was removed in standard deviations of the noise.
        blend: see `MosaicBlend`.

    Returns:
        (1, 1, H, W) in [0, 1].
    """
    side = blend.detail_window
    power = F.avg_pool2d(
        deviations.square(), side, stride=1, padding=side // 2, count_include_pad=False
    )
    noise = 1 + blend.detail_certainty * (2 / side**2) ** 0.5
    share: Tensor = 1 - noise / power.clamp_min(noise)
    return share.clamp_min(0)


def _chroma(balanced: Tensor, colours: Tensor, spread: float) -> Tensor:
    """Each photosite's colour, smoothed, less the mean of the three colours there."""
    half = max(4, round(4 * spread))  # X-Trans has red and blue up to four apart
    taps = torch.arange(-half, half + 1, device=balanced.device)
    kernel = torch.exp(-0.5 * (taps / spread) ** 2)
    planes = torch.cat([colours * balanced, colours], 1)
    planes = F.conv2d(planes, kernel[:, None].expand(6, 1, -1, 1), padding=(half, 0), groups=6)
    planes = F.conv2d(planes, kernel[None].expand(6, 1, 1, -1), padding=(0, half), groups=6)
    means = planes[:, :3] / planes[:, 3:].clamp_min(1e-12)
    share = colours.mean((2, 3), keepdim=True)  # of the photosites, half of them green
    own = (means * colours).sum(1, keepdim=True)
    return own - (means * share).sum(1, keepdim=True)

"""Give back what a network removed where the noisy picture surely holds something.

The noisy picture is cut into scales by the starlet transform, and where a coefficient exceeds what
noise alone gives, there is a source: the multiresolution support of Starck, Murtagh and Bijaoui
("Image restoration with noise suppression using a multiresolution support", 1995). Within the
support the result follows the noisy picture, apart from its finest scale. Elsewhere only what is
coarser than all scales is given back, so that no brightness shifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SPLINE = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


@dataclass(frozen=True, kw_only=True)
class SignificanceConfig:
    """Numbers of `keep_significant`.

    Attributes:
        scales: of the starlet transform; what is coarser, of 2^scales pixels and more, is the noisy
            picture's everywhere, as hardly any noise is left in it.
        threshold: standard deviations of the noise that a coefficient must exceed.
        around: pixels by which the support grows: where a source that is seen in its middle ends.
        rounds: in which the residual is smoothed, each time what the ones before have left; more
            make what is given back sharper, and noisier.
    """

    scales: int = 3
    threshold: float = 3.5
    around: int = 3
    rounds: int = 2


def keep_significant(
    noisy: Tensor, denoised: Tensor, config: SignificanceConfig = SignificanceConfig()
) -> Tensor:
    """Return the denoised picture with the significant part of the noisy one.

    Args:
        noisy: (1, 1, H, W), in a scale in which white noise has the standard deviation 1.
        denoised: of the same shape, in the same scale.
        config: see `SignificanceConfig`.
    """
    found = torch.zeros_like(noisy, dtype=torch.bool)
    planes, residual = noisy, noisy - denoised
    coarse = residual
    for scale, unit in enumerate(_unit_noise(config.scales)):
        smooth = _smoothed(planes, scale)
        if scale:  # The finest is mostly noise.
            found |= planes - smooth > config.threshold * unit
        planes, coarse = smooth, _smoothed(coarse, scale)
    reach = config.around
    support = F.max_pool2d(found.float(), 2 * reach + 1, 1, reach).bool()
    kept = torch.zeros_like(residual)
    for _ in range(config.rounds):
        kept = kept + _smoothed(residual - kept, 0)
    return denoised + torch.where(support, kept, coarse)


def _smoothed(x: Tensor, scale: int) -> Tensor:
    """Smooth (1, 1, H, W) by a cubic B-spline with holes."""
    step = 2**scale
    taps = _SPLINE.to(x)
    for axis in (2, 3):
        reach = 2 * step
        kernel = taps.reshape((1, 1, 5, 1) if axis == 2 else (1, 1, 1, 5))
        pad = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        mode = "reflect" if x.shape[axis] > reach else "replicate"
        x = F.conv2d(F.pad(x, pad, mode=mode), kernel, dilation=step)
    return x


def _unit_noise(scales: int) -> list[float]:
    """Standard deviation of the coefficients of white noise of 1, by scale."""
    side = 8 * 2**scales + 1
    impulse = torch.zeros(1, 1, side, side)
    impulse[..., side // 2, side // 2] = 1
    found = []
    for scale in range(scales):
        smooth = _smoothed(impulse, scale)
        found.append(float((impulse - smooth).square().sum().sqrt()))
        impulse = smooth
    return found

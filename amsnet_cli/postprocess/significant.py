"""Give back what a network removed that was no noise, where the noise is known.

`keep_unexplained` looks at what was removed: where that is stronger than noise, the rest was
structure.

`keep_significant` looks at what was there, for measurements. The noisy picture is cut into scales
by the starlet transform, and where a coefficient exceeds what noise alone gives, there is a source:
the multiresolution support of Starck, Murtagh and Bijaoui ("Image restoration with noise
suppression using a multiresolution support", 1995). Within the support the result follows the noisy
picture, apart from its finest noise. Elsewhere only what is coarser than all scales is given back,
so that no brightness shifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SPLINE = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


@dataclass(frozen=True, kw_only=True)
class SignificanceConfig:
    """Numbers of `keep_significant`, and the last two of `keep_unexplained`.

    Attributes:
        scales: of the starlet transform; what is coarser, of 2^scales pixels and more, is the noisy
            picture's everywhere, as hardly any noise is left in it.
        threshold: standard deviations of the noise that a coefficient must exceed.
        around: pixels by which the support grows: where a source that is seen in its middle ends.
        rounds: in which the residual is smoothed, each time what the ones before have left; more
            make what is given back sharper, and noisier.
        window: side in pixels of the square in which the power of what was removed is measured.
        certainty: standard errors of that power by which it must exceed that of noise.
    """

    scales: int = 3
    threshold: float = 3.5
    around: int = 3
    rounds: int = 2
    window: int = 5
    certainty: float = 3.0


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


def keep_unexplained(
    noisy: Tensor, denoised: Tensor, config: SignificanceConfig = SignificanceConfig()
) -> Tensor:
    """Return the denoised picture with the share of what was removed that noise does not explain.

    Args:
        noisy: (1, 1, H, W), in a scale in which noise has the standard deviation 1.
        denoised: of the same shape, in the same scale.
        config: see `SignificanceConfig`.
    """
    removed = noisy - denoised
    side = config.window
    power = F.avg_pool2d(
        removed.square(), side, stride=1, padding=side // 2, count_include_pad=False
    )
    explained = 1 + config.certainty * (2 / side**2) ** 0.5
    share: Tensor = 1 - explained / power.clamp_min(explained)
    return denoised + share * removed


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

"""The noise of an image sensor: its variance, and a scale in which it is even.

A photosite counts photons, and its amplifier adds noise of its own. So the variance grows with the
light: a x + b, with x the clean value between black, 0, and white, 1 (Foi et al., "Practical
Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP 2008). DNG
files state a and b as NoiseProfile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SensorNoise:
    """Noise with the variance a x + b.

    `stabilise` is Anscombe's transform ("The transformation of Poisson, binomial and
    negative-binomial data", Biometrika 1948), generalised to b > 0 by Murtagh et al. (1995), with
    the scale that keeps 0..1: y = sqrt(max(0, x + 3/8 a + b/a)). Noise has the standard deviation
    sqrt(a) / 2 there, at every brightness.

    Attributes:
        a: variance per unit of light, > 0: the gain in units of the range from black to white. A
            number, or a tensor that broadcasts with the mosaic: one for each photo or photosite.
        b: variance in the dark, >= 0; likewise.

    Raises:
        ValueError: a is not above 0, or b is below 0. For noise that does not grow with the light,
            give it a small a, such as b / 100.
    """

    a: float | Tensor
    b: float | Tensor

    def __post_init__(self) -> None:
        a, b = torch.as_tensor(self.a), torch.as_tensor(self.b)
        if not bool(((a > 0) & (b >= 0) & a.isfinite() & b.isfinite()).all()):
            raise ValueError("sensor noise needs a > 0 and b >= 0")

    @property
    def sigma(self) -> Tensor:
        """Standard deviation in the stabilised scale, sqrt(a) / 2, shaped as `a`."""
        return torch.as_tensor(self.a).sqrt() / 2

    @property
    def offset(self) -> Tensor:
        """What is added to a mosaic below the root: 3/8 a + b/a."""
        a = torch.as_tensor(self.a)
        return 0.375 * a + torch.as_tensor(self.b) / a

    def variance(self, clean: Tensor) -> Tensor:
        """Variance of the noise at clean values, any shape, in squares of the range; >= 0."""
        return (self.a * clean + self.b).clamp_min(0)

    def stabilise(self, mosaic: Tensor) -> Tensor:
        """Bring values to the scale in which noise is even.

        Args:
            mosaic: any shape, 0 at black and 1 at white; values below 0 are welcome.
        """
        return (mosaic + self.offset).clamp_min(0).sqrt()

    def unstabilise(self, stabilised: Tensor) -> Tensor:
        """Bring values back to 0 at black and 1 at white.

        This is the algebraic inverse. It is the right one for a network that has learned to give
        the transform of the clean value. What gives the mean of transformed noisy values needs
        another (Mäkitalo and Foi, "Optimal inversion of the generalized Anscombe transformation for
        Poisson-Gaussian noise", IEEE TIP 2013).

        Args:
            stabilised: any shape; values below 0 count as 0.
        """
        return stabilised.clamp_min(0).square() - self.offset


def law_by_colour(laws: Sequence[SensorNoise], colours: Tensor) -> SensorNoise:
    """Return the law of each photosite, its a and b shaped (..., 1, H, W).

    Args:
        laws: one for all colours, or for red, green and blue.
        colours: (..., 3, H, W): 1 where a photosite records red, green, blue, else 0; 1 for all
            three where the sensor is monochrome, which then has the mean of the laws.
    """
    shares = colours / colours.sum(-3, keepdim=True)
    laws = laws if len(laws) == 3 else [*laws] * 3
    a, b = (
        (torch.tensor(values).to(colours)[:, None, None] * shares).sum(-3, keepdim=True)
        for values in zip(*((float(law.a), float(law.b)) for law in laws), strict=True)
    )
    return SensorNoise(a=a, b=b)

"""What is known of a sensor's noise before its mosaic is looked at, and how cautious to be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class GainPrior:
    """What is known of a before a mosaic is looked at: a log-normal distribution.

    Attributes:
        median: of a, > 0.
        spread: standard deviation of its logarithm.
    """

    median: float
    spread: float


def gain_by_pitch(iso: float, pitch: float) -> GainPrior:
    """Return what photosites of a size tell of a.

    ISO 12232 has saturation at 78 / ISO lux seconds. A lux second of green light is 4100 photons to
    a square micrometre (555 nm, 683 lm/W), of which filters and silicon leave about a half. So
    white is 1.6e5 pitch^2 / ISO electrons, and a is the inverse. Cameras stray from it by the
    headroom that they keep above white, their filters and their quantum efficiency.

    Args:
        iso: what the camera was set to.
        pitch: from photosite to photosite, in micrometres.
    """
    return GainPrior(median=iso / (1.6e5 * pitch**2), spread=0.35)


@dataclass(frozen=True, kw_only=True)
class Caution:
    """Which quantile of the posterior of a is taken: below 1/2, less noise is believed.

    Denoising faint noise gains little, and texture taken for noise costs much. So it depends on a,
    linearly in its logarithm.

    Attributes:
        strong: a from which noise is strong.
        quantile: taken there.
        faint: a below which noise is faint.
        faint_quantile: taken there.
    """

    strong: float = 1e-3
    quantile: float = 0.2
    faint: float = 2e-5
    faint_quantile: float = 0.02

    def quantiles(self, a: Tensor) -> Tensor:
        """Return the quantile that is taken at each a."""
        low, high = math.log(self.faint), math.log(self.strong)
        strength = ((a.log() - low) / (high - low)).clamp(0, 1)
        return self.faint_quantile + (self.quantile - self.faint_quantile) * strength

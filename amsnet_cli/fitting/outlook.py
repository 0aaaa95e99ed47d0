"""What more training would bring, from the validation curve so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from amsnet_cli.fitting.validation import LEAST_LOSS, SIGNIFICANCE_Z
from amsnet_cli.report.curve import CurvePoint

LEAST_STEPS = 400
"""Steps before a curve can be found to be level."""
LEVEL_SHARE = 0.1
"""A curve is level where a doubling of the steps brings less than this share of the improvement, or
of what is significant where that is more."""
NEXT_DOUBLING = 0.5
"""What a doubling of the steps brings of what the one before brought."""
_MEASURED_FROM = 1 / 4
"""The slope is measured over the points from this fraction of the steps on."""
_LEAST_POINTS = 3


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What as many steps again would bring.

    Attributes:
        improvement: by which the validation loss would fall further, as a fraction of the start's.
        standard_error: of the slope that this is estimated from.
    """

    improvement: float
    standard_error: float


def levelled_off(curve: Sequence[CurvePoint], losses: Sequence[Tensor]) -> bool:
    """Whether more steps at the same learning rate hardly pay.

    Args:
        curve: validation losses at a constant learning rate, the start's first.
        losses: (N,) of the patches, at each point.
    """
    slope = _per_doubling(curve, losses)
    last = curve[-1]
    if slope is None or last.step < LEAST_STEPS:
        return False
    return slope[0] <= LEVEL_SHARE * max(last.improvement, SIGNIFICANCE_Z * last.standard_error)


def outlook(curve: Sequence[CurvePoint], losses: Sequence[Tensor]) -> Outlook | None:
    """Return what as many steps again would bring; None if there are too few points.

    Args:
        curve: validation losses at a constant learning rate, the start's first.
        losses: (N,) of the patches, at each point.
    """
    slope = _per_doubling(curve, losses)
    if slope is None:
        return None
    gain, error = slope
    return Outlook(improvement=NEXT_DOUBLING * max(0.0, gain), standard_error=error)


def _per_doubling(
    curve: Sequence[CurvePoint], losses: Sequence[Tensor]
) -> tuple[float, float] | None:
    """Return how far the loss falls in a doubling of the steps, and the standard error.

    Both as fractions of the start's loss; by least squares of each patch's loss.
    """
    least = max(1.0, _MEASURED_FROM * curve[-1].step)
    used = [i for i, point in enumerate(curve) if point.step >= least]
    if len(used) < _LEAST_POINTS:
        return None
    doublings = torch.tensor([math.log2(curve[i].step) for i in used], dtype=torch.float64)
    distance = doublings - doublings.mean()
    unit = losses[0].mean().clamp_min(LEAST_LOSS) * distance.square().sum()
    falls = -(distance @ torch.stack([losses[i] for i in used])) / unit  # (N,)
    return float(falls.mean()), float(falls.std()) / len(falls) ** 0.5

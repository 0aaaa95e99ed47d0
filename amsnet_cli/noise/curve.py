"""Interpolate a curve sampled at evenly spaced points, such as noise level by brightness."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate(samples: Tensor, position: Tensor) -> Tensor:
    """Interpolate a sampled curve linearly.

    Args:
        samples: (N,) float; NaN where the curve is unknown. At least one sample must be known.
        position: any shape, in units of samples: 0 is the first, N - 1 the last.

    Returns:
        The curve at each position, in the shape of `position`. NaNs are interpolated from the known
        samples around them; beyond the first and the last known sample the curve is constant.
    """
    known = torch.nonzero(samples.isfinite()).flatten()
    if len(known) == 1:
        return samples[known].expand_as(position)
    last = len(samples) - 1
    # The nearest known samples below and above each interval between two samples, (N - 1,).
    after = torch.searchsorted(known, torch.arange(last), right=True).clamp(1, len(known) - 1)
    low, high = known[after - 1], known[after]
    interval = position.clamp(0, last).long().clamp_max(last - 1)
    share = (position - low.float()[interval]) / (high - low).float()[interval]
    return torch.lerp(samples[low][interval], samples[high][interval], share.clamp(0, 1))

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
    samples = _filled(samples)
    last = len(samples) - 1
    if not last:
        return samples.expand_as(position)
    place = position.clamp(0, last)
    interval = place.int().clamp_max_(last - 1)
    share = place - interval
    start, step = (  # `index_select` is several times as fast as indexing
        of.index_select(0, interval.flatten()).view_as(position)
        for of in (samples[:-1], samples.diff())
    )
    return torch.addcmul(start, step, share)


def _filled(samples: Tensor) -> Tensor:
    """Replace NaN in (N,) by what lies between the known samples around, or by the nearest one."""
    known = torch.nonzero(samples.isfinite()).flatten()
    if len(known) == len(samples):
        return samples
    if len(known) == 1:
        return samples[known].expand_as(samples)
    places = torch.arange(len(samples), device=samples.device)
    after = torch.searchsorted(known, places, right=True).clamp(1, len(known) - 1)
    low, high = known[after - 1], known[after]
    share = ((places - low) / (high - low)).clamp(0, 1)
    return torch.lerp(samples[low], samples[high], share.to(samples.dtype))

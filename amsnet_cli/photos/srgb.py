"""The sRGB transfer curve (IEC 61966-2-1), for arrays of numpy and tensors of torch alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

GAMMA, OFFSET, SLOPE = 2.4, 0.055, 12.92
ENCODED_THRESHOLD, LINEAR_THRESHOLD = 0.04045, 0.0031308
"""Below, the curve is a straight line through 0."""

Where = Callable[[Any, Any, Any], Any]
"""`numpy.where` or `torch.where`."""


def encode_srgb(linear: Any, where: Where) -> Any:
    """Encode linear light.

    Args:
        linear: floats of any shape, 0 or more; 0 and 1 stay as they are.
        where: of the array's library.
    """
    power = (1 + OFFSET) * linear ** (1 / GAMMA) - OFFSET
    return where(linear <= LINEAR_THRESHOLD, SLOPE * linear, power)


def decode_srgb(encoded: Any, where: Where) -> Any:
    """Undo `encode_srgb`."""
    power = ((encoded + OFFSET) / (1 + OFFSET)) ** GAMMA
    return where(encoded <= ENCODED_THRESHOLD, encoded / SLOPE, power)

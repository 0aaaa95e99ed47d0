"""Convert stored values to [0, 1], as networks take them, and back; only here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from amsnet_cli.photos import colour
from amsnet_cli.photos.photo import Photo, Pixels


@dataclass(frozen=True, kw_only=True)
class PixelCodec:
    """How stored values become [0, 1], and [0, 1] becomes stored values.

    Attributes:
        dtype: of the stored values: uint8, uint16 or float32.
        linear: whether they are linear light, which is encoded by the sRGB curve for the network.
        low: value, after that, that becomes 0; below 0 only in float pictures that go below.
        high: value that becomes 1; above 1 only in float pictures that go beyond.
    """

    dtype: DTypeLike
    linear: bool = False
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, photo: Photo) -> PixelCodec:
        """Return the codec of a photo; the range of float pixels is measured."""
        dtype, linear = photo.pixels.dtype, colour.is_linear(photo.icc)
        if dtype != np.float32:
            return cls(dtype=dtype, linear=linear)
        ends = np.array([photo.pixels.min(), photo.pixels.max()])
        if linear:
            ends = colour.encode(ends)
        low, high = min(0.0, float(ends[0])), max(1.0, float(ends[1]))
        return cls(dtype=dtype, linear=linear, low=low, high=high)

    def decode(self, stored: Pixels) -> NDArray[np.float32]:
        """Map stored values of any shape to float32 in [0, 1]."""
        unit = stored.astype(np.float32)
        if stored.dtype != np.float32:
            unit /= np.iinfo(stored.dtype).max
        if self.linear:
            unit = colour.encode(unit)
        unit -= self.low
        unit /= self.high - self.low
        return unit

    def encode(self, unit: NDArray[np.float32]) -> Pixels:
        """Map float32 in [0, 1] to stored values, rounded and clipped if those are integers.

        Args:
            unit: any shape; overwritten.
        """
        unit *= self.high - self.low
        unit += self.low
        if self.linear:
            unit = colour.decode(unit)
        if self.dtype != np.float32:
            largest = np.iinfo(self.dtype).max
            unit *= largest
            np.rint(unit, out=unit)
            np.clip(unit, 0, largest, out=unit)
        return unit.astype(self.dtype, copy=False)


def with_depth(photo: Photo, depth: int) -> Photo:
    """Convert to 8, 16 or 32 bits a channel; integers are rounded, and clipped to [0, 1].

    Args:
        photo: any depth.
        depth: 8 and 16 are integers, 32 is float32 with 1 for the largest integer.
    """
    if depth == 8 * photo.pixels.dtype.itemsize:
        return replace(photo, bits=None)

    def convert(pixels: Pixels) -> Pixels:
        scaled = pixels.astype(np.float32)
        if pixels.dtype != np.float32:
            scaled /= np.iinfo(pixels.dtype).max
        if depth == 32:
            return scaled
        dtype: type[np.unsignedinteger[Any]] = np.uint8 if depth == 8 else np.uint16
        np.clip(scaled, 0, 1, out=scaled)
        scaled *= np.iinfo(dtype).max
        return np.rint(scaled, out=scaled).astype(dtype)

    alpha = None if photo.alpha is None else convert(photo.alpha)
    return replace(photo, pixels=convert(photo.pixels), alpha=alpha, bits=None)

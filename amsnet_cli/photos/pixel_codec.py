"""Convert stored values to [0, 1], as networks take them, and back; only here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from amsnet_cli.photos import colour
from amsnet_cli.photos.photo import Photo, Pixels

_BEYOND = 0.25
"""How far outside of [0, 1] a network may see values."""
_NO_PICTURE = (-1, 100)
"""Below and above, in units of the range, there is no picture, not even a lamp or the sun."""


@dataclass(frozen=True, kw_only=True)
class RangeConfig:
    """Numbers of `PixelCodec.of`; `tests/test_pixel_codec.py` shows that they hold."""

    quantiles: tuple[float, float] = (0.01, 0.99)
    """Shares of the pixels below which, and up to which, values surely belong to the picture."""
    fence: float = 1.0
    """How far beyond these quantiles values still belong to it, in the distance between them."""
    fill_gap: float = 2.0
    """A value that fills many pixels is no light if it is this many ranges of the others away."""
    dark: float = 0.25
    """Float pictures without a profile whose brightest value is below have a scale of their own."""
    fewest_bits: int = 8
    most_bits: int = 14
    """16-bit pictures whose values need this many bits at most are taken to be full at so many."""
    sample: int = 1 << 20
    """Values of a float picture from which its range is estimated."""


@dataclass(frozen=True, kw_only=True)
class PixelCodec:
    """How stored values become [0, 1], and [0, 1] becomes stored values.

    Attributes:
        dtype: of the stored values: uint8, uint16 or float32.
        linear: whether they are linear light, which is encoded by the sRGB curve for the network.
        low: the stored value that becomes 0, with 1 for the largest integer.
        high: the stored value that becomes 1. What is outside of both, or is NaN, is none of the
            picture: the network sees something near it, and `restore` puts it back.
    """

    dtype: DTypeLike
    linear: bool = False
    low: float = 0.0
    high: float = 1.0

    @classmethod
    def of(cls, photo: Photo, config: RangeConfig = RangeConfig()) -> PixelCodec:
        """Return the codec of a photo.

        Its range is [0, 1], with these exceptions. 16-bit integers that use the lower bits alone
        have the range of those. Float pictures without a profile have the range of their values,
        if it is far smaller or larger, and any float picture goes as far beyond as its values do.
        The few that are far outside (the sun, hot pixels, "no data") do not count.

        Args:
            photo: any.
            config: numbers that decide.
        """
        pixels, linear = photo.pixels, colour.is_linear(photo.icc)
        if pixels.dtype == np.float32:
            low, high = _float_range(pixels, config)
            if _is_display(photo) or low <= high / 2 or high <= low:
                low = min(0.0, low)
            if _is_display(photo) or config.dark < high < 1 or high <= low:
                high = max(1.0, high)
            return cls(dtype=pixels.dtype, linear=linear, low=low, high=high)
        bits = max(config.fewest_bits, int(pixels.max(initial=0)).bit_length())
        wide = pixels.dtype == np.uint8 or bits > config.most_bits
        high = 1.0 if wide else (2**bits - 1) / 65535
        return cls(dtype=pixels.dtype, linear=linear, high=high)

    def decode(self, stored: Pixels) -> NDArray[np.float32]:
        """Map stored values (H, W, C) to float32 in [0, 1], and at most `_BEYOND` outside.

        Far outside and at NaN there is no picture; that beside it is mirrored into there.
        """
        unit = stored.astype(np.float32)
        if stored.dtype != np.float32:
            unit /= np.iinfo(stored.dtype).max
        low, high = self._ends
        with np.errstate(over="ignore"):  # of values that are no picture
            if self.linear:
                unit = colour.encode(unit)
            unit -= low
            unit /= high - low
        if stored.dtype != np.float32:
            return unit
        holes = ~((unit >= _NO_PICTURE[0]) & (unit <= _NO_PICTURE[1]))  # NaN as well
        np.clip(unit, -_BEYOND, 1 + _BEYOND, out=unit)
        if holes.any():
            np.copyto(unit, _filled(unit, np.logical_or.reduce(holes, axis=2)), where=holes)
        return unit

    def encode(self, unit: NDArray[np.float32]) -> Pixels:
        """Map float32 in [0, 1] to stored values, rounded and clipped if those are integers.

        Args:
            unit: any shape; overwritten.
        """
        low, high = self._ends
        unit *= high - low
        unit += low
        if self.linear:
            unit = colour.decode(unit)
        if self.dtype != np.float32:
            largest = np.iinfo(self.dtype).max
            unit *= largest
            np.rint(unit, out=unit)
            np.clip(unit, 0, largest, out=unit)
        return unit.astype(self.dtype, copy=False)

    def restore(self, result: Pixels, stored: Pixels) -> Pixels:
        """Put stored values that are outside of the range, or NaN, into a result of `encode`.

        Args:
            result: overwritten there.
            stored: the values it was made from, of the same shape.
        """
        if self.dtype == np.float32:
            outside = ~((stored >= self.low) & (stored <= self.high))
            np.copyto(result, stored, where=outside)
        return result

    @property
    def _ends(self) -> tuple[float, float]:
        """`low` and `high` on the curve that the network sees."""
        if not self.linear:
            return self.low, self.high
        low, high = colour.encode(np.array([self.low, self.high]))
        return float(low), float(high)


def _is_display(photo: Photo) -> bool:
    """Return whether 1 is white: the photo has a profile, or is a developed RAW file."""
    return photo.icc is not None or photo.bits is not None


def _float_range(pixels: Pixels, config: RangeConfig) -> tuple[float, float]:
    """Return the least and the greatest value that belongs to the picture; 0, 0 for none."""
    flat = pixels.reshape(-1)
    sample = flat[:: max(1, flat.size // config.sample)]
    sample = np.sort(sample[np.isfinite(sample)]).astype(np.float64)
    while sample.size:
        first, last = np.quantile(sample, config.quantiles, method="nearest")
        others = sample[(sample != first) & (sample != last)]
        if others.size == 0:
            break
        reach = config.fill_gap * (others[-1] - others[0])
        if others[0] - first > reach > 0:
            sample = sample[sample != first]
        elif last - others[-1] > reach > 0:
            sample = sample[sample != last]
        else:
            break
    if not sample.size:
        return 0.0, 0.0
    fence = config.fence * (last - first)
    inside = (flat >= np.float32(first - fence)) & (flat <= np.float32(last + fence))
    low = flat.min(where=inside, initial=np.inf)
    return float(low), float(flat.max(where=inside, initial=-np.inf))


def _filled(unit: NDArray[Any], holes: NDArray[Any]) -> NDArray[Any]:
    """Fill holes with the picture beside them, mirrored at their edges, so that its noise goes on.

    Args:
        unit: (H, W, C).
        holes: (H, W).
    """
    known = ~holes
    in_row = np.logical_or.reduce(known, axis=1)
    if not in_row.any():
        return np.zeros_like(unit)
    filled = unit.copy()
    for y in np.flatnonzero(in_row & ~known.all(1)):
        filled[y] = unit[y][_mirrored(known[y])]
    return filled if in_row.all() else filled[_mirrored(in_row)]


def _mirrored(known: NDArray[Any]) -> NDArray[np.intp]:
    """Return for each place that of a known value: its own, else mirrored at the nearest edge."""
    places = np.arange(known.size)
    known_places = places[known]
    after = np.searchsorted(known_places, places).clip(max=known_places.size - 1)
    right = known_places[after]
    left = known_places[(after - 1).clip(min=0)]
    nearest = np.where(np.abs(left - places) < np.abs(right - places), left, right)
    mirrored = (2 * nearest - places).clip(0, known.size - 1)
    repeated = known_places[places % known_places.size]
    return np.where(known, places, np.where(known[mirrored], mirrored, repeated))


def with_depth(photo: Photo, depth: int) -> Photo:
    """Convert to 8, 16 or 32 bits a channel; integers are rounded and clipped to [0, 1], NaN is 0.

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
        np.clip(np.nan_to_num(scaled, copy=False, nan=0), 0, 1, out=scaled)
        scaled *= np.iinfo(dtype).max
        return np.rint(scaled, out=scaled).astype(dtype)

    alpha = None if photo.alpha is None else convert(photo.alpha)
    return replace(photo, pixels=convert(photo.pixels), alpha=alpha, bits=None)

"""Primaries and curve of an ICC profile, for formats that hold these instead of a profile."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.photos import colour
from amsnet_cli.photos.colour import BT709, P3_D65, REC2020, SRGB_CURVE, Chromaticities

_D50 = np.array([0.9642, 1.0, 0.8249])
_KNOWN = (BT709, P3_D65, REC2020)
_SAME = 0.0015
"""Chromaticities nearer than this are the known ones, whose profiles were rounded."""
_SAME_CURVE = 0.002


@dataclass(frozen=True, kw_only=True)
class ColourModel:
    """What a matrix profile says.

    Attributes:
        chromaticities: of white and primaries; None for grey.
        curve: parameters of ICC.1's parametric curve, of type 0 (one) or 3 (five).
    """

    chromaticities: Chromaticities | None
    curve: tuple[float, ...]

    def profile(self) -> bytes:
        """Make a profile of it."""
        if self.chromaticities is None:
            return colour.grey_profile("Grey", self.curve)
        return colour.matrix_profile("RGB", self.chromaticities, self.curve)

    def to_linear(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Undo the curve, which is mirrored below zero."""
        positive = _bent(np.abs(values.astype(np.float64)), self.curve)
        linear: NDArray[np.float32] = np.copysign(positive, values).astype(np.float32)
        return linear


def colour_model_of(profile: bytes) -> ColourModel | None:
    """Read a profile of one curve for all channels; None where it is another (tables, ...)."""
    try:
        tags = _tags(profile)
        keys = [b"kTRC"] if b"kTRC" in tags else [b"rTRC", b"gTRC", b"bTRC"]
        curves = [_curve(tags[key]) for key in keys]
        if any(key[:3] in (b"A2B", b"D2B") for key in tags):
            return None
        if curves[0] is None or any(curve != curves[0] for curve in curves):
            return None
        if len(keys) == 1:
            return ColourModel(chromaticities=None, curve=curves[0])
        columns = np.stack([_numbers(tags[key], 3) for key in (b"rXYZ", b"gXYZ", b"bXYZ")], 1)
        if b"chad" in tags:
            from_d50 = np.linalg.inv(_numbers(tags[b"chad"], 9).reshape(3, 3))
        else:
            from_d50 = np.linalg.inv(colour.adaptation_to_d50(_numbers(tags[b"wtpt"], 3)))
        xyz = from_d50 @ np.column_stack([_D50, columns])
        xy = (xyz[:2] / xyz.sum(0)).T.ravel()
    except (KeyError, struct.error, ValueError, np.linalg.LinAlgError):
        return None
    near = next((known for known in _KNOWN if np.abs(xy - known).max() < _SAME), None)
    return ColourModel(chromaticities=near or tuple(xy.tolist()), curve=curves[0])


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(min(count, 99))]
    return {key: profile[at : at + size] for key, at, size in entries}


def _numbers(tag: bytes, count: int) -> NDArray[np.float64]:
    return np.frombuffer(tag, ">i4", count, 8) / 65536


def _curve(tag: bytes) -> tuple[float, ...] | None:
    """Read a tone curve; tables only where they are sRGB's or a straight line."""
    if tag[:4] == b"para":
        (kind,) = struct.unpack_from(">H", tag, 8)
        count = {0: 1, 3: 5}.get(kind)
        if count is None:
            return None
        found = tuple(_numbers(tag[4:], count).tolist())
        return SRGB_CURVE if count == 5 and np.allclose(found, SRGB_CURVE, atol=1e-3) else found
    (count,) = struct.unpack_from(">I", tag, 8)
    if count < 2:
        return (1.0,) if count == 0 else (struct.unpack_from(">H", tag, 12)[0] / 256,)
    table = np.frombuffer(tag, ">u2", count, 12) / 65535
    places = np.linspace(0, 1, count)
    for known in (SRGB_CURVE, (1.0,)):
        if np.abs(_bent(places, known) - table).max() < _SAME_CURVE:
            return known
    return None


def _bent(values: NDArray[np.float64], curve: tuple[float, ...]) -> NDArray[np.float64]:
    if len(curve) == 1:
        return np.asarray(values ** curve[0])
    g, a, b, c, d = curve
    return np.where(values >= d, (a * values + b) ** g, c * values)

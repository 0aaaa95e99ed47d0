"""Colour profiles and transfer curves.

Profiles follow ICC.1:2022 (version 4): a matrix and three tone curves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.srgb import (
    ENCODED_THRESHOLD,
    GAMMA,
    OFFSET,
    SLOPE,
    Where,
    decode_srgb,
    encode_srgb,
)

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green, blue (the order of PNG's cHRM)."""

BT709: Chromaticities = (0.3127, 0.3290, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
P3_D65: Chromaticities = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
REC2020: Chromaticities = (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046)

SRGB_CURVE = (GAMMA, 1 / (1 + OFFSET), OFFSET / (1 + OFFSET), 1 / SLOPE, ENCODED_THRESHOLD)
"""g, a, b, c, d of ICC.1's parametric curve of type 3: (ax + b)^g from d on, cx below."""

# Rec. ITU-T H.273, tables 2 and 3: what PNG's cICP and AVIF's nclx say.
_PRIMARIES = {1: BT709, 2: BT709, 9: REC2020, 12: P3_D65}
_CURVES: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 2, 6, 13, 14, 15), SRGB_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
}
_D50 = np.array([0.9642, 1.0, 0.8249])
_LARGEST_FIXED = 32768
"""Of what an s15Fixed16Number can hold."""
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def srgb_profile() -> bytes:
    """Make an ICC profile for sRGB, the same bytes whenever it is made."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Bytes 24 to 35 of the header are the time of making (ICC.1, 7.2): six 16-bit numbers.
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]


def linear_rec2020_profile() -> bytes:
    """Make an ICC profile for the primaries of Rec. ITU-R BT.2020 in linear light."""
    return matrix_profile("Linear Rec. 2020", REC2020, (1.0,))


class NoColoursError(ValueError):
    """Primaries that describe no colours: infinite, not a number, or in a line."""


def matrix_profile(name: str, colours: Chromaticities, curve: tuple[float, ...]) -> bytes:
    """Make an ICC profile of three primaries.

    Args:
        name: shown to people.
        colours: of white and the primaries.
        curve: parameters of ICC.1's parametric curve, of type 0 (one) or 3 (five), for all three.

    Returns:
        The profile, adapted to D50 by Bradford's transform.

    Raises:
        NoColoursError: there are no such colours.
    """
    to_xyz, adaptation = _to_d50(colours)

    tone = _tone(curve)
    return _profile(
        b"RGB ",
        name,
        {
            b"chad": b"sf32\0\0\0\0" + _fixed(*adaptation.ravel()),
            **{key: _xyz(to_xyz[:, i]) for i, key in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))},
            **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), tone),
        },
    )


def grey_profile(name: str, curve: tuple[float, ...]) -> bytes:
    """Make an ICC profile for grey.

    Args:
        name: shown to people.
        curve: as in `matrix_profile`.
    """
    return _profile(b"GRAY", name, {b"kTRC": _tone(curve)})


def profile_of_code_points(primaries: int, transfer: int, channels: int = 3) -> bytes | None:
    """Make the ICC profile that H.273's code points describe; None for sRGB.

    Args:
        primaries: of table 2.
        transfer: of table 3.
        channels: 1 for grey, 3 for RGB.

    Raises:
        ValueError: they describe no colours that such a profile can, as those of HDR.
    """
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise ValueError(f"colour code points {primaries}/{transfer}")
    colours, curve = _PRIMARIES[primaries], _CURVES[transfer]
    if (colours, curve) == (BT709, SRGB_CURVE):
        return None
    name = f"H.273 {primaries}/{transfer}"
    if channels == 1:
        return None if curve == SRGB_CURVE else grey_profile(name, curve)
    return matrix_profile(name, colours, curve)


def unsupported_colours(path: Path, error: Exception) -> PhotoError:
    """Make the error for a photo whose colours no profile of ours describes."""
    return PhotoError(
        f"{path}: HDR or other colours that are not supported ({error})", "export it as SDR first"
    )


def suits(profile: bytes, channels: int) -> bool:
    """Return whether a profile is whole and for grey (1 channel), RGB (3) or CMYK (4)."""
    space = {1: b"GRAY", 3: b"RGB ", 4: b"CMYK"}[channels]
    if len(profile) < 132 or profile[36:40] != b"acsp" or profile[16:20] != space:
        return False
    (size,) = struct.unpack_from(">I", profile)
    return bool(len(profile) >= size)


def is_linear(profile: bytes | None) -> bool:
    """Return whether all tone curves of a profile are straight lines: pixels hold linear light."""
    if profile is None:
        return False
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        entries = [
            struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(min(count, 99))
        ]
        curves = [profile[at : at + size] for key, at, size in entries if key.endswith(b"TRC")]
        return bool(curves) and all(_is_straight(curve) for curve in curves)
    except struct.error:
        return False


def encode(linear: NDArray[Any]) -> NDArray[np.float32]:
    """Bend linear light by sRGB's curve (IEC 61966-2-1), mirrored below zero.

    Args:
        linear: any shape and range; 0 and 1 stay where they are.
    """
    return _bent(linear, encode_srgb)


def decode(encoded: NDArray[Any]) -> NDArray[np.float32]:
    """Undo `encode`."""
    return _bent(encoded, decode_srgb)


def _bent(values: NDArray[Any], bend: Callable[[Any, Where], Any]) -> NDArray[np.float32]:
    """Apply a curve for positive values to all, bit by bit to need little memory."""
    result = np.array(values, np.float32)
    flat = result.reshape(-1)
    for start in range(0, flat.size, 1 << 20):
        part = flat[start : start + (1 << 20)]
        part[:] = np.copysign(bend(np.abs(part), np.where), part)
    return result


def adaptation_to_d50(white: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute Bradford's matrix from XYZ under a white (3,) to XYZ under D50, (3, 3)."""
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return np.asarray(np.linalg.inv(_BRADFORD) @ (cones[:, None] * _BRADFORD))


def _is_straight(curve: bytes) -> bool:
    if curve[:4] == b"para":
        kind, _, gamma = struct.unpack_from(">HHi", curve, 8)
        return bool(kind == 0 and gamma == 0x10000)
    (count,) = struct.unpack_from(">I", curve, 8)
    if count == 0:
        return True
    if count == 1:
        return struct.unpack_from(">H", curve, 12) == (0x100,)
    values = np.frombuffer(curve[12 : 12 + 2 * count], ">u2").astype(np.float64)
    if len(values) != count:
        return False
    return bool(np.abs(values - np.linspace(0, 65535, count)).max() < 2)


def _to_d50(colours: Chromaticities) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the matrix from RGB to XYZ under D50, and the adaptation in it, both (3, 3)."""
    x, y = np.array(colours[::2]), np.array(colours[1::2])
    with np.errstate(all="ignore"):
        white, *_ = whole = np.stack([x / y, np.ones(4), (1 - x - y) / y], 1)  # (4, 3), Y = 1
        primaries = whole[1:].T
        try:
            primaries = primaries * np.linalg.solve(primaries, white)
        except np.linalg.LinAlgError as error:
            raise NoColoursError("primaries in a line") from error
        adaptation = adaptation_to_d50(white)
        to_xyz = adaptation @ primaries
    if not (np.abs(np.stack([to_xyz, adaptation])) < _LARGEST_FIXED).all():
        raise NoColoursError("primaries of no colours")
    return to_xyz, adaptation


def _profile(space: bytes, name: str, tags: dict[bytes, bytes]) -> bytes:
    """Lay out a display profile: header, tag table and tags (ICC.1, 7)."""
    tags = {
        b"desc": _text(name),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_D50),
        **tags,
    }
    start = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for key, content in tags.items():
        table += struct.pack(">4sII", key, start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    header = struct.pack(
        ">I4xI4s4s4s6H4s4xI16xI", start + len(body), 0x04400000, b"mntr", space, b"XYZ ",
        2000, 1, 1, 0, 0, 0, b"acsp", 0, 0,
    )  # fmt: skip
    return (header + _fixed(*_D50)).ljust(128, b"\0") + table + body


def _tone(curve: tuple[float, ...]) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", {1: 0, 5: 3}[len(curve)], 0) + _fixed(*curve)


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*values)


def _text(content: str) -> bytes:
    words = content.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(words), 28) + words


def _fixed(*values: float) -> bytes:
    """Write numbers as ICC.1's s15Fixed16Number."""
    return struct.pack(f">{len(values)}i", *(round(float(v) * 65536) for v in values))

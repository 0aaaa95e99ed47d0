"""DNG files made for tests: any colour filter array, levels, borders and tags (DNG 1.4)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from amsnet_cli.photos import ifd

BLACK, WHITE = 512, 15000
NEUTRAL = (0.5, 1.0, 0.625)
"""What a grey surface gives in red, green and blue."""
RGGB = np.array([[0, 1], [1, 2]])
XTRANS = np.array(
    [
        [1, 1, 0, 1, 1, 2], [1, 1, 2, 1, 1, 0], [2, 0, 1, 0, 2, 1],
        [1, 1, 2, 1, 1, 0], [1, 1, 0, 1, 1, 2], [0, 2, 1, 2, 0, 1],
    ]
)  # fmt: skip
XYZ_TO_SRGB = np.array(
    [[3.2405, -1.5371, -0.4985], [-0.9693, 1.8760, 0.0416], [0.0556, -0.2040, 1.0572]]
)


def shorts(*values: int) -> ifd.Entry:
    return ifd.Entry(type=3, count=len(values), value=struct.pack(f"<{len(values)}H", *values))


def longs(*values: int) -> ifd.Entry:
    return ifd.Entry(type=4, count=len(values), value=struct.pack(f"<{len(values)}I", *values))


def rationals(values: Sequence[float] | np.ndarray, *, signed: bool = False) -> ifd.Entry:
    pairs = [n for v in np.ravel(values) for n in (round(float(v) * 10000), 10000)]
    packed = struct.pack(f"<{len(pairs)}{'i' if signed else 'I'}", *pairs)
    return ifd.Entry(type=10 if signed else 5, count=len(pairs) // 2, value=packed)


def text(value: str) -> ifd.Entry:
    return ifd.Entry(type=2, count=len(value) + 1, value=value.encode() + b"\0")


def octets(*values: int) -> ifd.Entry:
    return ifd.Entry(type=1, count=len(values), value=bytes(values))


def doubles(*values: float) -> ifd.Entry:
    return ifd.Entry(type=12, count=len(values), value=struct.pack(f"<{len(values)}d", *values))


def dng(
    frame: np.ndarray,
    *,
    pattern: np.ndarray | None = RGGB,
    neutral: Sequence[float] | None = NEUTRAL,
    tags: ifd.Directory | None = None,
) -> bytes:
    """Make a DNG file of a whole frame, whose camera sees as sRGB does but for white balance.

    Args:
        frame: (H, W).
        pattern: colours from the corner of the active area on; None for a monochrome sensor.
        neutral: AsShotNeutral; None to leave it out.
        tags: further ones, or others in place of those made here.
    """
    height, width = frame.shape
    pixels = frame.astype("<u2").tobytes()
    exposure: ifd.Directory = {33434: rationals([0.01]), 34855: shorts(6400)}
    tree: ifd.Directory = {
        254: longs(0), 256: longs(width), 257: longs(height), 258: shorts(16), 259: shorts(1),
        262: shorts(34892), 271: text("Test"), 272: text("Test One"), 273: longs(8),
        274: shorts(1), 277: shorts(1), 278: longs(height), 279: longs(len(pixels)),
        284: shorts(1), 50706: octets(1, 4, 0, 0), 50708: text("Test One"),
        50713: shorts(1, 1), 50714: shorts(BLACK), 50717: longs(WHITE), 50778: shorts(21),
        ifd.EXIF_IFD: exposure,
    }  # fmt: skip
    if pattern is not None:
        to_camera = np.array(NEUTRAL)[:, None] * XYZ_TO_SRGB
        tree |= {
            262: shorts(32803), 33421: shorts(*pattern.shape), 33422: octets(*pattern.ravel()),
            50721: rationals(to_camera, signed=True),
        }  # fmt: skip
        if neutral is not None:
            tree[50728] = rationals(neutral)
    return ifd.append_tree(b"II*\0\0\0\0\0" + pixels, tree | (tags or {}))


def exposed(
    light: np.ndarray,
    pattern: np.ndarray | None = RGGB,
    *,
    noise: float = 0.0,
    black: np.ndarray | int = BLACK,
    sensor_white: int = WHITE,
) -> np.ndarray:
    """Expose (H, W) grey light in [0, 1].

    Args:
        light: any value.
        pattern: as for `dng`.
        noise: standard deviation, in steps of the sensor.
        black: level, or levels repeated.
        sensor_white: where the sensor clips.
    """
    gains = np.array(NEUTRAL)[pattern] if pattern is not None else np.ones((1, 1))
    repeats = [-(-a // b) for a, b in zip(light.shape, gains.shape, strict=True)]
    gain = np.tile(gains, repeats)[: light.shape[0], : light.shape[1]]
    levels = np.atleast_2d(black)
    repeats = [-(-a // b) for a, b in zip(light.shape, levels.shape, strict=True)]
    level = np.tile(levels, repeats)[: light.shape[0], : light.shape[1]]
    values = level + light * gain * (WHITE - BLACK)
    values = values + np.random.default_rng(0).normal(0, noise, light.shape)
    return values.round().clip(0, sensor_white).astype(np.uint16)


def place_of_first_directory(content: bytes) -> int:
    return int.from_bytes(content[4:8], "little")


def adobe_dng(frame: np.ndarray, *, pattern: np.ndarray = RGGB, raw_last: bool = True) -> bytes:
    """Make a DNG file laid out as Adobe's: a thumbnail, the mosaic in tiles, and a JPEG preview.

    Args:
        frame: (H, W).
        pattern: as for `dng`.
        raw_last: whether the mosaic is the last thing in the file.
    """
    import io

    from PIL import Image

    height, width = frame.shape
    side = 64
    padded = np.pad(frame, ((0, -height % side), (0, -width % side))).astype("<u2")
    tiles = [
        padded[y : y + side, x : x + side].tobytes()
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    jpeg = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 30, 30)).save(jpeg, "JPEG")
    preview, thumbnail = jpeg.getvalue(), bytes(24 * 16 * 3)
    content, places = b"II*\0\0\0\0\0", {}
    mosaic = b"".join(tiles)
    parts = [("thumbnail", thumbnail), ("preview", preview), ("mosaic", mosaic)]
    for name, data in parts if raw_last else parts[::-1]:
        content += b"\0" * (len(content) % 2)
        if name == "mosaic" and raw_last:
            break
        places[name] = len(content)
        content += data
    if raw_last:
        places["mosaic"] = 0  # filled in below
    maker_note = ifd.Entry(type=7, count=20, value=b"MAKER NOTE of camera")
    exposure: ifd.Directory = {33434: rationals([0.01]), 34855: shorts(800), 37500: maker_note}

    def trees(mosaic_at: int) -> list[ifd.Directory]:
        to_camera = np.array(NEUTRAL)[:, None] * XYZ_TO_SRGB
        raw: ifd.Directory = {
            254: longs(0), 256: longs(width), 257: longs(height), 258: shorts(16), 259: shorts(1),
            262: shorts(32803), 277: shorts(1), 284: shorts(1), 322: longs(side), 323: longs(side),
            324: longs(*[mosaic_at + i * len(tiles[0]) for i in range(len(tiles))]),
            325: longs(*[len(tile) for tile in tiles]),
            33421: shorts(*pattern.shape), 33422: octets(*pattern.ravel()), 50714: shorts(BLACK),
            50717: longs(WHITE), 51022: ifd.Entry(type=7, count=4, value=bytes(4)),
            51041: doubles(1e-4, 1e-6), 50972: octets(*range(16)),
        }  # fmt: skip
        small: ifd.Directory = {
            254: longs(1), 256: longs(60), 257: longs(40), 258: shorts(8, 8, 8), 259: shorts(7),
            262: shorts(6), 273: longs(places["preview"]), 277: shorts(3), 278: longs(40),
            279: longs(len(preview)), 284: shorts(1), 530: shorts(2, 2),
        }  # fmt: skip
        main: ifd.Directory = {
            254: longs(1), 256: longs(24), 257: longs(16), 258: shorts(8, 8, 8), 259: shorts(1),
            262: shorts(2), 271: text("Test"), 272: text("Test Two"),
            273: longs(places["thumbnail"]), 274: shorts(1), 277: shorts(3), 278: longs(16),
            279: longs(len(thumbnail)), 284: shorts(1), 306: text("2026:11:29 01:02:03"),
            700: octets(*b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"), 33432: text("somebody"),
            50706: octets(1, 4, 0, 0), 50708: text("Test Two"),
            50721: rationals(to_camera, signed=True), 50728: rationals(NEUTRAL),
            50740: octets(*b"Adobe\0 private data"), 50778: shorts(21),
            50781: octets(*range(16)), 50936: text("A profile"), ifd.EXIF_IFD: exposure,
        }  # fmt: skip
        return [raw, small, main]

    def laid_out(mosaic_at: int) -> bytes:
        raw, small, main = trees(mosaic_at)
        made = ifd.append_tree(content, raw)
        raw_at = place_of_first_directory(made)
        made = ifd.append_tree(made, small)
        small_at = place_of_first_directory(made)
        return ifd.append_tree(made, {**main, 330: longs(raw_at, small_at)})

    if not raw_last:
        return laid_out(places["mosaic"])
    end = len(laid_out(0))
    return laid_out(end + end % 2) + b"\0" * (end % 2) + mosaic

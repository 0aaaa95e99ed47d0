"""Read or develop one RAW file with LibRaw: the program that `raw.py` starts.

It is a process of its own because LibRaw only prints what is wrong with a damaged file, and because
a crash, a hang or a huge allocation must not end a batch. It reads the file from stdin and what to
do, in JSON, from its argument. It prints a line of JSON, then the pixels.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import numpy as np
import rawpy
from numpy.typing import NDArray

LARGEST_EXPANSION = 64
"""Pixels to a byte: real RAW files have fewer than ten."""

OUTLIERS = 10
"""Photosites of a colour, of the brightest, that may be defective."""
LEAST_SPIKE = 50
"""Photosites of a colour that are clipped, for the level at which they are to be believed."""
SPIKE = 8
"""Times as many photosites at the top of a colour's histogram as in each of the parts below."""
SPIKE_WIDTH = 1 / 256
"""Width of such a part, of the range from black to white: clipped photosites have some noise."""
LEAST_SATURATION = 0.5
"""Lowest level, of that range, at which a sensor is believed to clip."""
SAME_SATURATION = 0.05
"""Largest difference between colours, of that range: clipping hits all at about the same value."""

_HIGHLIGHTS = {
    "clip": rawpy.HighlightMode.Clip,
    "blend": rawpy.HighlightMode.Blend,
    "rebuild": rawpy.HighlightMode.ReconstructDefault,
}
_ORIENTATIONS = {0: 1, 1: 2, 3: 3, 2: 4, 4: 5, 6: 6, 7: 7, 5: 8}
"""EXIF's orientation for LibRaw's: 1 mirrors columns, 2 rows, and then 4 swaps them."""


class NotAMosaicError(Exception):
    """The file holds no mosaic, or one of other colours."""


def read_mosaic(
    raw: rawpy.RawPy, colours: list[list[int]] | None, *, measure_matrix: bool
) -> tuple[dict[str, Any], NDArray[Any]]:
    """Read the mosaic of a RAW file.

    Args:
        raw: the file.
        colours: see `colour_tile`.
        measure_matrix: find out the colour matrix, where LibRaw does not tell it.

    Returns:
        What LibRaw knows of it, see `Mosaic`; and the whole frame, (H, W) uint16.

    Raises:
        NotAMosaicError: it has none.
    """
    sizes, tile = raw.sizes, colour_tile(raw, colours)
    black = np.array(raw.black_level_per_channel, np.float64)[tile]
    balance = np.array(raw.camera_whitebalance, np.float64)[:3]
    matrix, pixels = np.array(raw.rgb_xyz_matrix)[:3], raw.raw_image
    facts = {
        "area": _area(raw),
        "crop": _camera_crop(raw),
        "colours": tile.tolist(),
        "black": black.tolist(),
        "white": raw.white_level,
        "saturation": saturation_of(raw, tile),
        "balance": balance.tolist() if _known(balance) else None,
        "matrix": matrix.tolist() if matrix.any() else None,
        "orientation": _ORIENTATIONS.get(sizes.flip, 1),
    }
    if measure_matrix and not matrix.any() and raw.num_colors == 3:
        pixels = pixels.copy()  # Developing may change it, and it does change the sizes.
        facts["from_srgb"] = _camera_from_srgb(raw, balance if _known(balance) else np.ones(3))
    return facts, pixels


def _camera_from_srgb(raw: rawpy.RawPy, balance: NDArray[np.float64]) -> list[list[float]] | None:
    """Return the matrix from linear sRGB to the camera's colours, (3, 3), by which LibRaw develops.

    For some old cameras it has one that it does not give away, but developing with it and without
    shows what it is. None where the picture has too few colours for that.

    Args:
        raw: the file.
        balance: factors of red, green and blue.
    """
    camera, srgb = (
        raw.postprocess(
            output_color=space, output_bps=16, gamma=(1, 1), no_auto_bright=True, half_size=True,
            use_camera_wb=True, adjust_maximum_thr=0,
        ).reshape(-1, 3).astype(np.float64)
        for space in (rawpy.ColorSpace.raw, rawpy.ColorSpace.sRGB)
    )  # fmt: skip
    inside = ((srgb > 0) & (srgb < 65535) & (camera < 65535)).all(1)
    to_srgb, _, rank, _ = np.linalg.lstsq(camera[inside], srgb[inside], rcond=1e-3)
    if rank < 3:
        return None
    matrix: list[list[float]] = (
        np.linalg.inv(to_srgb.T) * (balance.min() / balance)[:, None]
    ).tolist()
    return matrix


def develop(
    raw: rawpy.RawPy,
    white_balance: str,
    space: str,
    highlights: str,
    preview: bool = False,
    colours: list[list[int]] | None = None,
    balance: list[float] | None = None,
    crop: list[int] | None = None,
    values: NDArray[np.uint16] | None = None,
) -> tuple[dict[str, Any], NDArray[Any]]:
    """Develop a RAW file into linear light, upright.

    Args:
        raw: the file; its mosaic is changed.
        white_balance: "camera", or "auto": the camera's if the file has it, else estimated.
        space: name of one of LibRaw's colour spaces.
        highlights: "clip", "blend" or "rebuild".
        preview: at half the size, and not turned.
        colours: see `colour_tile`.
        balance: factors of red, green and blue, in place of what LibRaw knows.
        crop: top, bottom, left, right of what is shown of the whole frame; None for all of the
            active area.
        values: (H, W), in place of the active area of the mosaic. Black and white level stay
            those of the file.

    Returns:
        `scale` and `offset` that turn the pixels into light, with 0 for black and 1 for white, and
        `estimated`, whether the white balance was estimated. And the pixels, (H, W, 3), or
        (H, W, 1) of monochrome sensors, uint16.
    """
    factors = np.array(balance or raw.camera_whitebalance[:3], np.float64)
    grey = raw.num_colors == 1
    if grey:
        factors = np.ones(3)
    known = _known(factors)
    settings: dict[str, Any] = {"use_camera_wb": True}
    if balance:
        settings = {"user_wb": [*factors, factors[1]]}
    elif white_balance == "auto" and not known:
        settings = {"use_auto_wb": True}
    scale, offset = 1 / 65535, 0.0
    # Developing changes these.
    flip, size, area = raw.sizes.flip, (raw.sizes.height, raw.sizes.width), _area(raw)
    try:
        tile = colour_tile(raw, colours)
    except NotAMosaicError:
        pass
    else:
        white = saturation_of(raw, tile) - int(min(raw.black_level_per_channel[: 1 if grey else 4]))
        if values is not None:
            top, bottom, left, right = area
            raw.raw_image[top:bottom, left:right] = values
        pedestal = 0
        if known and highlights == "clip":
            pedestal = _add_pedestal(raw, tile, factors / factors.min(), white)
            scale, offset = (white + pedestal) / white / 65535, -pedestal / white
        settings["user_sat"] = white + pedestal
    pixels = raw.postprocess(
        output_color=rawpy.ColorSpace[space],
        highlight_mode=_HIGHLIGHTS[highlights],
        output_bps=16, gamma=(1, 1), no_auto_bright=True, adjust_maximum_thr=0, user_flip=0,
        half_size=preview,
        **settings,
    )  # fmt: skip
    step = 2 if preview else 1
    if crop and pixels.shape[:2] == (-(-size[0] // step), -(-size[1] // step)):
        y, _, x, _ = area
        top, left = max(crop[0] - y, 0) // step, max(crop[2] - x, 0) // step
        pixels = pixels[top : -(-(crop[1] - y) // step), left : -(-(crop[3] - x) // step)]
    facts = {"scale": scale, "offset": offset, "estimated": "use_auto_wb" in settings}
    return facts, pixels if preview else _upright(pixels, flip)


def colour_tile(raw: rawpy.RawPy, told: list[list[int]] | None = None) -> NDArray[np.uint8]:
    """Return the colours from the corner of the active area on, (P, Q): see `Mosaic.colours`.

    Args:
        raw: the file.
        told: colours from the corner of the whole frame on, where the file tells; LibRaw gets
            those of X-Trans wrong if the borders are wide.

    Raises:
        NotAMosaicError: the file holds no mosaic, or one of other colours than red, green, blue.
    """
    if raw.raw_type != rawpy.RawType.Flat:
        raise NotAMosaicError("it holds no mosaic, but colours of each pixel")
    if raw.num_colors == 1:
        return np.zeros((1, 1), np.uint8)
    tile = raw.raw_pattern if told is None else np.array(told)
    if tile is None or raw.color_desc != b"RGBG" or raw.num_colors != 3 or tile.max() > 3:
        raise NotAMosaicError(f"its colours are {raw.color_desc.decode(errors='replace')}")
    tile = tile.astype(np.uint8)
    if told is None and tile.shape != (6, 6):
        return tile
    # Those of X-Trans count from the corner of the whole frame, too.
    return np.roll(tile, (-raw.sizes.top_margin, -raw.sizes.left_margin), (0, 1))


def saturation_of(raw: rawpy.RawPy, tile: NDArray[np.uint8]) -> int:
    """Return the level at which the sensor clips.

    It is the stated white level, unless a colour has a spike of equal values below it: stated
    levels are sometimes too high, which turns highlights pink. Pictures without noise have such
    spikes where they are flat, but at another value in each colour.
    """
    black, stated = min(raw.black_level_per_channel), raw.white_level
    top, bottom, left, right = _area(raw)
    values = raw.raw_image[top:bottom, left:right]
    extent = stated - black
    width = max(1, round(extent * SPIKE_WIDTH))
    spikes = []
    for colour in np.unique(tile):
        histogram = np.zeros(65536, np.int64)
        for row, column in np.argwhere(tile == colour):
            part = values[row :: tile.shape[0], column :: tile.shape[1]]
            histogram += np.bincount(part.ravel(), minlength=65536)
        brightest = int(np.flatnonzero(histogram[::-1].cumsum()[::-1] >= OUTLIERS)[-1])
        parts = [
            histogram[max(0, end - width) : max(0, end)].sum()
            for end in range(brightest + 1, brightest + 1 - 5 * width, -width)
        ]
        if parts[0] >= max(LEAST_SPIKE, SPIKE * max(parts[1:])):
            lowest = max(0, brightest + 1 - width)
            spikes.append(lowest + int(histogram[lowest : brightest + 1].argmax()))
    if not spikes or max(spikes) - min(spikes) > SAME_SATURATION * extent:
        return stated
    level = min(spikes)
    return level if black + LEAST_SATURATION * extent < level < stated else stated


def _add_pedestal(
    raw: rawpy.RawPy, tile: NDArray[np.uint8], balance: NDArray[np.float64], white: int
) -> int:
    """Add a pedestal to a sensor's values, so that noise below black is not clipped.

    LibRaw has no negative values. Clipped at zero, the noise of dark areas has a mean above black,
    which no denoiser can undo.

    Args:
        raw: its mosaic is changed.
        tile: see `colour_tile`.
        balance: factors of red, green and blue, the least of them 1.
        white: white level above black.

    Returns:
        The pedestal after white balance, the same for all colours; 0 for none.
    """
    most = min(*raw.black_level_per_channel, white // 16)
    if most < 1:
        return 0
    pedestals = np.arange(max(1, most * 3 // 4), most + 1)
    factors = balance[[0, 1, 2, 1]]
    lifts = np.rint(pedestals[:, None] / factors)  # (N, 4), in steps of the sensor
    best = int(np.abs(lifts * factors - pedestals[:, None]).max(1).argmin())
    top, bottom, left, right = _area(raw)
    values = raw.raw_image[top:bottom, left:right]
    for (row, column), colour in np.ndenumerate(tile):
        part = values[row :: tile.shape[0], column :: tile.shape[1]]
        lift = np.uint16(lifts[best][colour])
        part[:] = np.minimum(part, 65535 - lift) + lift
    return int(pedestals[best])


def _area(raw: rawpy.RawPy) -> tuple[int, int, int, int]:
    s = raw.sizes
    return s.top_margin, s.top_margin + s.height, s.left_margin, s.left_margin + s.width


def _camera_crop(raw: rawpy.RawPy) -> tuple[int, int, int, int]:
    """Return what the camera shows of the active area."""
    s = raw.sizes
    top, left = s.crop_top_margin - s.top_margin, s.crop_left_margin - s.left_margin
    bottom, right = top + s.crop_height, left + s.crop_width
    inside = 0 <= top < bottom <= s.height and 0 <= left < right <= s.width
    return (top, bottom, left, right) if inside else (0, s.height, 0, s.width)


def _known(balance: NDArray[np.float64]) -> bool:
    return bool((balance > 0).all() and np.isfinite(balance).all())


def _upright(pixels: NDArray[Any], flip: int) -> NDArray[Any]:
    turned = pixels[:: -1 if flip & 2 else 1, :: -1 if flip & 1 else 1]
    return turned.swapaxes(0, 1) if flip & 4 else turned


def _limit_memory(content: bytes) -> None:
    try:
        # Not on Windows, where there is no such thing.
        import resource

        limit = (4 << 30) + 100 * len(content)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        pass


def _main() -> None:
    asked = json.loads(sys.argv[1])
    content, rest = sys.stdin.buffer.read(asked["length"]), sys.stdin.buffer.read()
    _limit_memory(content)
    try:
        with rawpy.imread(io.BytesIO(content)) as raw:
            sizes = raw.sizes
            if sizes.raw_width * sizes.raw_height > LARGEST_EXPANSION * len(content) + 1_000_000:
                raise MemoryError(f"{sizes.raw_width}x{sizes.raw_height} pixels")
            if "develop" in asked:
                shape = sizes.height, sizes.width
                values = np.frombuffer(rest, np.uint16).reshape(shape) if rest else None
                answer, pixels = develop(
                    raw, **asked["develop"], colours=asked.get("colours"), values=values
                )
            else:
                answer, pixels = read_mosaic(
                    raw, asked.get("colours"), measure_matrix=asked["measure_matrix"]
                )
            # LibRaw's memory goes with the file.
            _answer({**answer, "shape": pixels.shape}, pixels)
    except rawpy.LibRawError as error:
        reason = error.args[0] if error.args else "unknown reason"
        _answer({"error": reason.decode() if isinstance(reason, bytes) else str(reason)})
    except NotAMosaicError as error:
        _answer({"no_mosaic": str(error)})
    except MemoryError as error:
        _answer({"error": f"it asks for too much memory {error}".strip()})
    except (ValueError, IndexError, TypeError) as error:
        # rawpy's own code stumbles over impossible sizes.
        _answer({"error": f"impossible sizes: {error}"})


def _answer(facts: dict[str, Any], pixels: NDArray[Any] | None = None) -> None:
    sys.stdout.buffer.write(json.dumps(facts).encode() + b"\n")
    if pixels is not None:
        sys.stdout.buffer.write(np.ascontiguousarray(pixels).data)


if __name__ == "__main__":
    _main()

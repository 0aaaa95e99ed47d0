"""Develop one RAW file with LibRaw: the program that `raw.py` starts.

It is a process of its own because LibRaw only prints what is wrong with a damaged file, and because
a crash, a hang or a huge allocation must not end a batch. It reads the file from stdin and the
settings, in JSON, from its argument. It prints a line of JSON, then the pixels.
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

_HIGHLIGHTS = {
    "clip": rawpy.HighlightMode.Clip,
    "blend": rawpy.HighlightMode.Blend,
    "rebuild": rawpy.HighlightMode.ReconstructDefault,
}


def develop(
    content: bytes, white_balance: str, space: str, highlights: str
) -> tuple[dict[str, Any], NDArray[Any]]:
    """Develop a RAW file into linear light.

    Args:
        content: the file.
        white_balance: "camera", or "auto": the camera's if the file has it, else estimated.
        space: name of one of LibRaw's colour spaces.
        highlights: "clip", "blend" or "rebuild".

    Returns:
        `scale` and `offset` that turn the pixels into light, with 0 for black and 1 for white, and
        `estimated`, whether the white balance was estimated. And the pixels, (H, W, 3) uint16.
    """
    with rawpy.imread(io.BytesIO(content)) as raw:
        sizes = raw.sizes
        if sizes.raw_width * sizes.raw_height > LARGEST_EXPANSION * len(content) + 1_000_000:
            raise MemoryError(f"{sizes.raw_width}x{sizes.raw_height} pixels")
        balance = np.array(raw.camera_whitebalance)
        balance[3] = balance[3] or balance[1]
        known = bool((balance > 0).all() and np.isfinite(balance).all())
        settings: dict[str, Any] = {"use_camera_wb": True}
        if white_balance == "auto" and not known:
            settings = {"use_auto_wb": True}
        scale, offset = 1 / 65535, 0.0
        if known and highlights == "clip":
            white, pedestal = _add_pedestal(raw, balance / balance.min())
            if pedestal:
                settings |= {"user_sat": white + pedestal, "adjust_maximum_thr": 0}
                scale, offset = (white + pedestal) / white / 65535, -pedestal / white
        pixels = raw.postprocess(
            output_color=rawpy.ColorSpace[space],
            highlight_mode=_HIGHLIGHTS[highlights],
            output_bps=16, gamma=(1, 1), no_auto_bright=True,
            **settings,
        )  # fmt: skip
    return {"scale": scale, "offset": offset, "estimated": "use_auto_wb" in settings}, pixels


def _add_pedestal(raw: rawpy.RawPy, balance: NDArray[np.float64]) -> tuple[int, int]:
    """Add a pedestal to a sensor's values, so that noise below black is not clipped.

    LibRaw has no negative values. Clipped at zero, the noise of dark areas has a mean above black,
    which no denoiser can undo.

    Args:
        raw: its mosaic is changed.
        balance: (4,) factors of the white balance, the least of them 1.

    Returns:
        The white level above black; and the pedestal after white balance, the same for all
        colours, 0 for none.
    """
    blacks = np.array(raw.black_level_per_channel)
    if raw.raw_type != rawpy.RawType.Flat or raw.num_colors != 3 or blacks.min() <= 0:
        return 1, 0
    values = raw.raw_image_visible.astype(np.int64)
    brightest = int((values - blacks[raw.raw_colors_visible % 4]).max())
    white = raw.white_level - int(blacks.min())
    # As LibRaw does: stated white levels are often too high, which turns highlights pink.
    if 0.75 * white < brightest < white:
        white = brightest
    most = min(int(blacks.min()), white // 16)
    if most < 1:
        return 1, 0
    pedestals = np.arange(max(1, most * 3 // 4), most + 1)
    lifts = np.rint(pedestals[:, None] / balance)  # (N, 4), in steps of the sensor
    best = int(np.abs(lifts * balance - pedestals[:, None]).max(1).argmin())
    lift = lifts[best].astype(np.uint16)[raw.raw_colors % 4]
    raw.raw_image[:] = np.minimum(raw.raw_image, 65535 - lift) + lift
    return white, int(pedestals[best])


def _main() -> None:
    content = sys.stdin.buffer.read()
    try:
        # Not on Windows, where there is no such thing.
        import resource

        limit = (4 << 30) + 100 * len(content)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        pass
    pixels: NDArray[Any] | None = None
    try:
        answer, pixels = develop(content, **json.loads(sys.argv[1]))
        answer["shape"] = pixels.shape
    except rawpy.LibRawError as error:
        reason = error.args[0] if error.args else "unknown reason"
        answer = {"error": reason.decode() if isinstance(reason, bytes) else str(reason)}
    except MemoryError as error:
        answer = {"error": f"it asks for too much memory {error}".strip()}
    except (ValueError, IndexError, TypeError) as error:
        # rawpy's own code stumbles over impossible sizes.
        answer = {"error": f"impossible sizes: {error}"}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    if pixels is not None:
        sys.stdout.buffer.write(np.ascontiguousarray(pixels).data)


if __name__ == "__main__":
    _main()

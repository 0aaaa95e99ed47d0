"""Decode one OpenEXR file: the program that `exr.py` starts.

It is a process of its own because OpenEXR prints what is wrong with a file, and so that a crash or
a huge allocation does not end a batch. Its arguments are the file and the folder that it writes
header.json and pixels.npy into.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR

LARGEST_EXPANSION = 1000
"""Decoded bytes to a byte of the file, beyond `HARMLESS` bytes."""
HARMLESS = 200_000_000


class UnsupportedError(Exception):
    """A whole file that cannot be denoised faithfully."""


def decode(path: Path) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    """Decode the first part.

    Returns:
        What the header says, and the pixels: (H, W, C) float32 of Y or R, G, B, and A.

    Raises:
        UnsupportedError: a picture of another kind.
        ValueError, RuntimeError, ...: whatever OpenEXR raises on a damaged file.
    """
    with OpenEXR.File(str(path), header_only=True) as file:
        header, parts = dict(file.header()), len(file.parts)  # It is emptied at the end.
        channels = {channel.name: channel for channel in header["channels"]}
    if header["type"] not in (OpenEXR.scanlineimage, OpenEXR.tiledimage):
        raise UnsupportedError("deep pixels")
    (left, top), (right, bottom) = (corner.tolist() for corner in header["dataWindow"])
    size = (right - left + 1) * (bottom - top + 1) * 4 * len(channels)
    if size > max(HARMLESS, LARGEST_EXPANSION * path.stat().st_size):
        raise UnsupportedError(f"{right - left + 1}x{bottom - top + 1} pixels")
    if {"RY", "BY"} & channels.keys():
        raise UnsupportedError("luminance and chroma")
    colours = ["R", "G", "B"] if {"R", "G", "B"} <= channels.keys() else ["Y"]
    if not set(colours) <= channels.keys():
        raise UnsupportedError(f"no channels R, G, B or Y, but {', '.join(sorted(channels))}")
    wanted = [*colours, *(["A"] if "A" in channels else [])]
    with OpenEXR.File(str(path), separate_channels=True) as file:
        found = file.channels()
        planes = [np.array(found[name].pixels) for name in wanted]
    if any(plane.dtype not in (np.float16, np.float32) for plane in planes):
        raise UnsupportedError("integer pixels")
    if len({plane.shape for plane in planes}) > 1:
        raise UnsupportedError("channels of different sizes")
    windows = [np.array(header[name]).tolist() for name in ("dataWindow", "displayWindow")]
    return {
        "parts": parts,
        "left_out": sorted({*channels} - {*wanted}),
        "whole_window": windows[0] == windows[1],
        "aspect": header.get("pixelAspectRatio", 1.0),
        "density": header.get("xDensity"),
        "chromaticities": header.get("chromaticities"),
    }, np.stack(planes, 2).astype(np.float32)


def _main(path: Path, folder: Path) -> None:
    try:
        # Not on Windows, where there is no such thing.
        import resource

        limit = (4 << 30) + 100 * path.stat().st_size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, ValueError, OSError):
        pass
    try:
        header, pixels = decode(path)
        np.save(folder / "pixels.npy", pixels)
    except UnsupportedError as error:
        header = {"unsupported": str(error)}
    except (ValueError, RuntimeError, LookupError, TypeError, AttributeError, MemoryError) as error:
        header = {"error": " ".join(str(error).split()) or "damaged"}
    (folder / "header.json").write_text(json.dumps(header), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))

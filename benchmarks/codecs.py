"""Measure decoders and encoders of JPEG and PNG: processor seconds a megapixel, and sizes.

    python -m benchmarks.codecs PHOTO --megapixels 12

PHOTO is mirrored, or cropped, to the size. JPEGs have quality 95 and no subsampling of colour.
amsnet decodes both by libvips, encodes PNG by it, at level 6, and JPEG by Pillow, which takes the
quantisation of the original.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import pyvips
from numpy.typing import NDArray
from PIL import Image, features

from amsnet_cli.photos.read import read_photo
from benchmarks.quality import machine
from benchmarks.speed import resized

Pixels = NDArray[np.uint8]
SAMPLING = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444


def by_vips(pixels: Pixels, suffix: str, **options: Any) -> bytes:
    """Encode by libvips."""
    found: bytes = pyvips.Image.new_from_array(pixels).write_to_buffer(suffix, **options)
    return found


def by_pillow(pixels: Pixels, name: str, **options: Any) -> bytes:
    """Encode by Pillow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return file.getvalue()


def by_cv2(pixels: Pixels, suffix: str, *options: int) -> bytes:
    """Encode by OpenCV."""
    return cv2.imencode(suffix, pixels[..., ::-1], options)[1].tobytes()


ENCODERS: dict[str, dict[str, Callable[[Pixels], bytes]]] = {
    "JPEG": {
        "libvips": lambda x: by_vips(x, ".jpg", Q=95, subsample_mode="off"),
        "Pillow": lambda x: by_pillow(x, "JPEG", quality=95, subsampling=0),
        "OpenCV": lambda x: by_cv2(
            x, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, SAMPLING
        ),
    },
    "PNG": {
        "libvips": lambda x: by_vips(x, ".png"),
        "libvips, level 1": lambda x: by_vips(x, ".png", compression=1),
        "Pillow": lambda x: by_pillow(x, "PNG"),
        "Pillow, level 1": lambda x: by_pillow(x, "PNG", compress_level=1),
        "OpenCV": lambda x: by_cv2(x, ".png"),
    },
}
DECODERS: dict[str, Callable[[bytes], Pixels]] = {
    "libvips": lambda file: pyvips.Image.new_from_buffer(file, "", access="sequential").numpy(),
    "Pillow": lambda file: np.asarray(Image.open(io.BytesIO(file))),
    "OpenCV": lambda file: cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[..., ::-1],
}


def best(work: Callable[[], Any], runs: int) -> tuple[float, Any]:
    """Return the least processor seconds of several runs, and the result."""
    seconds = []
    for _ in range(runs):
        started = time.process_time()
        result = work()
        seconds.append(time.process_time() - started)
    return min(seconds), result


def main() -> None:
    """Print a row for each library."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", type=Path, help="what the picture is made of")
    parser.add_argument("--megapixels", type=float, default=12)
    parser.add_argument("--runs", type=int, default=3, help="of each; the best one counts")
    args = parser.parse_args()
    photo = read_photo(args.photo)
    pixels = resized(photo, args.megapixels).pixels
    size = pixels[..., 0].size / 1e6
    vips, turbo = f"{pyvips.version(0)}.{pyvips.version(1)}", features.version("libjpeg_turbo")
    print(f"{machine()}; libvips {vips}, Pillow {PIL.__version__} with libjpeg-turbo {turbo}.\n")
    print("| format | library | decode, s/megapixel | encode, s/megapixel | MB |")
    print("|---|---|---:|---:|---:|")
    for name, encoders in ENCODERS.items():
        file = b""
        for library, encode in encoders.items():
            encoding, content = best(partial(encode, pixels), args.runs)
            file = file or content
            decode, decoding = DECODERS[library.partition(",")[0]], math.nan
            if "," not in library:
                decoding, _ = best(partial(decode, file), args.runs)
            shown = "" if math.isnan(decoding) else f"{decoding / size:.4f}"
            cells = f"{shown} | {encoding / size:.4f} | {len(content) / 1e6:.1f}"
            print(f"| {name} | {library} | {cells} |", flush=True)


if __name__ == "__main__":
    main()

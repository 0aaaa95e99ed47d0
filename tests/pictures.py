"""Tiny pictures of every format and compression, made by other programs' encoders."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import with_depth
from amsnet_cli.photos.write import write_photo
from tests.test_raw import bayer_dng

COMPRESSIONS = (
    *("none", "packbits", "lzw", "deflate", "jpeg", "zstd", "lzma", "lerc"),
    *("jpeg2000", "jpegxl", "png", "webp"),
)
HEIGHT, WIDTH = 48, 64


def noisy_scene(dtype: type = np.uint8) -> np.ndarray:
    """Make smooth colours with a pattern and noise, (48, 64, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    pattern = 0.05 * np.sin(40 * x * y)[..., None]
    noise = np.random.default_rng(0).normal(0, 0.03, (HEIGHT, WIDTH, 3))
    unit = (np.stack([y, x, (x + y) / 2], 2) * 0.8 + 0.1 + pattern + noise).clip(0, 1)
    return (unit * np.iinfo(dtype).max).astype(dtype)


def save_one_of_each(folder: Path) -> None:
    """Save a picture of every format and compression that the installed extras allow."""
    pixels = noisy_scene()
    image = Image.fromarray(pixels)
    for name, options in {
        "baseline.jpg": {"quality": 90},
        "progressive.jpg": {"quality": 90, "progressive": True},
        "restarts.jpg": {"quality": 80, "subsampling": "4:4:4", "restart_marker_rows": 1},
        "colour.png": {},
        "lossy.webp": {"quality": 85},
        "lossless.webp": {"lossless": True},
        "lossy.avif": {"quality": 85},
        "windows.bmp": {},
        "netpbm.ppm": {},
    }.items():
        image.save(folder / name, **options)
    image.convert("L").save(folder / "grey.jpg", quality=90)
    image.quantize(64).save(folder / "palette.png")
    image.save(folder / "frames.gif")
    (folder / "sensor.dng").write_bytes(bayer_dng(noisy_scene(np.uint16)[..., 0] >> 2))
    for compression in ("none", "deflate"):
        name = None if compression == "none" else compression
        tifffile.imwrite(folder / f"{compression}_16.tif", noisy_scene(np.uint16), compression=name,
                         photometric="rgb", metadata=None)  # fmt: skip
    if importlib.util.find_spec("imagecodecs"):
        _save_with_imagecodecs(folder, pixels)
    if importlib.util.find_spec("OpenEXR"):
        write_photo(with_depth(Photo(pixels=pixels), 32), folder / "linear.exr")
    if importlib.util.find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.from_pillow(image).save(folder / "iphone.heic", quality=85)


def _save_with_imagecodecs(folder: Path, pixels: np.ndarray) -> None:
    import imagecodecs

    for compression in COMPRESSIONS:
        for layout, options in {
            "strips": {"rowsperstrip": 16},
            "tiles": {"tile": (32, 32)},
        }.items():
            name = None if compression == "none" else compression
            tifffile.imwrite(folder / f"{compression}_{layout}.tif", pixels, compression=name,
                             photometric="rgb", metadata=None, **options)  # fmt: skip
    light = pixels.astype(np.float32) / 255
    for name, content in {
        "lossless.jxl": imagecodecs.jpegxl_encode(pixels, lossless=True),
        "lossy.jxl": imagecodecs.jpegxl_encode(pixels, distance=1.0),
        "lossless.jp2": imagecodecs.jpeg2k_encode(pixels, codecformat="jp2", reversible=True),
        "lossy.jp2": imagecodecs.jpeg2k_encode(pixels, codecformat="jp2", level=40),
        "light.hdr": imagecodecs.rgbe_encode(light, header=True),
    }.items():
        (folder / name).write_bytes(content)

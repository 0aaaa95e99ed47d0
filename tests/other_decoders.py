"""Other decoders than ours, for comparison: libraries of their own, or other builds."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pylibjxl
import tifffile
from PIL import (
    AvifImagePlugin,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PsdImagePlugin,
    WebPImagePlugin,
)

from amsnet_cli.photos.photo import Photo
from tests.strict_jpeg import complaint_about

_PILLOW: dict[str, type[ImageFile.ImageFile]] = {
    ".jpg": JpegImagePlugin.JpegImageFile,
    ".png": PngImagePlugin.PngImageFile,
    ".webp": WebPImagePlugin.WebPImageFile,
    ".avif": AvifImagePlugin.AvifImageFile,
    ".jp2": Jpeg2KImagePlugin.Jpeg2KImageFile,
    ".psd": PsdImagePlugin.PsdImageFile,
}
_WITHOUT = (".heic", ".dng", ".exr")
"""Formats that no second library here decodes."""
TOLERANCE = {".jpg": 3, ".avif": 16, ".webp": 3, ".hdr": 0.02}
"""Of formats whose decoders may round in their own way, of the largest value 255 or 1."""
OVERLOOKED = ("", "too many coefficients", "malformed: no such code")
"""What libjpeg's fast path takes as it is."""


def verdict(path: Path, photo: Photo) -> str:
    """Return how another decoder sees a file that was read.

    Returns:
        "agrees", "differs", "refuses", or "none" where there is no other decoder or it sees
        another kind of picture: a palette, transparency, other bits.
    """
    suffix = path.suffix
    if suffix in _WITHOUT:
        return "none"
    if suffix == ".jpg" and not may_be_whole(path.read_bytes(), photo):
        return "refuses"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = _decode(path)
    except Exception:  # noqa: BLE001  any failure is a refusal
        return "refuses"
    if other is None:
        return "none"
    if not other.size:
        return "refuses"
    ours = photo.samples
    other = other.reshape(*other.shape[:2], -1)
    if other.dtype != ours.dtype or other.shape[2] != ours.shape[2]:
        return "none"
    if other.shape != ours.shape:
        return "differs"
    tolerance = TOLERANCE.get(suffix, 2 if path.stem.startswith("jpeg") else 0)
    with np.errstate(all="ignore"):
        gap = np.abs(ours.astype(np.float64) - other)
        if suffix == ".hdr":
            gap = gap / (np.abs(other).max(2, keepdims=True) + 1e-30)
    return "agrees" if np.nan_to_num(gap).max(initial=0) <= tolerance else "differs"


def may_be_whole(content: bytes, photo: Photo) -> bool:
    """Return whether a JPEG file that was read may be whole, by its Huffman codes."""
    end = b"" if content.endswith(b"\xff\xd9") else b"\xff\xd9"  # a missing end mark is a note
    progressive = photo.jpeg is None or photo.jpeg.progressive
    return progressive or complaint_about(content + end) in OVERLOOKED


def _decode(path: Path) -> np.ndarray | None:
    suffix, content = path.suffix, path.read_bytes()
    if suffix in _PILLOW:
        with _PILLOW[suffix](io.BytesIO(content)) as image:
            image.load()
            return np.asarray(image) if image.mode in ("L", "RGB", "RGBA") else None
    if suffix == ".tif":
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            return page.asarray() if page.photometric in (1, 2, 6) else None
    if suffix == ".jxl":
        return pylibjxl.decode(content)
    if suffix == ".gif":
        return imagecodecs.gif_decode(content, index=0)
    found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None:
        raise ValueError("refused")
    return found[..., ::-1] if found.ndim == 3 else found

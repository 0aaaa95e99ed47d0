"""Compare two versions of a photo: noise levels, an overview and crops as JPEG files."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amsnet_cli.errors import PhotoError
from amsnet_cli.inference.noise_estimate import photo_noise_level
from amsnet_cli.photos.geometry import upright, window_starts
from amsnet_cli.photos.photo import Photo, Pixels

OVERVIEW_SIDE = 1280
"""Longest side of the overview, in pixels."""
CROP_SIDE = 288
"""Side of a crop, in pixels."""
_GRID = 12
"""Crops are chosen from a grid of at most so many rows and columns."""
_AMPLIFICATIONS = (32, 16, 8, 4, 2, 1)
_LARGEST_SHOWN = 0.4
"""The residual is amplified until its 99th percentile comes close to this, in [0, 1] units."""
_LIT = (0.05, 0.95)
"""Mean brightness of crops that may be shown as smooth ones: neither black nor white."""


@dataclass(frozen=True, kw_only=True)
class ComparedCrop:
    """A part of a photo at full size, as JPEG files.

    Attributes:
        left: column of its left edge in the upright picture, in pixels.
        top: row of its top edge.
        reason: why this part is shown.
        noisy: before.
        denoised: after.
        residual: noisy minus denoised, amplified, around mid-grey.
    """

    left: int
    top: int
    reason: str
    noisy: bytes
    denoised: bytes
    residual: bytes


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two versions of a photo, as a page shows them.

    Attributes:
        size: width and height of the upright picture, in pixels.
        noise: estimated noise level before and after, on a scale of 255; nan where there is none.
        noisy: overview before, as a JPEG file; empty if there are no pictures.
        denoised: overview after.
        amplification: factor of the residual in the crops.
        crops: the smoothest, the most detailed, and the one that changed most.
    """

    size: tuple[int, int]
    noise: tuple[float, float]
    noisy: bytes = b""
    denoised: bytes = b""
    amplification: int = 1
    crops: list[ComparedCrop] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidate:
    top: int
    left: int
    contrast: float
    change: float
    lit: bool


class _Parts:
    """Parts of two versions of a photo, as they are shown."""

    def __init__(self, first: Photo, second: Photo) -> None:
        photos = first, second
        self.pixels = [upright(p.pixels, p.orientation) for p in photos]
        self.ranges = [_value_range(p) for p in photos]
        # A grey profile would not fit the three channels shown.
        self.profiles = [p.icc if p.pixels.shape[2] == 3 else None for p in photos]

    def pair(self, top: int, left: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        area = np.s_[top : top + CROP_SIDE, left : left + CROP_SIDE]
        before, after = self.pixels
        return _rgb(before[area], *self.ranges[0]), _rgb(after[area], *self.ranges[1])

    def candidates(self) -> list[_Candidate]:
        height, width = self.pixels[0].shape[:2]
        found = []
        for top in window_starts(height, CROP_SIDE, _GRID):
            for left in window_starts(width, CROP_SIDE, _GRID):
                a, b = self.pair(top, left)
                lit = bool(_LIT[0] < b.mean() < _LIT[1])
                change = float(np.abs(a - b).mean())
                found.append(_Candidate(top, left, float(b.std()), change, lit))
        return found

    def cut(self, reasons: dict[tuple[int, int], str]) -> tuple[int, list[ComparedCrop]]:
        """Return the amplification of the residual, and the parts at top and left."""
        pairs = [self.pair(*place) for place in reasons]
        strongest = max(float(np.quantile(np.abs(a - b), 0.99)) for a, b in pairs)
        amplification = next((f for f in _AMPLIFICATIONS if f * strongest <= _LARGEST_SHOWN), 1)
        return amplification, [
            ComparedCrop(
                left=left, top=top, reason=reason,
                noisy=_jpeg(a, self.profiles[0], 92), denoised=_jpeg(b, self.profiles[1], 92),
                residual=_jpeg(0.5 + amplification * (a - b), None),
            )
            for ((top, left), reason), (a, b) in zip(reasons.items(), pairs, strict=True)
        ]  # fmt: skip


def compare(
    noisy: Photo,
    denoised: Photo,
    *,
    noise: tuple[float, float] | None = None,
    pictures: bool = True,
) -> Comparison:
    """Compare two versions of a photo.

    Args:
        noisy: before.
        denoised: after, of the same size when both are upright; in any depth.
        noise: noise levels before and after where they are known; None to estimate them.
        pictures: whether to make the overview and the crops.

    Raises:
        PhotoError: the two differ in size.
    """
    before, after = (upright(p.pixels, p.orientation) for p in (noisy, denoised))
    if before.shape[:2] != after.shape[:2]:
        raise PhotoError(
            f"{_size(before)} and {_size(after)} pixels", "compare two versions of one photo"
        )
    height, width = before.shape[:2]
    noise = noise or (photo_noise_level(noisy), photo_noise_level(denoised, scale=noisy))
    if not pictures:
        return Comparison(size=(width, height), noise=noise)
    parts = _Parts(noisy, denoised)
    amplification, crops = parts.cut(_choose_crops(parts.candidates()))
    return Comparison(
        size=(width, height),
        noise=noise,
        noisy=_jpeg(_overview(before, *parts.ranges[0]), parts.profiles[0]),
        denoised=_jpeg(_overview(after, *parts.ranges[1]), parts.profiles[1]),
        amplification=amplification,
        crops=crops,
    )


def most_different(first: Photo, second: Photo) -> tuple[int, ComparedCrop]:
    """Return the part in which two versions of a photo differ most.

    Args:
        first: shown as `ComparedCrop.noisy`.
        second: of the same size, shown as `ComparedCrop.denoised`.

    Returns:
        The factor by which their difference is amplified, and the part.
    """
    parts = _Parts(first, second)
    place = max(parts.candidates(), key=lambda c: c.change)
    amplification, [crop] = parts.cut({(place.top, place.left): "where they differ most"})
    return amplification, crop


def overview_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of the overview of a picture of this width and height."""
    scale = min(1.0, OVERVIEW_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _choose_crops(candidates: list[_Candidate]) -> dict[tuple[int, int], str]:
    """Choose up to three crops; returns the reason by top and left, in the order shown."""
    smooth = min(candidates, key=lambda c: (not c.lit, c.contrast))
    others = [c for c in candidates if c != smooth]
    detailed = max(others, key=lambda c: c.contrast, default=smooth)
    rest = [c for c in others if c != detailed]
    changed = max(rest, key=lambda c: c.change, default=smooth)
    chosen = (
        (smooth, "where it is smoothest"), (detailed, "where there is most detail"),
        (changed, "where most changes"),
    )  # fmt: skip
    reasons: dict[tuple[int, int], str] = {}
    for crop, reason in chosen:
        reasons.setdefault((crop.top, crop.left), reason)
    return reasons


def _value_range(photo: Photo) -> tuple[float, float]:
    """Return the stored values that are shown black and white."""
    if photo.pixels.dtype == np.float32:
        return min(0.0, float(photo.pixels.min())), max(1.0, float(photo.pixels.max()))
    return 0.0, float(np.iinfo(photo.pixels.dtype).max)


def _rgb(pixels: Pixels, low: float, high: float) -> NDArray[np.float32]:
    """Map stored values to (H, W, 3) in [0, 1]; the profile says what they mean."""
    unit = (pixels.astype(np.float32) - low) / (high - low)
    return np.broadcast_to(unit, (*unit.shape[:2], 3))


def _overview(pixels: Pixels, low: float, high: float) -> NDArray[np.float32]:
    """Reduce a picture, without a full-size float copy of it."""
    height, width = pixels.shape[:2]
    shown = overview_size((width, height))
    step = max(1, min(width // shown[0], height // shown[1]))
    rows, columns = height // step, width // step
    blocks = pixels[: rows * step, : columns * step]
    blocks = blocks.reshape(rows, step, columns, step, -1)
    small = _rgb(blocks.mean((1, 3), dtype=np.float32), low, high)
    resized = [
        np.asarray(Image.fromarray(plane).resize(shown, Image.Resampling.BICUBIC))
        for plane in np.moveaxis(small, 2, 0)
    ]
    return np.stack(resized, 2)


def _jpeg(unit: NDArray[np.float32], icc: bytes | None, quality: int = 85) -> bytes:
    pixels = np.rint(unit.clip(0, 1) * 255).astype(np.uint8)
    file = io.BytesIO()
    profile = {"icc_profile": icc} if icc else {}
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:4:4", **profile)
    return file.getvalue()


def _size(pixels: Pixels) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"

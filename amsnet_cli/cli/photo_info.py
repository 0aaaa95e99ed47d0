"""What `amsnet denoise` knows of a photo once it is denoised, and says of it with --verbose."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from amsnet_cli.cli.noise_text import by_tones
from amsnet_cli.inference.denoise import Denoised
from amsnet_cli.inference.mosaic_photos import DenoisedMosaic
from amsnet_cli.photos.exif import camera_of
from amsnet_cli.photos.photo import Photo
from amsnet_cli.report.comparison import Comparison


@dataclass(frozen=True, kw_only=True)
class PhotoInfo:
    """What is known of a photo once it is denoised.

    Attributes:
        weights: name of the model that denoised it.
        reason: why that model, if there was a choice.
        hot_pixels: values of its pixels that were mended.
        noise: estimated noise level before and after, on a scale of 255; None if not asked for.
        comparison: for the report; None without one.
        notes: on the photo, as lines for people.
        waits: whether the result waits for other processes, which denoise other pages of it.
    """

    weights: str
    reason: str
    hot_pixels: int
    noise: tuple[float, float] | None
    comparison: Comparison | None
    notes: tuple[str, ...]
    waits: bool = False


def photo_notes(photo: Photo, hot_pixels: int, noise: tuple[float, float] | None) -> Iterator[str]:
    """What was measured, chosen and mended, as lines for people."""
    camera, iso = camera_of(photo.exif)
    if camera:
        yield f"taken by {camera}{f' at ISO {iso}' * (iso is not None)}"
    if hot_pixels:
        yield f"hot pixels mended: {hot_pixels}"
    before, after = noise or (math.nan, math.nan)
    if math.isnan(before):
        yield "its noise cannot be measured"
    else:
        yield f"noise {before:.1f} before, {after:.1f} after, on a scale of 255"


def noise_note(denoised: Denoised) -> Iterator[str]:
    """The noise that the network was told, as a line for people."""
    if denoised.noise:
        yield f"denoised for noise of {by_tones(denoised.noise)}"


def mosaic_notes(denoised: DenoisedMosaic) -> Iterator[str]:
    """The noise of a mosaic, as lines for people."""
    names = ("red", "green", "blue") if len(denoised.laws) == 3 else ("all colours",)
    for name, law in zip(names, denoised.laws, strict=False):
        yield f"variance of {name}: {float(law.a):.2e} x + {float(law.b):.1e} ({denoised.reason})"

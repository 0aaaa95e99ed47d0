"""What a denoised photo is blended from, for pages on which a user chooses how much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli.inference.denoise import DenoiseOptions, resolve_options
from amsnet_cli.inference.hot_pixels import mend_hot_pixels
from amsnet_cli.inference.memory import memory_errors
from amsnet_cli.inference.noise_estimate import photo_noise_level
from amsnet_cli.inference.photo_rows import (
    correct_photo,
    photo_statistics,
    run_photo,
)
from amsnet_cli.model import Model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.pipeline import BlendSettings, Corrector
from amsnet_cli.postprocess.texture import blend_weights

_ALL = 1.0
_ROWS = 256
"""Rows that are converted at a time."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """What the results of one model are blended from, at any strength.

    Attributes:
        model: name of the model that was used.
        denoised: (H, W, C) uint8, the network's output, corrected, before any of the photo is
            blended in; C = 1 or 3. Stored as the photo is, not turned.
        weights: (3, h, w) float32 in [0, 1], for each block of 8 x 8 pixels: the share of the
            residual that strength auto removes, of luma and of chroma, and the factor of luma's
            share where all detail is restored. None where all three are 1 throughout.
        noise_after: noise level at strength auto, on a scale of 255; nan where it is unknown.
    """

    model: str
    denoised: NDArray[np.uint8]
    weights: Tensor | None
    noise_after: float


def denoised_layers(
    photo: Photo,
    model: Model,
    *,
    device: torch.device = torch.device("cpu"),
    progress: Callable[[float], None] = lambda fraction: None,
) -> Layers:
    """Denoise a photo with default options and return what its results are blended from.

    Args:
        photo: any depth, its hot pixels mended; transparency is not looked at.
        model: with any network.
        device: where to compute.
        progress: called with the fraction done.

    Raises:
        WeightsError: the network gives NaN.
        DeviceError: out of memory, even with small tiles.
    """
    with memory_errors(device):
        options = DenoiseOptions()
        resolved = resolve_options(photo, model, options, device=device)
        codec, config = resolved.codec, options.postprocess
        output = run_photo(
            photo, resolved.box, codec, model, resolved.inference,
            noise=resolved.noise, device=device, progress=progress,
        )  # fmt: skip
    statistics = photo_statistics(photo, output, codec, config, device=device)

    def corrected(settings: BlendSettings) -> Photo:
        corrector = Corrector(statistics, settings, config)
        return correct_photo(photo, output.clone(), codec, corrector, device=device)

    auto = blend_weights(statistics.blocks, None, None, 0.0, config)
    detail = blend_weights(statistics.blocks, _ALL, _ALL, 1.0, config)[:1]
    return Layers(
        model=model.name,
        denoised=displayed(corrected(BlendSettings(luma=_ALL, chroma=_ALL)), codec),
        weights=torch.cat([auto, detail]).cpu(),
        noise_after=photo_noise_level(corrected(BlendSettings()), scale=photo),
    )


def without_hot_pixels(photo: Photo) -> tuple[Photo, int]:
    """Mend the hot pixels of a photo as `denoise` does; returns also how many values they had."""
    return mend_hot_pixels(photo, DenoiseOptions().hot_pixels)


def displayed(photo: Photo, codec: PixelCodec) -> NDArray[np.uint8]:
    """Return a photo's pixels as a display takes them, (H, W, C) uint8; not turned.

    Args:
        photo: any depth.
        codec: of the photo that it comes from.
    """
    shown = np.empty(photo.pixels.shape, np.uint8)
    for top in range(0, len(shown), _ROWS):
        unit = codec.decode(photo.pixels[top : top + _ROWS])
        shown[top : top + _ROWS] = np.rint(unit.clip(0, 1) * 255)
    return shown

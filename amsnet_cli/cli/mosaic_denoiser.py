"""Denoise mosaics of RAW files with the weights for them, loaded when the first one comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from amsnet_cli.errors import WeightsError
from amsnet_cli.inference.camera_noise import remembered_gain
from amsnet_cli.inference.denoise_mosaic import MosaicOptions, denoise_mosaic
from amsnet_cli.inference.mosaic_noise import find_noise
from amsnet_cli.mosaic_model import MosaicModel, is_for_mosaics, load_mosaic_model
from amsnet_cli.photos.formats.raw import with_mosaic
from amsnet_cli.photos.mosaic import MosaicPhoto
from amsnet_cli.weights.store import AUTO, find_weights

WEIGHTS = "raw"
"""Name of the weights for mosaics."""


class MosaicDenoiser:
    """Denoises mosaics.

    Args:
        weights: a model file for mosaics; None for the weights named `WEIGHTS`.
        options: see `MosaicOptions`.
        device: where to compute.
    """

    def __init__(
        self, weights: Path | None, options: MosaicOptions, *, device: torch.device
    ) -> None:
        self._weights, self._options, self._device = weights, options, device
        self._model: MosaicModel | None = None

    def denoise(
        self, photo: MosaicPhoto, progress: Callable[[float], None]
    ) -> tuple[MosaicPhoto, str, str]:
        """Denoise a photo.

        Args:
            photo: not developed.
            progress: called with the fraction done.

        Returns:
            The photo, the name of the weights, and how its noise is known.

        Raises:
            WeightsError: there are no weights for mosaics.
            PhotoError: see `find_noise`.
        """
        if self._model is None:
            path = self._weights or find_weights(WEIGHTS)
            self._model = load_mosaic_model(path, "" if self._weights else WEIGHTS)
        if self._options.strength == 0:
            return photo, self._model.name, "strength 0"
        noise = find_noise(photo.mosaic, camera=remembered_gain(photo))
        mosaic = denoise_mosaic(
            photo.mosaic, self._model, noise, self._options,
            device=self._device, progress=progress,
        )  # fmt: skip
        return with_mosaic(photo, mosaic), self._model.name, f"noise by {noise.source}"

    def refuse_developed(self, source: Path) -> None:
        """Raise an error if weights for mosaics were asked for, and a photo is none.

        Raises:
            WeightsError: they were.
        """
        if self._weights:
            raise WeightsError(
                f"{source}: developed, and {self._weights.stem} is for mosaics of RAW files",
                "leave out -w, or give --raw mosaic for RAW files",
            )


def mosaic_weights(weights: str | None) -> Path | None:
    """Return the file of weights that are for mosaics; None for others, and for automatic ones.

    Raises:
        WeightsError: there are no such weights, or they are damaged.
    """
    if weights in (None, AUTO):
        return None
    path = find_weights(weights)
    return path if is_for_mosaics(path) else None

"""Denoise mosaics of RAW files with the weights for them, loaded when the first one comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from amsnet_cli.errors import PhotoError, UsageError, WeightsError
from amsnet_cli.inference.camera_noise import remembered_gain
from amsnet_cli.inference.denoise import Denoised, DenoiseOptions
from amsnet_cli.inference.denoise_mosaic import (
    LEAST_SIDE,
    MosaicOptions,
    denoise_mosaic,
)
from amsnet_cli.inference.model_choice import fitted_to
from amsnet_cli.inference.mosaic_noise import find_flaws, find_noise
from amsnet_cli.mosaic_model import MosaicModel, load_mosaic_model
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.photos.exif import camera_of
from amsnet_cli.photos.formats.raw import RawOptions, develop, shown_part, with_mosaic
from amsnet_cli.photos.geometry import cropped, stored_box
from amsnet_cli.photos.mosaic import Box, MosaicPhoto
from amsnet_cli.photos.photo import Photo
from amsnet_cli.postprocess.mosaic_blend import MosaicBlend
from amsnet_cli.weights.header import is_for_mosaics, read_header
from amsnet_cli.weights.store import AUTO, MOSAIC_WEIGHTS, find_weights

MARGIN = 16
"""Photosites around a region that are denoised as well, as its development depends on them."""
BYTES_TO_WRITE = {"dng": 12, "developed": 64}
"""Bytes of RAM a photosite that are needed once a mosaic is denoised: to write it as DNG, or to
develop it, with what LibRaw takes in its own process; measured."""

CAUTIOUS_NOTE = (
    "denoised with caution, as the file does not tell the ISO speed, which tells noise from fine "
    "texture; for more, try --strength 2"
)


@dataclass(frozen=True, kw_only=True)
class DenoisedMosaic:
    """A mosaic after denoising.

    Attributes:
        photo: the mosaic.
        weights: name of the model.
        model: that denoised it, or would have.
        reason: how its noise is known, or why it was left as it is.
        laws: of its noise; none where nobody asked.
        hot_pixels: photosites that were taken for defects and mended.
        region: that was denoised; None for all.
    """

    photo: MosaicPhoto
    weights: str
    model: MosaicModel
    reason: str
    laws: tuple[SensorNoise, ...] = ()
    hot_pixels: int = 0
    region: Box | None = None


class MosaicDenoiser:
    """Denoises mosaics.

    Args:
        weights: a model, or as asked for; `MOSAIC_WEIGHTS` for None, and for `AUTO` where no model
            is fitted to the camera of a photo.
        options: see `DenoiseOptions`; those of the post-processing have no meaning here.
        raw: how mosaics are developed.
        device: where to compute.

    Raises:
        WeightsError: there are no such weights, or they are damaged.
    """

    def __init__(
        self,
        weights: str | Path | MosaicModel | None,
        options: DenoiseOptions,
        raw: RawOptions,
        *,
        device: torch.device,
    ) -> None:
        self._options, self._raw, self._device = options, raw, device
        self._model = weights if isinstance(weights, MosaicModel) else None
        self._weights = None if isinstance(weights, MosaicModel) else weights
        self._named = None if self._weights in (None, AUTO) else _file_of(self._weights)
        self._for_mosaics = self._named is None or is_for_mosaics(read_header(self._named))
        self._models: dict[Path, MosaicModel] = {}

    @property
    def for_developed(self) -> str | Path | None:
        """The weights for developed photos as asked for; None where those are for mosaics."""
        return self._weights if self._named is None or not self._for_mosaics else None

    def check(self, source: Path) -> None:
        """Refuse options that do not suit a photo that is denoised before it is developed.

        Raises:
            WeightsError: the weights are for developed photos.
            UsageError: masks are asked for.
        """
        if not self._for_mosaics:
            raise WeightsError(
                f"{source}: RAW, and the weights {self._weights} are for developed photos",
                "leave out -w, or denoise it after development with --raw developed",
            )
        o = self._options
        if any(v is not None for v in (o.n_masks, o.stride, o.repeats, o.refine, o.ensemble)):
            raise UsageError(
                "--masks, --pd-stride, --repeats, --refine and --ensemble do not work on the "
                "mosaic of a RAW file",
                "leave them out, or denoise it after development with --raw developed",
            )

    def denoise(
        self, photo: MosaicPhoto, progress: Callable[[float], None], *, to_dng: bool
    ) -> DenoisedMosaic:
        """Denoise a mosaic.

        Args:
            photo: not developed.
            progress: called with the fraction done.
            to_dng: whether it is to be written as it is, or developed.

        Raises:
            WeightsError: the weights are missing or damaged.
            UnknownNoiseError: see `find_noise`.
            PhotoError: the crop is not within the picture.
            DeviceError: out of memory, or the memory budget is too small.
        """
        model, why = self._choose(photo)
        name, values = model.name, photo.mosaic.values
        blend = self._blend()
        region = self._region(photo) if self._options.crop else None
        if blend.luma == blend.chroma == 0:
            return DenoisedMosaic(
                photo=photo, weights=name, model=model, reason="strength 0", region=region
            )
        if min(values.shape) < LEAST_SIDE:
            return DenoisedMosaic(
                photo=photo, weights=name, model=model, reason="too small, left as it is"
            )
        if self._options.noise is not None:
            raise UsageError(
                "--noise is the noise of developed photos, and that of mosaics is measured",
                "leave it out, or denoise RAW files once they are developed: --raw developed",
            )
        options = MosaicOptions(
            strength=self._options.strength or 1.0, blend=blend, region=region,
            tile=self._options.tile,
            max_memory=self._options.max_memory,
            afterwards=BYTES_TO_WRITE["dng" if to_dng else "developed"] * values.size,
        )  # fmt: skip
        noise = find_noise(photo.mosaic, camera=remembered_gain(photo))
        flaws = find_flaws(photo.mosaic, noise)
        if self._options.keep_hot_pixels:
            flaws = replace(flaws, defects=np.zeros_like(flaws.defects))
        mosaic = denoise_mosaic(
            photo.mosaic, model, noise, options,
            flaws=flaws, device=self._device, progress=progress,
        )  # fmt: skip
        if noise.cautious:
            photo = replace(photo, notes=(*photo.notes, CAUTIOUS_NOTE))
        return DenoisedMosaic(
            photo=with_mosaic(photo, mosaic), weights=name, model=model,
            reason=f"{why}noise by {noise.source}", laws=noise.laws,
            hot_pixels=int(flaws.defects.sum()), region=region,
        )  # fmt: skip

    def develop(self, source: Path, photo: MosaicPhoto) -> Photo:
        """Develop a mosaic, and cut out the region that was asked for.

        Args:
            source: its file, for messages.
            photo: not developed.

        Raises:
            PhotoError: it cannot be developed, or its picture has another size than its mosaic.
        """
        developed = develop(source, photo.content, photo.mosaic, self._raw)
        if not self._options.crop:
            return developed
        top, bottom, left, right = shown_part(photo)
        sides = bottom - top, right - left
        turned = photo.mosaic.orientation >= 5
        if developed.pixels.shape[:2] != (sides[::-1] if turned else sides):
            raise PhotoError(
                f"{source}: its picture has another shape than its mosaic, which cannot be cropped",
                "leave out --crop, or use --raw developed",
            )
        return cropped(developed, stored_box(developed, self._options.crop))

    def _choose(self, photo: MosaicPhoto) -> tuple[MosaicModel, str]:
        """Return the model of a photo and the start of the reason, if there was a choice."""
        if self._model:
            return self._model, ""
        path, why = self._named, ""
        name = str(self._weights) if path else MOSAIC_WEIGHTS
        if path and isinstance(self._weights, Path):
            name = path.stem
        if self._weights == AUTO:
            path, reason = fitted_to(*camera_of(photo.exif), mosaics=True)
            name, why = path.stem if path else MOSAIC_WEIGHTS, f"{reason}; "
        path = path or find_weights(MOSAIC_WEIGHTS)
        if path not in self._models:
            self._models[path] = load_mosaic_model(path, name)
        return self._models[path], why

    def _blend(self) -> MosaicBlend:
        o = self._options
        strength = 0.0 if o.strength == 0 else 1.0
        return MosaicBlend(
            luma=strength if o.luma is None else o.luma,
            chroma=strength if o.chroma is None else o.chroma,
            detail=o.detail,
        )

    def _region(self, photo: MosaicPhoto) -> Box:
        """Find the cropped region in the active area, with a margin."""
        assert self._options.crop
        first, last, left, right = shown_part(photo)
        shown = replace(
            photo, pixels=photo.pixels[first:last, left:right],
            orientation=photo.mosaic.orientation,
        )  # fmt: skip
        box = stored_box(shown, self._options.crop)
        height, width = photo.mosaic.values.shape
        return (
            max(0, first + box[0] - MARGIN), min(height, first + box[1] + MARGIN),
            max(0, left + box[2] - MARGIN), min(width, left + box[3] + MARGIN),
        )  # fmt: skip

    def refuse_developed(self, source: Path) -> None:
        """Raise an error if weights for mosaics were asked for, and a photo is none.

        Raises:
            WeightsError: they were.
        """
        if self._named and self._for_mosaics:
            raise WeightsError(
                f"{source}: the weights {self._weights} are for mosaics of RAW files, and this is "
                "a developed photo",
                "leave out -w",
            )


def denoise_raw(
    source: Path,
    photo: MosaicPhoto,
    mosaics: MosaicDenoiser,
    *,
    to_dng: bool,
    progress: Callable[[float], None],
) -> Denoised:
    """Denoise a RAW photo, and develop it unless it is to be written as DNG.

    Args:
        source: its file, for messages.
        photo: not developed.
        mosaics: denoise and develop it.
        to_dng: keep it as it is.
        progress: called with the fraction done.

    Raises:
        AmsnetError: see `MosaicDenoiser`.
    """
    mosaics.check(source)
    done = mosaics.denoise(photo, progress, to_dng=to_dng)
    clean: Photo = done.photo
    noisy: Photo = photo
    if not to_dng:
        noisy, clean = (mosaics.develop(source, p) for p in (photo, done.photo))
        clean = replace(clean, bits=photo.depth, notes=(*photo.notes, *clean.notes))
    return Denoised(photo=clean, model=done.model, noisy=noisy, hot_pixels=done.hot_pixels)


def _file_of(weights: str | Path | None) -> Path:
    return weights if isinstance(weights, Path) else find_weights(weights)

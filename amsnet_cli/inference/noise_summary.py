"""What is known of the noise of one file, RAW or developed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from torch import Tensor

from amsnet_cli.core.photo_noise import PhotoNoise, brightness_of
from amsnet_cli.inference.camera_noise import RememberedPhoto, remembered_gain
from amsnet_cli.inference.denoise import DenoiseOptions, resolve_options
from amsnet_cli.inference.hot_pixels import mend_hot_pixels
from amsnet_cli.inference.mosaic_noise import (
    Flaws,
    SensorNoiseFound,
    block_noise,
    dark_noise,
    find_flaws,
    find_noise,
)
from amsnet_cli.inference.noise_estimate import common_levels, estimate_told_noise, mean_sigma
from amsnet_cli.inference.stack_noise import (
    Detector,
    StackNoise,
    frames_of,
    grey_groups,
    group_names,
    stack_noise,
)
from amsnet_cli.model import Model, load_model
from amsnet_cli.noise.counts import block_variances
from amsnet_cli.noise.masked import DarkNoise
from amsnet_cli.noise.sensor_estimate import BlockVariances
from amsnet_cli.photos.exif import camera_of
from amsnet_cli.photos.formats.raw import FORMAT as RAW
from amsnet_cli.photos.mosaic import Mosaic, NotAMosaicError
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_mosaic_photo, read_photo
from amsnet_cli.stacks.find import open_stack
from amsnet_cli.stacks.stack import Stack


@dataclass(frozen=True, kw_only=True)
class RawNoise:
    """The noise of a RAW file.

    Attributes:
        camera: its name, if known.
        iso: ISO speed, if known.
        mosaic: of the sensor.
        found: the law of the noise, and how it is known.
        dark: what masked borders say; None without any.
        flaws: defects, and the noise of rows and columns.
        blocks: what was measured, for a plot; None if not asked for.
    """

    camera: str | None
    iso: int | None
    mosaic: Mosaic
    found: SensorNoiseFound
    dark: DarkNoise | None
    flaws: Flaws
    blocks: BlockVariances | None

    @property
    def range(self) -> float:
        """From black to white, in the file's units."""
        return self.mosaic.white - float(self.mosaic.black.mean())

    def to_remember(self) -> RememberedPhoto | None:
        """Return what the photo says of its camera; None where camera or ISO are not known."""
        if not (self.camera and self.iso):
            return None
        law = self.found.laws[len(self.found.laws) // 2]
        digest = hashlib.sha256(np.ascontiguousarray(self.mosaic.values).data).hexdigest()[:16]
        return RememberedPhoto(digest=digest, iso=self.iso, a=float(law.a), b=float(law.b))


@dataclass(frozen=True, kw_only=True)
class DevelopedNoise:
    """The noise of a developed photo.

    Attributes:
        camera: its name, if known.
        iso: ISO speed, if known.
        weights: name of the model that `denoise` uses unless another is asked for.
        white: whether the noise is white, which a camera's is not.
        estimate: the noise, as the estimator of the default network measures it.
        told: what that network is told of it.
        level: root mean square over the photo, on a scale of 255.
        levels: which brightnesses the photo has, of `estimate`'s.
        grey: whether it is a grey photo.
    """

    camera: str | None
    iso: int | None
    weights: str
    white: bool
    estimate: PhotoNoise
    told: PhotoNoise
    level: float
    levels: list[int]
    grey: bool

    @property
    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """By colour: brightness in [0, 1] and standard deviation on a scale of 255, dark first."""
        sigma = self.estimate.log_sigma[0].exp()  # (3, LEVELS)
        names = ("grey",) if self.grey else ("red", "green", "blue")
        sigma = sigma.mean(0, keepdim=True) if self.grey else sigma
        return {
            name: [(brightness_of(i), float(curve[i])) for i in self.levels]
            for name, curve in zip(names, sigma, strict=True)
        }


@dataclass(frozen=True, kw_only=True)
class ChannelNoise:
    """The noise of a channel of a stack, or of a plane of FITS.

    Attributes:
        picture: its number in the file, from 1.
        channel: its number in the picture, from 1.
        name: of both, for people; empty where there is only one.
        pages: of this channel.
        noise: its law, in the units of the file, and how it is known.
        blocks: mean light and variance of blocks, (N, 2), for a plot; None if not asked for.
    """

    picture: int
    channel: int
    name: str
    pages: int
    noise: StackNoise
    blocks: Tensor | None


@dataclass(frozen=True, kw_only=True)
class StackSummary:
    """The noise of a stack, as `amsnet denoise` measures it.

    Attributes:
        axes: of its pages, for people.
        channels: those that are grey.
    """

    axes: str
    channels: list[ChannelNoise]


def summarise_noise(
    path: Path, *, use_memory: bool = True, with_blocks: bool = False
) -> RawNoise | DevelopedNoise | StackSummary:
    """Measure the noise of a file.

    Args:
        path: of a RAW file, which is not developed, of a stack, or of any other photo.
        use_memory: let what is remembered of the camera into the estimate.
        with_blocks: keep what was measured, for a plot.

    Raises:
        PhotoError: it cannot be read, or shows too little to measure its noise.
        WeightsError: the default network is missing.
    """
    stack = open_stack(path)
    if stack is not None:
        return _summarise_stack(stack, with_blocks=with_blocks)
    if path.suffix.lower() in RAW.suffixes:
        try:
            photo = read_mosaic_photo(path)
        except NotAMosaicError:
            pass
        else:
            camera, iso = camera_of(photo.exif)
            mosaic = photo.mosaic
            found = find_noise(mosaic, camera=remembered_gain(photo) if use_memory else None)
            return RawNoise(
                camera=camera, iso=iso, mosaic=mosaic, found=found, dark=dark_noise(mosaic),
                flaws=find_flaws(mosaic, found),
                blocks=block_noise(mosaic) if with_blocks else None,
            )  # fmt: skip
    return _of_developed(read_photo(path))


def _of_developed(photo: Photo) -> DevelopedNoise:
    """Measure what `denoise` measures, in the same way."""
    model = _default_model()
    camera, iso = camera_of(photo.exif)
    photo, _ = mend_hot_pixels(photo)
    resolved = resolve_options(photo, model, DenoiseOptions())
    assert resolved.noise is not None
    estimate = estimate_told_noise(photo, resolved.codec, model.network)
    return DevelopedNoise(
        camera=camera, iso=iso, weights=model.name, white=resolved.noise.is_white,
        estimate=estimate, told=resolved.noise,
        level=255 * mean_sigma(photo, resolved.codec, estimate),
        levels=common_levels(photo, resolved.codec), grey=photo.pixels.shape[2] == 1,
    )  # fmt: skip


@cache
def _default_model() -> Model:
    return load_model()


def _summarise_stack(stack: Stack, *, with_blocks: bool) -> StackSummary:
    groups = grey_groups(stack, range(len(stack.pages)))
    names = group_names(groups)
    return StackSummary(
        axes=stack.axes,
        channels=[
            ChannelNoise(
                picture=group[0] + 1, channel=group[1] + 1, name=names[group], pages=len(pages),
                noise=stack_noise(stack, pages, Detector()),
                blocks=block_variances(frames_of(stack, pages)) if with_blocks else None,
            )
            for group, pages in groups.items()
        ],
    )  # fmt: skip

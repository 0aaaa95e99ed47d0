"""What is known of the noise of one file, RAW or developed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from amsnet_cli.inference.camera_noise import RememberedPhoto, remembered_gain
from amsnet_cli.inference.mosaic_noise import (
    Flaws,
    SensorNoiseFound,
    block_noise,
    dark_noise,
    find_flaws,
    find_noise,
)
from amsnet_cli.inference.photo_noise import has_white_noise, noise_by_brightness, photo_noise_level
from amsnet_cli.inference.stack_noise import (
    Detector,
    StackNoise,
    frames_of,
    grey_groups,
    group_names,
    stack_noise,
)
from amsnet_cli.noise.counts import block_variances
from amsnet_cli.noise.masked import DarkNoise
from amsnet_cli.noise.sensor_estimate import BlockVariances
from amsnet_cli.photos.exif import camera_of
from amsnet_cli.photos.formats.raw import FORMAT as RAW
from amsnet_cli.photos.mosaic import Mosaic, NotAMosaicError
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
class PhotoNoise:
    """The noise of a developed photo.

    Attributes:
        camera: its name, if known.
        iso: ISO speed, if known.
        level: standard deviation, mean over the channels, on a scale of 255; nan if unknown.
        white: whether it is white, which a camera's noise is not.
        by_brightness: brightness in [0, 1] and standard deviation, from dark to bright.
    """

    camera: str | None
    iso: int | None
    level: float
    white: bool
    by_brightness: list[tuple[float, float]]


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
) -> RawNoise | PhotoNoise | StackSummary:
    """Measure the noise of a file.

    Args:
        path: of a RAW file, which is not developed, of a stack, or of any other photo.
        use_memory: let what is remembered of the camera into the estimate.
        with_blocks: keep what was measured, for a plot.

    Raises:
        PhotoError: it cannot be read, or shows too little to measure its noise.
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
    developed = read_photo(path)
    camera, iso = camera_of(developed.exif)
    return PhotoNoise(
        camera=camera, iso=iso, level=photo_noise_level(developed),
        white=has_white_noise(developed), by_brightness=noise_by_brightness(developed),
    )  # fmt: skip


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

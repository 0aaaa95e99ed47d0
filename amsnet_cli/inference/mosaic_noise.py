"""What noise a mosaic has, and how it is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from amsnet_cli.errors import PhotoError
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.noise.sensor_estimate import estimate_sensor_noise
from amsnet_cli.photos.geometry import window_starts
from amsnet_cli.photos.mosaic import Mosaic


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """How the noise of a mosaic is measured.

    Attributes:
        windows: windows to a side of a large mosaic that are looked at.
        window: side of such a window, in photosites; a multiple of 12 and of the blocks measured.
    """

    windows: int = 4
    window: int = 480


@dataclass(frozen=True, kw_only=True)
class SensorNoiseFound:
    """The noise of a mosaic, and how it is known.

    Attributes:
        laws: one for all colours, or for red, green and blue.
        source: "NoiseProfile" of the file, or "estimate" from the mosaic.
    """

    laws: tuple[SensorNoise, ...]
    source: str


def find_noise(mosaic: Mosaic, options: NoiseOptions = NoiseOptions()) -> SensorNoiseFound:
    """Return the noise that the file states, else an estimate from the mosaic.

    Raises:
        PhotoError: too little of the picture is free of clipping.
    """
    if mosaic.noise_profile:
        # A law without a slope has no stabilising transform: give it a small one.
        laws = [SensorNoise(a=max(s, o / 100), b=o) for s, o in mosaic.noise_profile]
        return SensorNoiseFound(laws=tuple(laws), source="NoiseProfile")
    light, planes = torch.from_numpy(mosaic.light()), torch.from_numpy(mosaic.planes())
    parts = [_sampled(plane, options) for plane in (light[None], planes)]
    found = estimate_sensor_noise(parts[0][0], parts[1], iso=mosaic.iso)
    if found is None:
        raise PhotoError("too little of the picture is neither black nor white to see its noise")
    return SensorNoiseFound(laws=(found,), source="estimate")


def _sampled(planes: Tensor, options: NoiseOptions) -> Tensor:
    """Put windows of (C, H, W) side by side, in the same phase of the mosaic."""
    size = options.window
    if min(planes.shape[1:]) < options.windows * size:
        return planes
    rows, columns = (
        [start // 12 * 12 for start in window_starts(length, size, options.windows)]
        for length in planes.shape[1:]
    )
    return torch.cat(
        [torch.cat([planes[:, y : y + size, x : x + size] for x in columns], 2) for y in rows], 1
    )

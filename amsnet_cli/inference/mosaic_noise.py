"""What noise a mosaic has, and how it is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli.errors import PhotoError
from amsnet_cli.noise.defects import find_defects
from amsnet_cli.noise.masked import DarkNoise, masked_noise
from amsnet_cli.noise.row_noise import row_noise
from amsnet_cli.noise.sensor import SensorNoise, law_by_colour
from amsnet_cli.noise.sensor_estimate import BlockVariances, block_variances, estimate_sensor_noise
from amsnet_cli.noise.sensor_prior import GainPrior, gain_by_pitch
from amsnet_cli.photos.geometry import window_starts
from amsnet_cli.photos.mosaic import Box, Mosaic

_BAND = 1020
"""Rows in which defects are looked for at once; a multiple of 6, as is what bands overlap by."""
_MARGIN = 6


@dataclass(frozen=True, kw_only=True)
class NoiseOptions:
    """How the noise of a mosaic is measured.

    Attributes:
        windows: windows to a side of a large mosaic that are looked at.
        window: side of such a window, in photosites; a multiple of 12 and of the blocks measured.
    """

    windows: int = 4
    window: int = 480


class UnknownNoiseError(PhotoError):
    """The noise of a mosaic is neither stated nor to be measured."""


@dataclass(frozen=True, kw_only=True)
class SensorNoiseFound:
    """The noise of a mosaic, and how it is known.

    Attributes:
        laws: one for all colours, or for red, green and blue.
        source: "NoiseProfile" of the file, "estimate" from the pixels alone, or "estimate with"
            what is named.
        cautious: whether it is rather too weak, as only the pixels tell noise from fine texture.
    """

    laws: tuple[SensorNoise, ...]
    source: str
    cautious: bool = False

    def at(self, colours: Tensor) -> SensorNoise:
        """Return one law, or one for each photosite of (..., 3, H, W), shaped (..., 1, H, W)."""
        return self.laws[0] if len(self.laws) == 1 else law_by_colour(self.laws, colours)


@dataclass(frozen=True, kw_only=True)
class Flaws:
    """What is wrong with a mosaic beside the noise of each photosite.

    Attributes:
        defects: (H, W) bool, hot and dead photosites.
        rows: (H,) float32, what is added to each row; None for nothing.
        columns: (W,), likewise.
    """

    defects: NDArray[np.bool_]
    rows: NDArray[np.float32] | None
    columns: NDArray[np.float32] | None

    def without_lines(self, light: NDArray[np.float32], part: Box) -> NDArray[np.float32]:
        """Return the light of a part, (h, w), less what is added to rows and columns."""
        top, bottom, left, right = part
        if self.rows is not None:
            light = light - self.rows[top:bottom, None]
        return light if self.columns is None else light - self.columns[left:right]


def find_flaws(mosaic: Mosaic, noise: SensorNoiseFound) -> Flaws:
    """Find defects, and the noise of rows and columns.

    Args:
        mosaic: of any size.
        noise: as from `find_noise`.
    """
    law = noise.laws[len(noise.laws) // 2]  # Green is most of a mosaic.
    values = torch.from_numpy(mosaic.light())
    height, width = values.shape
    corner = torch.from_numpy(mosaic.planes((0, min(height, 24), 0, min(width, 24))))
    rows = row_noise(values, corner, law)
    columns = row_noise(values.T, corner.transpose(1, 2), law)
    defects = np.zeros(values.shape, np.bool_)
    for top in range(0, len(values), _BAND):
        first = max(0, top - _MARGIN)
        band = slice(first, top + _BAND + _MARGIN)
        part = torch.from_numpy(mosaic.planes((first, min(height, band.stop), 0, width)))
        law = noise.at(part)
        found = find_defects(values[band], part, law, neutral=mosaic.neutral or (1.0, 1.0, 1.0))
        defects[top : top + _BAND] = found[top - first : top - first + _BAND].numpy()
    lines = (None if line is None else line.numpy() for line in (rows, columns))
    return Flaws(defects=defects, rows=next(lines), columns=next(lines))


def find_noise(
    mosaic: Mosaic, options: NoiseOptions = NoiseOptions(), *, camera: GainPrior | None = None
) -> SensorNoiseFound:
    """Return the noise that the file states, else an estimate from the mosaic.

    The estimate rests on the pixels, and on what tells noise from fine texture: the ISO speed with
    the size of a photosite, masked borders, and what other photos of the camera have said.

    Args:
        mosaic: of any size.
        options: see `NoiseOptions`.
        camera: what is remembered of the camera at this ISO speed.

    Raises:
        UnknownNoiseError: too little of the picture is free of clipping.
    """
    if mosaic.noise_profile:
        # A law without a slope has no stabilising transform: give it a small one.
        laws = [SensorNoise(a=max(s, o / 100), b=o) for s, o in mosaic.noise_profile]
        return SensorNoiseFound(laws=tuple(laws), source="NoiseProfile")
    light, colours = _sampled(mosaic, options)
    gain, dark, known = camera, dark_noise(mosaic), []
    if camera:
        known.append("other photos of the camera")
    elif mosaic.iso:
        known.append("ISO and pixel size" if mosaic.pitch else "ISO")
        gain = gain_by_pitch(mosaic.iso, mosaic.pitch) if mosaic.pitch else None
    if dark:
        known.append("masked borders")
    found = estimate_sensor_noise(
        light, colours, iso=mosaic.iso, gain=gain, dark=dark.variance if dark else None
    )
    if found is None:
        raise UnknownNoiseError(
            "too little of the picture is neither black nor white to see its noise",
            "give --raw developed, and another format than DNG",
        )
    return SensorNoiseFound(
        laws=(found,),
        source="estimate" + (f" with {' and '.join(known)}" if known else ""),
        cautious=not known,
    )


def dark_noise(mosaic: Mosaic) -> DarkNoise | None:
    """Measure the noise of masked borders; None without any, or where they hold something else."""
    top, _, left, _ = mosaic.area
    rows, columns = mosaic.black.shape
    areas = []
    for first, end, start, stop in mosaic.masked:
        values = mosaic.frame[first:end, start:stop].astype(np.float32)
        black = mosaic.black[np.ix_(
            (np.arange(first, end) - top) % rows, (np.arange(start, stop) - left) % columns
        )]  # fmt: skip
        areas.append(torch.from_numpy((values - black) / (mosaic.white - black)).float())
    step = 1 / (mosaic.white - float(mosaic.black.mean()))
    return masked_noise(areas, mosaic.colours.shape[1], step)


def block_noise(mosaic: Mosaic, options: NoiseOptions = NoiseOptions()) -> BlockVariances:
    """Measure the variances in blocks that `find_noise` estimates from: noise, and texture."""
    light, colours = _sampled(mosaic, options)
    return block_variances(light, colours)


def _sampled(mosaic: Mosaic, options: NoiseOptions) -> tuple[Tensor, Tensor]:
    """Put windows of a large mosaic side by side, in the same phase of its pattern.

    Returns:
        Light, (H, W), and colours, (3, H, W).
    """
    size, shape = options.window, mosaic.values.shape
    if min(shape) < options.windows * size:
        return torch.from_numpy(mosaic.light()), torch.from_numpy(mosaic.planes())
    rows, columns = (
        [start // 12 * 12 for start in window_starts(length, size, options.windows)]
        for length in shape
    )
    parts = [[(y, y + size, x, x + size) for x in columns] for y in rows]
    light, colours = (
        np.concatenate([np.concatenate([of(p) for p in row], -1) for row in parts], -2)
        for of in (mosaic.light, mosaic.planes)
    )
    return torch.from_numpy(light), torch.from_numpy(colours)

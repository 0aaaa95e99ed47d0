"""The mosaic of an image sensor: what each photosite recorded, before development."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.photo import Photo

_Number = TypeVar("_Number", bound=np.generic)

Box = tuple[int, int, int, int]
"""Rows [top, bottom) and columns [left, right): top, bottom, left, right."""


XYZ_TO_SRGB = np.array(
    [[3.2405, -1.5371, -0.4985], [-0.9693, 1.8760, 0.0416], [0.0556, -0.2040, 1.0572]]
)
"""Linear sRGB from XYZ, both for D65 (IEC 61966-2-1). LibRaw takes the colours of a camera that
nobody has measured for those of sRGB."""


class NotAMosaicError(PhotoError):
    """A RAW file that holds no mosaic: linear DNG, sRAW, a Foveon sensor."""


@dataclass(frozen=True, kw_only=True)
class ColourMatrix:
    """From XYZ to the camera's colours, under one light (DNG's ColorMatrix).

    Attributes:
        illuminant: EXIF's code of the light source; 21 is D65.
        matrix: (3, 3), red, green and blue of the camera from X, Y and Z.
    """

    illuminant: int
    matrix: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """What a sensor recorded, and what the file says about it.

    Attributes:
        frame: (H0, W0) uint16, the whole sensor with its borders; not turned.
        area: where in `frame` the picture is: the active area.
        colours: (P, Q) uint8, repeated from the corner of the active area: 0 red, 1 green, 2 blue,
            3 the green of the other rows where the file tells two apart; (1, 1) for monochrome.
        black: (P', Q') float64, black level of each photosite, repeated likewise.
        white: white level, as the file states it.
        saturation: value at which the sensor clips; `white`, unless many photosites are clipped
            below it.
        masked: places in `frame` that no light reaches.
        neutral: red, green and blue that the camera gives for grey, the greatest of them 1
            (DNG's AsShotNeutral); None where the file does not say.
        colour_matrices: of the file, else LibRaw's for this camera; none for unknown cameras.
        orientation: the EXIF code, 1 to 8.
        iso: ISO speed.
        pitch: from photosite to photosite, in micrometres, if the file tells.
        make: the camera's maker.
        model: the camera.
        noise_profile: DNG's NoiseProfile, (S, O) for all colours or for red, green and blue: the
            variance at x is S x + O, with x = 0 at black and 1 at white. Empty where not told.
        baseline_exposure: stops by which the picture is to be brightened.
        crop: part of the active area that is to be shown.
        opcodes: tags of the opcode lists that are present: 51008 and 51009 act on the mosaic,
            51022 on the developed picture.
    """

    frame: NDArray[np.uint16]
    area: Box
    colours: NDArray[np.uint8]
    black: NDArray[np.float64]
    white: int
    saturation: int
    masked: tuple[Box, ...] = ()
    neutral: tuple[float, float, float] | None = None
    colour_matrices: tuple[ColourMatrix, ...] = ()
    orientation: int = 1
    iso: int | None = None
    pitch: float | None = None
    make: str = ""
    model: str = ""
    noise_profile: tuple[tuple[float, float], ...] = ()
    baseline_exposure: float = 0.0
    crop: Box
    opcodes: tuple[int, ...] = ()

    @property
    def values(self) -> NDArray[np.uint16]:
        """The active area, (H, W), as a view."""
        top, bottom, left, right = self.area
        return self.frame[top:bottom, left:right]

    @property
    def monochrome(self) -> bool:
        """Whether the sensor has no colour filters."""
        return self.colours.size == 1

    def with_values(self, values: NDArray[np.uint16]) -> Mosaic:
        """Return a mosaic with another active area, (H, W); borders and the rest stay."""
        top, bottom, left, right = self.area
        frame = self.frame.copy()
        frame[top:bottom, left:right] = values
        return replace(self, frame=frame)

    def part(self, box: Box) -> Mosaic:
        """Return a part of the active area, of the same camera; `box` counts from its corner."""
        top, bottom, left, right = box
        size = (0, bottom - top, 0, right - left)
        return replace(
            self,
            frame=self.values[top:bottom, left:right].copy(), area=size, crop=size, masked=(),
            colours=np.roll(self.colours, (-top, -left), (0, 1)),
            black=np.roll(self.black, (-top, -left), (0, 1)),
        )  # fmt: skip

    def light(self, part: Box | None = None) -> NDArray[np.float32]:
        """Return the active area or a part of it as (H, W) float32, 0 at black and 1 at white."""
        top, bottom, left, right = part or self._whole
        light = self.values[top:bottom, left:right].astype(np.float32)
        black = _tiled_part(self.black.astype(np.float32), (top, bottom, left, right))
        light -= black
        light /= np.float32(self.white) - black
        return light

    def stored(self, light: NDArray[np.float32], part: Box) -> NDArray[np.uint16]:
        """Undo `light` for a part: values are rounded, and clipped to what 16 bits hold."""
        black = _tiled_part(self.black.astype(np.float32), part)
        values = light * (np.float32(self.white) - black)
        values += black
        np.rint(values, out=values)
        return values.clip(0, 65535, out=values).astype(np.uint16)

    def with_light(self, light: NDArray[np.float32]) -> Mosaic:
        """Return a mosaic with other values for the whole active area; see `stored`."""
        return self.with_values(self.stored(light, self._whole))

    def planes(self, part: Box | None = None) -> NDArray[np.float32]:
        """Return (3, H, W) of the active area or a part of it.

        1 where a photosite records red, green, blue; all 1 if monochrome.
        """
        tile = np.stack([np.isin(self.colours, kinds) for kinds in ((0,), (1, 3), (2,))])
        if self.monochrome:
            tile[:] = True
        return np.stack([_tiled_part(t.astype(np.float32), part or self._whole) for t in tile])

    @property
    def _whole(self) -> Box:
        height, width = self.values.shape
        return 0, height, 0, width


@dataclass(frozen=True, kw_only=True)
class MosaicPhoto(Photo):
    """A RAW photo that is not developed; its pixels are the mosaic's values, (H, W, 1).

    Attributes:
        mosaic: of the sensor.
        content: the RAW file.
    """

    mosaic: Mosaic
    content: bytes


def tiled(tile: NDArray[_Number], shape: tuple[int, ...]) -> NDArray[_Number]:
    """Repeat (P, Q) until it fills (H, W)."""
    repeats = [-(-length // part) for length, part in zip(shape, tile.shape, strict=True)]
    return np.tile(tile, repeats)[: shape[0], : shape[1]]


def _tiled_part(tile: NDArray[_Number], part: Box) -> NDArray[_Number]:
    """Repeat (P, Q) over a whole picture, and return a part of that."""
    top, bottom, left, right = part
    rolled = np.roll(tile, (-(top % tile.shape[0]), -(left % tile.shape[1])), (0, 1))
    return tiled(rolled, (bottom - top, right - left))


def within(box: Box, area: Box) -> Box:
    """Return the part of `box` that lies in `area`, counted from the corner of `area`."""
    top, bottom, left, right = area
    return (
        max(box[0] - top, 0), min(box[1], bottom) - top,
        max(box[2] - left, 0), min(box[3], right) - left,
    )  # fmt: skip

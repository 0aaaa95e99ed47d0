"""What a DNG file says about its mosaic in tags (Adobe's DNG 1.7 specification)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.photos import ifd
from amsnet_cli.photos.ifd import Directory, Entry, MalformedError
from amsnet_cli.photos.mosaic import Box, ColourMatrix

MOST_DIRECTORIES = 64
"""Of a file; cameras write fewer than twenty, damage may claim millions."""
SUB_IFDS, DNG_VERSION = 330, 50706
NEW_SUBFILE_TYPE, WIDTH, HEIGHT, PHOTOMETRIC, SAMPLES = 254, 256, 257, 262, 277
BLACK_REPEAT, BLACK, BLACK_ACROSS, BLACK_DOWN, WHITE_LEVEL = 50713, 50714, 50715, 50716, 50717
CROP_ORIGIN, CROP_SIZE, ACTIVE_AREA, MASKED_AREAS = 50719, 50720, 50829, 50830
NOISE_PROFILE, BASELINE_EXPOSURE = 51041, 50730
OPCODE_LISTS = (51008, 51009, 51022)
_CFA_SIDES, _CFA_PATTERN = 33421, 33422
CFA, LINEAR_RAW = 32803, 34892
D65 = 21
"""EXIF's code of a light source."""
_MATRICES = ((50721, 50778, 50723), (50722, 50779, 50724))
"""Tags of a colour matrix, its illuminant, and the calibration of the single camera."""
_ANALOG_BALANCE, _AS_SHOT_NEUTRAL, _AS_SHOT_WHITE_XY = 50727, 50728, 50729
_KELVIN = {
    **{1: 5500, 2: 4150, 3: 2850, 4: 5500, 9: 5500, 10: 6500, 11: 7500, 12: 6430, 13: 5050},
    **{14: 4150, 15: 3525, 16: 2925, 17: 2856, 18: 4874, 19: 6774, 20: 5500, 21: 6504},
    **{22: 7504, 23: 5003, 24: 3200},
}
"""Colour temperatures of EXIF's light sources."""


@dataclass(frozen=True, kw_only=True)
class DngTags:
    """The directories of a DNG file that count for its mosaic.

    Attributes:
        order: the file's byte order, "<" or ">".
        main: the first directory, with what holds for the camera.
        raw: the directory of the mosaic, or of the linear picture.
        place: where `raw` begins in the file.
    """

    order: str
    main: Directory
    raw: Directory
    place: int

    def numbers(self, tag: int) -> list[float]:
        """Return the numbers of a tag of the mosaic or else of the camera; none if missing."""
        item = self.raw.get(tag, self.main.get(tag))
        return real_numbers(item, self.order) if isinstance(item, Entry) else []

    @property
    def monochrome(self) -> bool:
        """Whether the picture has one sample a pixel, and no colour filters."""
        linear = self.numbers(PHOTOMETRIC) == [LINEAR_RAW]
        return linear and self.numbers(SAMPLES) in ([], [1])

    @property
    def colours(self) -> NDArray[np.uint8] | None:
        """Colours repeated from the corner of the whole frame; None if there are other ones.

        See `Mosaic.colours`; of the greens of two by two, those beside blue are 3.
        """
        sides, pattern = self._integers(_CFA_SIDES), self._integers(_CFA_PATTERN)
        known = sides in ([2, 2], [6, 6]) and len(pattern) == sides[0] ** 2
        if not known or set(pattern) != {0, 1, 2}:
            return None
        tile = np.reshape(pattern, sides).astype(np.uint8)
        if sides == [2, 2]:
            tile[(tile == 1) & (tile == 2).any(1, keepdims=True)] = 3
        top, _, left, _ = self.active_area
        return np.roll(tile, (top, left), (0, 1))

    def black_from(self, area: Box) -> NDArray[np.float64] | None:
        """Return black levels, (P, Q), repeated from the corner of `area`; None if not told.

        What single rows and columns add counts by its mean, as LibRaw has it.

        Args:
            area: what LibRaw takes for the active area; it avoids odd borders of Bayer sensors.
        """
        levels = self.numbers(BLACK)
        rows, columns = (self._integers(BLACK_REPEAT) or [1, 1])[:2]
        if rows < 1 or columns < 1 or len(levels) != rows * columns:
            return None
        added = sum(
            float(np.mean(deltas))
            for deltas in (self.numbers(BLACK_ACROSS), self.numbers(BLACK_DOWN))
            if deltas
        )
        top, _, left, _ = self.active_area
        tile = np.reshape(levels, (rows, columns)) + added
        return np.roll(tile, (top - area[0], left - area[2]), (0, 1))

    @property
    def active_area(self) -> Box:
        """Where the picture is in the whole frame."""
        boxes = self._boxes(ACTIVE_AREA)
        top, left, bottom, right = boxes[0] if boxes else (0, 0, *self.size)
        return top, bottom, left, right

    @property
    def masked_areas(self) -> tuple[Box, ...]:
        """Places in the whole frame that no light reaches."""
        return tuple(
            (top, bottom, left, right) for top, left, bottom, right in self._boxes(MASKED_AREAS)
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the whole frame."""
        sides = [*self._integers(HEIGHT), *self._integers(WIDTH)]
        return (sides[0], sides[1]) if len(sides) == 2 else (0, 0)

    @property
    def opcodes(self) -> tuple[int, ...]:
        """Tags of the opcode lists that are present."""
        return tuple(tag for tag in OPCODE_LISTS if tag in self.raw)

    @property
    def crop(self) -> Box:
        """What is to be shown, in the whole frame: a part of the active area, or all of it."""
        whole = top, bottom, left, right = self.active_area
        origin, extent = self._integers(CROP_ORIGIN), self._integers(CROP_SIZE)
        if len(origin) != 2 or len(extent) != 2 or min(*origin, extent[0] - 1, extent[1] - 1) < 0:
            return whole
        (x, y), (across, down) = origin, extent
        shown = (top + y, top + y + down, left + x, left + x + across)
        return shown if shown[1] <= bottom and shown[3] <= right else whole

    @property
    def baseline_exposure(self) -> float:
        """Stops by which the picture is to be brightened, between -8 and 8."""
        stops = self.numbers(BASELINE_EXPOSURE)
        return float(np.clip(stops[0], -8, 8)) if stops else 0.0

    @property
    def noise_profile(self) -> tuple[tuple[float, float], ...]:
        """S and O for all colours or for each; empty if missing or impossible."""
        numbers = self.numbers(NOISE_PROFILE)
        pairs = tuple(zip(numbers[::2], numbers[1::2], strict=False))
        sound = len(numbers) in (2, 6) and all(s >= 0 and o >= 0 and s + o > 0 for s, o in pairs)
        return pairs if sound else ()

    @property
    def colour_matrices(self) -> tuple[ColourMatrix, ...]:
        """One or two matrices."""
        found = []
        for matrix_tag, light_tag, _ in _MATRICES:
            matrix = self.numbers(matrix_tag)
            if len(matrix) == 9:
                light = self._integers(light_tag) or [0]
                found.append(ColourMatrix(illuminant=light[0], matrix=np.reshape(matrix, (3, 3))))
        return tuple(found)

    @property
    def neutral(self) -> tuple[float, float, float] | None:
        """AsShotNeutral, or what AsShotWhiteXY means for this camera; the greatest is 1."""
        values = np.array(self.numbers(_AS_SHOT_NEUTRAL)[:3])
        if not _positive(values):
            values = self._neutral_of_white()
        if not _positive(values):
            return None
        red, green, blue = (values / values.max()).tolist()
        return red, green, blue

    @property
    def told_as_white_xy(self) -> bool:
        """Whether the white balance is told by AsShotWhiteXY alone, which LibRaw ignores."""
        return (
            not _positive(np.array(self.numbers(_AS_SHOT_NEUTRAL)[:3])) and self.neutral is not None
        )

    def _neutral_of_white(self) -> NDArray[np.float64]:
        """Follow DNG 1.7, chapter 6: from x, y by the matrices to the camera's colours."""
        white, matrices = self.numbers(_AS_SHOT_WHITE_XY), self.colour_matrices
        if len(white) != 2 or min(white) <= 0 or not matrices:
            return np.zeros(3)
        x, y = white
        by_light = [
            self._calibration(tag) @ matrix.matrix
            for (_, _, tag), matrix in zip(_MATRICES, matrices, strict=False)
        ]
        to_camera = by_light[0]
        kelvins = [_KELVIN.get(matrix.illuminant, 0) for matrix in matrices]
        if len(by_light) == 2 and min(kelvins) > 0 and kelvins[0] != kelvins[1]:
            first, second, here = (1 / t for t in (*kelvins, _temperature(x, y)))
            share = float(np.clip((here - second) / (first - second), 0, 1))
            to_camera = share * by_light[0] + (1 - share) * by_light[1]
        balance = self.numbers(_ANALOG_BALANCE)
        gains = np.array(balance if len(balance) == 3 else [1, 1, 1])
        neutral: NDArray[np.float64] = gains * (to_camera @ np.array([x / y, 1, (1 - x - y) / y]))
        return neutral

    def _calibration(self, tag: int) -> NDArray[np.float64]:
        values = self.numbers(tag)
        return np.reshape(values, (3, 3)) if len(values) == 9 else np.eye(3)

    def _integers(self, tag: int) -> list[int]:
        return [round(value) for value in self.numbers(tag)]

    def _boxes(self, tag: int) -> list[list[int]]:
        """Return rectangles as the file has them: top, left, bottom, right; none outside."""
        numbers, (height, width) = self._integers(tag), self.size
        boxes = [numbers[i : i + 4] for i in range(0, len(numbers) - 3, 4)]
        return [
            box for box in boxes if 0 <= box[0] < box[2] <= height and 0 <= box[1] < box[3] <= width
        ]


def read(content: bytes) -> DngTags | None:
    """Return the tags of a DNG file; None if it is no DNG, or damaged."""
    try:
        order = ifd.byte_order(content)
        found = list(directories(content))
    except MalformedError:
        return None
    if not found or DNG_VERSION not in found[0][1]:
        return None
    pictures = [
        DngTags(order=order, main=found[0][1], raw=directory, place=place)
        for place, directory in found
        if _first(directory, PHOTOMETRIC, order) in (CFA, LINEAR_RAW)
        and _first(directory, NEW_SUBFILE_TYPE, order) in (0, None)
    ]
    return max(pictures, key=lambda tags: tags.size[0] * tags.size[1], default=None)


def directories(content: bytes) -> Iterator[tuple[int, Directory]]:
    """Yield the place and the tags of each picture's directory: the chain, and those below.

    Raises:
        MalformedError: there is no directory, or there are more than `MOST_DIRECTORIES`.
    """
    order = ifd.byte_order(content)
    seen: set[int] = set()
    for place in ifd.chain(content):
        queue = [place]
        while queue:
            here = queue.pop(0)
            if here in seen:
                continue
            seen.add(here)
            if len(seen) > MOST_DIRECTORIES:
                raise MalformedError(f"more than {MOST_DIRECTORIES} directories")
            directory = ifd.read_directory(content, here)
            yield here, directory
            below = directory.get(SUB_IFDS)
            if isinstance(below, Entry) and below.type in (ifd.LONG, 13):
                queue += ifd.numbers(below, order)


def real_numbers(entry: Entry, order: str) -> list[float]:
    """Read the numbers of an entry of any numeric type; a fraction of 0 by 0 is 0."""
    kind = {
        **{1: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4"},
        **{11: "f4", 12: "f8", 13: "u4"},
    }.get(entry.type)
    if kind is None:
        return []
    values = np.frombuffer(entry.value, order + kind).astype(np.float64)
    if entry.type in (5, 10):
        values = values[::2] / np.where(values[1::2] == 0, 1, values[1::2])
    return [float(value) for value in values if np.isfinite(value)]


def _first(directory: Directory, tag: int, order: str) -> float | None:
    item = directory.get(tag)
    numbers = real_numbers(item, order) if isinstance(item, Entry) else []
    return numbers[0] if numbers else None


def _positive(values: NDArray[np.float64]) -> bool:
    return values.shape == (3,) and bool((values > 0).all() and np.isfinite(values).all())


def _temperature(x: float, y: float) -> float:
    """Correlated colour temperature in kelvin (McCamy, Color Research & Application 1992)."""
    n = (x - 0.3320) / (0.1858 - y)
    return float(np.clip(449 * n**3 + 3525 * n**2 + 6823.3 * n + 5520.33, 1500, 25000))

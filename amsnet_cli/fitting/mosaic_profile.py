"""Profile a folder of RAW files: cameras, ISO range, and the law of each sensor's noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amsnet_cli.fitting.images import Camera, ImageFolder
from amsnet_cli.fitting.mosaic_images import MosaicCrop
from amsnet_cli.fitting.noise_profile import describe_photos
from amsnet_cli.noise.sensor import SensorNoise

ESTIMATE_UNCERTAINTY = 1.25
"""Factor by which the variance of noise may be wrong, where it is estimated from the mosaics."""
_LAWS_SHOWN = 8
Laws = tuple[SensorNoise, ...]
"""One for all colours, or for red, green and blue."""


@dataclass(frozen=True, kw_only=True)
class SensorLaw:
    """The noise of a camera at an ISO speed: the variance a x + b, of the first colour.

    Attributes:
        camera: None if a photo does not say.
        iso: likewise.
        photos: how many it was taken from.
        a: variance per unit of light, with 1 for white.
        b: variance in the dark.
        sources: how it is known, as by `find_noise`.
    """

    camera: str | None
    iso: int | None
    photos: int
    a: float
    b: float
    sources: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MosaicProfile:
    """The cameras and the noise of a folder of RAW files.

    Attributes:
        photos: how many were read.
        found: how many could have been read.
        cameras: by name, each with its lowest and highest ISO; empty where no photo says.
        unnamed: photos without a camera name.
        laws: one for each camera and ISO, and for each photo that does not state both.
    """

    photos: int
    found: int
    cameras: dict[str, list[int]]
    unnamed: int
    laws: tuple[SensorLaw, ...]

    def law_uncertainty(self) -> float:
        """Factor by which the variance of the noise may be wrong; 1 where the files state it."""
        stated = all(law.sources == ("NoiseProfile",) for law in self.laws)
        return 1.0 if stated else ESTIMATE_UNCERTAINTY

    def lines(self) -> list[str]:
        """Describe the folder for people, one fact a line."""
        lines = [describe_photos(self.photos, self.found, self.cameras, self.unnamed)]
        for law in self.laws[:_LAWS_SHOWN]:
            where = f"ISO {law.iso}" if law.iso else "unknown ISO"
            count = f"{law.photos} photo{'s' * (law.photos > 1)}"
            lines.append(
                f"mosaics at {where}: variance {law.a:.2e} x + {law.b:.2e}, by "
                f"{' and '.join(law.sources)} of {count}"
            )
        if (more := len(self.laws) - _LAWS_SHOWN) > 0:
            lines.append(f"and {more} more, by camera and ISO")
        return lines


def noise_of_photos(images: ImageFolder[MosaicCrop]) -> list[Laws]:
    """Return the noise of each photo: what all of its camera and ISO say together.

    A sensor's law depends on its ISO speed alone. An estimate from one mosaic errs, so the median
    of all those of a camera and ISO is taken, for a and for b.
    """
    found = {crop.image: crop.noise.laws for crop in images.crops}
    return [
        _median([found[other] for other in _companions(images.cameras, image)])
        for image in range(len(images.paths))
    ]


def profile_mosaics(images: ImageFolder[MosaicCrop], laws: Sequence[Laws]) -> MosaicProfile:
    """Summarise the noise of a folder's photos, as from `noise_of_photos`."""
    sources = {crop.image: crop.noise.source for crop in images.crops}
    described = []
    for image, (camera, iso) in enumerate(images.cameras):
        group = _companions(images.cameras, image)
        if group[0] == image:
            law = laws[image][0]
            described.append(
                SensorLaw(
                    camera=camera, iso=iso, photos=len(group), a=float(law.a), b=float(law.b),
                    sources=tuple(sorted({sources[other] for other in group})),
                )
            )  # fmt: skip
    return MosaicProfile(
        photos=len(images.paths),
        found=images.found - len(images.skipped),
        cameras=images.camera_ranges(),
        unnamed=sum(name is None for name, _ in images.cameras),
        laws=tuple(described),
    )


def _companions(cameras: Sequence[Camera], image: int) -> list[int]:
    """Photos of the same camera and ISO, where both are known; itself otherwise."""
    if None in cameras[image]:
        return [image]
    return [other for other, camera in enumerate(cameras) if camera == cameras[image]]


def _median(found: list[Laws]) -> Laws:
    """Median a and b for each colour; `found` may have laws for all colours or for each."""
    colours = max(map(len, found))
    each = [laws * (colours // len(laws)) for laws in found]
    return tuple(
        SensorNoise(
            a=float(np.median([float(laws[c].a) for laws in each])),
            b=float(np.median([float(laws[c].b) for laws in each])),
        )
        for c in range(colours)
    )

"""Replace the hot pixels of a photo before it is denoised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from amsnet_cli.inference.tensor_codec import on_device
from amsnet_cli.noise.hot_pixels import (
    HOT_PIXEL_REACH,
    HotPixelConfig,
    find_hot_pixels,
    median_of_neighbours,
)
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.pipeline import row_parts


@dataclass(frozen=True, kw_only=True)
class HotPixels:
    """Values of a photo's pixels that are hot, and what replaces them.

    Attributes:
        places: rows, columns and channels.
        medians: of their neighbours, as they are stored.
    """

    places: tuple[NDArray[np.intp], ...] = ()
    medians: NDArray[np.generic] = field(default_factory=lambda: np.empty(0))

    @contextmanager
    def mended(self, photo: Photo, *, in_place: bool) -> Iterator[Photo]:
        """Yield the photo with its hot pixels replaced.

        Args:
            photo: in which they were found.
            in_place: replace them in the photo itself, which has them back at the end, instead of
                copying its pixels.
        """
        if not len(self.medians):
            yield photo
        elif in_place and photo.pixels.flags.writeable:
            hot = photo.pixels[self.places]
            photo.pixels[self.places] = self.medians
            try:
                yield photo
            finally:
                photo.pixels[self.places] = hot
        else:
            pixels = photo.pixels.copy()
            pixels[self.places] = self.medians
            yield replace(photo, pixels=pixels)


def find_hot_pixels_of(
    photo: Photo,
    config: HotPixelConfig = HotPixelConfig(),
    *,
    device: torch.device = torch.device("cpu"),
) -> HotPixels:
    """Find the hot pixels of a photo.

    Values of float pictures that are outside of their range stay, as in all that follows.

    Args:
        photo: any depth, grey or RGB.
        config: see `HotPixelConfig`.
        device: where to look for them.
    """
    pixels = photo.pixels
    highest = PixelCodec.of(photo).high if pixels.dtype == np.float32 else np.inf
    height, width = pixels.shape[:2]
    found: list[NDArray[np.intp]] = []
    medians: list[NDArray[np.generic]] = []
    for top, end in row_parts(height, width, device):
        first = max(0, top - HOT_PIXEL_REACH)
        planes = on_device(pixels[first : end + HOT_PIXEL_REACH], device)
        planes = planes.permute(2, 0, 1).contiguous()
        if planes.dtype != torch.uint8:
            planes = planes.float()
        places = find_hot_pixels(planes, config)
        places = places[planes[places.unbind(1)] <= highest]
        if not len(places):
            continue
        channel, row, column = places.cpu().numpy().T
        found.append(np.stack([first + row, column, channel]))
        medians.append(median_of_neighbours(planes, places).cpu().numpy())
    if not found:
        return HotPixels()
    return HotPixels(
        places=tuple(np.concatenate(found, 1)),
        medians=np.concatenate(medians).astype(pixels.dtype),
    )


def mend_hot_pixels(
    photo: Photo,
    config: HotPixelConfig = HotPixelConfig(),
    *,
    device: torch.device = torch.device("cpu"),
) -> tuple[Photo, int]:
    """Replace hot pixels by the median of their neighbours.

    Args:
        photo: see `find_hot_pixels_of`; the same is returned if it has none.
        config: see `HotPixelConfig`.
        device: where to look for them.

    Returns:
        The photo, and how many values of its pixels are new.
    """
    found = find_hot_pixels_of(photo, config, device=device)
    with found.mended(photo, in_place=False) as mended:
        return mended, len(found.medians)

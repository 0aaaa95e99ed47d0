"""Code the mosaic of a DNG file: tiles of lossless JPEG, or one plain strip.

Tiles need imagecodecs, and a mosaic as wide as a tile: LibRaw misreads wider tiles, and those of
some files of X-Trans.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.photos.ifd import Entry
from amsnet_cli.photos.ifd_entries import longs, shorts

TILE = 256
"""Side of a tile in pixels, a multiple of 16. Readers decode tiles in parallel."""
_PREDICT_FROM_LEFT = 1


class CodedMosaic:
    """The coded pixels of a mosaic.

    Tiles of lossless JPEG are about half as large as a strip. As in the files of cameras,
    neighbours in a row are two components, so that each pixel of a Bayer mosaic is predicted from
    one of its own colour. Tiles reach over the edges, where pixels repeat.

    Attributes:
        data: all tiles, or the strip; put at an even place.
    """

    def __init__(self, frame: NDArray[np.uint16], order: str, *, period: int) -> None:
        """Code a mosaic.

        Args:
            frame: (H, W).
            order: byte order of the file, "<" or ">".
            period: columns after which the colours repeat.
        """
        self.rows, self.order = len(frame), order
        codec = _imagecodecs() if frame.shape[1] >= TILE and period <= 2 else None
        self.tiled = codec is not None
        if codec is None:
            self.data = frame.astype(order + "u2").tobytes()
            return
        height, width = frame.shape
        padded = np.pad(frame, ((0, -height % TILE), (0, -width % TILE)), mode="edge")
        tiles = [
            padded[y : y + TILE, x : x + TILE].reshape(TILE, TILE // 2, 2)
            for y in range(0, height, TILE) for x in range(0, width, TILE)
        ]  # fmt: skip

        def encode(tile: NDArray[np.uint16]) -> bytes:
            coded: bytes = codec.jpeg8_encode(
                tile, lossless=True, predictor=_PREDICT_FROM_LEFT, bitspersample=16
            )
            return coded

        with ThreadPoolExecutor() as pool:
            coded = list(pool.map(encode, tiles))
        self._lengths = [len(tile) for tile in coded]
        self.data = b"".join(tile + b"\0" * (len(tile) % 2) for tile in coded)

    def tags(self, place: int) -> dict[int, Entry]:
        """Return the tags that say how pixels are coded, for data at this place of the file."""
        short, long = (partial(make, order=self.order) for make in (shorts, longs))
        if not self.tiled:
            return {
                258: short(16), 259: short(1),
                273: long(place), 278: long(self.rows), 279: long(len(self.data)),
            }  # fmt: skip
        starts = accumulate((n + n % 2 for n in self._lengths[:-1]), initial=place)
        return {
            258: short(16), 259: short(7),
            322: long(TILE), 323: long(TILE), 324: long(*starts), 325: long(*self._lengths),
        }  # fmt: skip


def _imagecodecs() -> ModuleType | None:
    try:
        import imagecodecs
    except ImportError:
        return None
    module: ModuleType = imagecodecs
    return module if module.JPEG8.available else None

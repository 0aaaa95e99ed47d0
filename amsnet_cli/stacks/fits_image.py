"""An image within a FITS file: where it lies, and what its stored values mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from amsnet_cli.stacks.stack import Page


@dataclass(frozen=True, kw_only=True)
class FitsImage:
    """Where an image lies, and how its values are stored.

    Attributes:
        number: of its HDU.
        place: of its first byte in the file.
        shape: of the array, the axes of a page last.
        stored: type in the file, big-endian.
        scale: BSCALE.
        zero: BZERO.
        blank: stored value of a pixel without any; None for none.
        header: of the HDU.
    """

    number: int
    place: int
    shape: tuple[int, ...]
    stored: np.dtype[Any]
    scale: float
    zero: float
    blank: int | None
    header: Any

    @property
    def count(self) -> int:
        """Number of its pages."""
        return int(np.prod(self.shape[:-2], dtype=int))

    @property
    def page_bytes(self) -> int:
        """Size of a page in the file."""
        return int(np.prod(self.shape[-2:])) * self.stored.itemsize

    @property
    def plain(self) -> bool:
        """Whether the stored values are the values."""
        return self.scale == 1 and self.zero == 0 and self.blank is None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a page in memory."""
        if self.plain:
            return self.stored.newbyteorder("=")
        return np.dtype(np.float32 if self.stored.itemsize <= 2 else np.float64)

    def values(self, stored: Page) -> Page:
        """Return the values, NaN where there are none."""
        if self.plain:
            return stored.astype(self.dtype)
        values = stored * self.scale + self.zero
        if self.blank is not None:
            values[stored == self.blank] = np.nan
        return values.astype(self.dtype)

    def to_store(self, page: Page) -> bytes:
        """Return the bytes to store for values."""
        if self.plain:
            return page.astype(self.stored).tobytes()
        values = (page.astype(np.float64) - self.zero) / self.scale
        if self.stored.kind == "f":
            return values.astype(self.stored).tobytes()
        limits = np.iinfo(self.stored)
        missing = np.isnan(values)
        whole = np.rint(np.where(missing, 0, values)).clip(limits.min, limits.max)
        stored = whole.astype(self.stored)
        if self.blank is not None:
            # A value that happens to be BLANK is moved by one.
            step = 1 if self.blank < limits.max else -1
            stored[~missing & (stored == self.blank)] = self.blank + step
            stored[missing] = self.blank
        return stored.tobytes()

"""A stack: pages that are read one by one, and a file that takes them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError, UsageError
from amsnet_cli.photos.photo import Photo

Page = NDArray[Any]
"""(H, W), or (H, W, 3 or 4) where a page has colours; any integer or float type, native order."""


@dataclass(frozen=True, kw_only=True)
class PageKind:
    """What is known of a page before it is read.

    Attributes:
        shape: (H, W), or (H, W, C) with colours.
        dtype: in native byte order.
        group: pages of one group have the same noise: one channel of one picture.
        follows: the page of the same group that comes before it along the first axis; None for
            none.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    group: tuple[int, ...] = ()
    follows: int | None = None

    @property
    def bytes(self) -> int:
        """Size of the page in memory."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class Stack(ABC):
    """A file of pages.

    Attributes:
        path: of the file.
        axes: for people: names and lengths of the axes, such as "T 20, Z 5, C 2".
        pages: of the file, in its order.
        suffixes: of files that can hold the result.
        photometric: whether fluxes are measured in such files.
    """

    path: Path
    axes: str
    pages: list[PageKind]
    suffixes: tuple[str, ...]
    photometric: bool = False

    @abstractmethod
    def read(self, index: int) -> Page:
        """Read a page.

        Raises:
            PhotoError: it is damaged or missing.
        """

    def read_part(self, index: int, rows: slice, columns: slice) -> Page:
        """Read a part of a page; only what it needs, where the file allows that.

        Raises:
            PhotoError: it is damaged or missing.
        """
        return self.read(index)[rows, columns]

    @abstractmethod
    def along_first_axis(self, chosen: slice) -> list[int]:
        """Return the pages of some places of the first axis, in the order of the file.

        Raises:
            UsageError: it has no such axis.
        """

    @abstractmethod
    def write(
        self, target: Path, pages: Sequence[Page], chosen: slice, modified_ns: int | None = None
    ) -> None:
        """Write a file like this one, whole or not at all.

        Args:
            target: of the same suffix.
            pages: in the order of `along_first_axis`, each of its own shape and type.
            chosen: places of the first axis that the file shall have.
            modified_ns: see `atomic.whole_file`.

        Raises:
            OSError: it cannot be written.
        """

    def notes(self) -> list[str]:
        """Return what is odd in the file, as lines for people."""
        return []

    def header_noise(self, index: int) -> dict[str, float]:
        """Return what the file says of a page's noise: "gain" and "read_noise" in electrons."""
        del index
        return {}


@dataclass(frozen=True, kw_only=True)
class StackPhoto(Photo):
    """A stack among the photos of a batch; its pixels are those of no page, only of its size.

    Attributes:
        stack: the file.
    """

    stack: Stack


def photo_of_stack(stack: Stack) -> StackPhoto:
    """Wrap a stack as a photo of the size of its first page."""
    kind = stack.pages[0]
    pixels = np.broadcast_to(np.zeros(1, np.uint8), (*kind.shape[:2], 1))
    return StackPhoto(pixels=pixels, stack=stack, bits=8 * kind.dtype.itemsize)


def places(chosen: slice, length: int, path: Path) -> range:
    """Return the places of an axis that a slice takes.

    Raises:
        UsageError: none, or backwards.
    """
    found = range(length)[chosen]
    if found.step < 1:
        raise UsageError(f"pages of {path} backwards", "choose them forwards")
    if not found:
        raise UsageError(f"--pages takes none of the {length} pages of {path}", "choose others")
    return found


def check_dtype(path: Path, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type in native byte order.

    Raises:
        PhotoError: it is neither an integer nor a float.
    """
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise PhotoError(f"{path}: pixels of the type {dtype}", "convert them to numbers first")
    return dtype.newbyteorder("=")

"""Large pages are cut into blocks, which are denoised one by one, or by several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from amsnet_cli.stacks.stack import Page, PageKind, Stack

LONGEST_SIDE = 4096
"""Of a block, in pixels. Smaller pages stay whole."""
HALO = 128
"""Pixels around a block that are denoised with it: more than the shipped networks, and the filters
behind them, look far."""
_SLAB = 1 << 24
"""Bytes of the rows that are stored at once."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a page, or all of it.

    Attributes:
        page: its place in `Stack.pages`.
        top: first row.
        bottom: behind the last row.
        left: first column.
        right: behind the last column.
    """

    page: int
    top: int
    bottom: int
    left: int
    right: int

    def bytes(self, kind: PageKind) -> int:
        """Size in memory, of a page of this kind."""
        return int(np.prod(self.shape(kind))) * kind.dtype.itemsize

    def shape(self, kind: PageKind) -> tuple[int, ...]:
        """Shape of its pixels, of a page of this kind."""
        return (self.bottom - self.top, self.right - self.left, *kind.shape[2:])

    def with_halo(self, kind: PageKind) -> Block:
        """Return the block with what is around it in the page."""
        height, width = kind.shape[:2]
        return Block(
            page=self.page, top=max(0, self.top - HALO), bottom=min(height, self.bottom + HALO),
            left=max(0, self.left - HALO), right=min(width, self.right + HALO),
        )  # fmt: skip

    def read(self, stack: Stack) -> Page:
        """Read its pixels.

        Raises:
            PhotoError: they are damaged or missing.
        """
        kind = stack.pages[self.page]
        if self.shape(kind) == kind.shape:
            return stack.read(self.page)
        rows, columns = slice(self.top, self.bottom), slice(self.left, self.right)
        return stack.read_part(self.page, rows, columns)

    def cut_from(self, pixels: Page, around: Block) -> Page:
        """Return its pixels from those of a block around it."""
        rows = slice(self.top - around.top, self.bottom - around.top)
        return pixels[rows, self.left - around.left : self.right - around.left]


def blocks_of(index: int, kind: PageKind) -> list[Block]:
    """Cut a page into blocks of about the same size, row by row."""
    rows, columns = (_cuts(length) for length in kind.shape[:2])
    return [
        Block(page=index, top=top, bottom=bottom, left=left, right=right)
        for top, bottom in rows
        for left, right in columns
    ]


def slabs(page: Page) -> Iterator[Page]:
    """Yield the rows of a page in parts that are stored one after another."""
    rows = max(1, _SLAB // max(1, page[:1].nbytes))
    return (page[top : top + rows] for top in range(0, len(page), rows))


def _cuts(length: int) -> Sequence[tuple[int, int]]:
    count = max(1, -(-length // LONGEST_SIDE))
    places = [i * length // count for i in range(count + 1)]
    return list(pairwise(places))

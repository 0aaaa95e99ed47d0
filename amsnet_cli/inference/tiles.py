"""Cut images into overlapping tiles, and blend the results of any function of a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A rectangle of an image: rows [top, bottom), columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, x: Tensor) -> Tensor:
        """View this tile of (..., H, W)."""
        return x[..., self.top : self.bottom, self.left : self.right]

    def within(self, outer: Tile) -> Tile:
        """Return this tile, relative to the corner of `outer`, in the coordinates of `outer`."""
        return Tile(
            top=outer.top + self.top, bottom=outer.top + self.bottom,
            left=outer.left + self.left, right=outer.left + self.right,
        )  # fmt: skip

    def relative_to(self, outer: Tile) -> Tile:
        """Return this tile relative to the corner of `outer`; the inverse of `within`."""
        return Tile(
            top=self.top - outer.top, bottom=self.bottom - outer.top,
            left=self.left - outer.left, right=self.right - outer.left,
        )  # fmt: skip

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left


def plan_tiles(size: tuple[int, int], tile: int, overlap: int, align: int) -> list[Tile]:
    """Cover an image with tiles, row by row.

    Args:
        size: (H, W) of the image.
        tile: longest side of a tile; rounded down to a multiple of `align`, but at least `align`
            more than the overlap.
        overlap: least overlap of neighbours; rounded up to a multiple of `align`.
        align: tiles begin at multiples of this, so that strides and pooling have the same grid as
            in the whole image.

    Returns:
        Tiles that together cover the image; tiles of one row share top and bottom.
    """
    overlap = -(-overlap // align) * align
    tile = max(tile // align * align, overlap + align)

    def spans(length: int) -> list[tuple[int, int]]:
        count = max(1, -(-(length - overlap) // (tile - overlap)))
        # Equal steps: the last tile is not a narrow strip that is mostly overlap.
        step = -(-(length - overlap) // (count * align)) * align if count > 1 else length
        starts = range(0, max(1, length - overlap), step)
        return [(start, min(length, start + step + overlap)) for start in starts]

    return [
        Tile(top=top, bottom=bottom, left=left, right=right)
        for top, bottom in spans(size[0])
        for left, right in spans(size[1])
    ]


def run_in_bands(
    compute: Callable[[Tile], Tensor], tiles: Iterable[Tile]
) -> Iterator[tuple[int, Tensor]]:
    """Compute an image tile by tile, blend the overlaps, and yield rows as they are done.

    Only one row of tiles is held at a time. Where neighbours have equal values, so has the result.

    Args:
        compute: returns (B, C, h, w) for a tile.
        tiles: as from `plan_tiles`.

    Yields:
        The number of the first row, and (B, C, h, W) where `compute` returns its results; from the
        top down, without gaps.

    Raises:
        ValueError: there is no tile.
    """
    rows = [list(row) for _, row in groupby(tiles, key=lambda tile: tile.top)]
    if not rows:
        raise ValueError("no tiles")
    unfinished: Tensor | None = None
    for row, following in zip_longest(rows, rows[1:]):
        band: Tensor | None = None
        done_right = 0
        for tile in row:
            part = compute(tile)
            if band is None:
                band = part.new_empty((*part.shape[:3], row[-1].right))
            _blend_into(band, part, tile.left, done_right)
            done_right = tile.right
        assert band is not None
        if unfinished is not None:
            head = band.narrow(-2, 0, unfinished.shape[-2])
            torch.lerp(unfinished, head, _ramp(unfinished.shape[-2], band)[:, None], out=head)
        top, bottom = row[0].top, row[0].bottom
        done = following[0].top - top if following else bottom - top
        unfinished = band[..., done:, :].clone()
        yield top, band[..., :done, :]
        del band  # before the next is computed


def run_tiled(
    compute: Callable[[Tile], Tensor], tiles: Iterable[Tile], size: tuple[int, int]
) -> Tensor:
    """Compute a whole image by `run_in_bands`.

    Args:
        compute: returns (B, C, h, w) for a tile.
        tiles: as from `plan_tiles`.
        size: (H, W) of the image.

    Returns:
        (B, C, H, W) where `compute` returns its results.

    Raises:
        ValueError: there is no tile.
    """
    canvas: Tensor | None = None
    for top, band in run_in_bands(compute, tiles):
        if canvas is None:
            canvas = band.new_empty((*band.shape[:2], *size))
        canvas[..., top : top + band.shape[-2], :] = band
    assert canvas is not None
    return canvas


def _blend_into(band: Tensor, part: Tensor, left: int, done: int) -> None:
    """Copy `part` into `band` from column `left`, cross-fading with what ends at `done`."""
    shared = max(0, done - left)
    if shared:
        band.narrow(-1, left, shared).lerp_(part.narrow(-1, 0, shared), _ramp(shared, part))
    fresh = part.shape[-1] - shared
    band.narrow(-1, left + shared, fresh).copy_(part.narrow(-1, shared, fresh))


def _ramp(length: int, like: Tensor) -> Tensor:
    """Cross-fade weights, in [0, 1], of the second of two tiles over their overlap.

    They rise over the middle half of the overlap. In the outer quarters only one tile has weight:
    near its own edge, a tile lacks the pixels beyond it.
    """
    places = (torch.arange(length, dtype=like.dtype, device=like.device) + 0.5) / length
    return (2 * places - 0.5).clamp(0, 1)

"""Whole pictures in overlapped, blended tiles; knows nothing of masks or networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A rectangle of a picture: rows [top, bottom), columns [left, right)."""

    top: int
    bottom: int
    left: int
    right: int

    def of(self, x: Tensor) -> Tensor:
        """View this tile of (..., H, W)."""
        return x[..., self.top : self.bottom, self.left : self.right]


def plan_tiles(size: tuple[int, int], tile: int, overlap: int, align: int) -> list[Tile]:
    """Cover a picture with tiles, row by row.

    Args:
        size: (H, W) of the picture.
        tile: longest side of a tile; rounded to a multiple of `align`, and at least as much
            more than the overlap.
        overlap: by which neighbours overlap at least; rounded up to a multiple of `align`.
        align: tiles begin at multiples of this, so that strides and pooling fall as in the
            whole picture.

    Returns:
        Tiles that together cover the picture; tiles of one row share top and bottom.
    """
    overlap = -(-overlap // align) * align
    tile = max(tile // align * align, overlap + align)

    def spans(length: int) -> list[tuple[int, int]]:
        count = max(1, -(-(length - overlap) // (tile - overlap)))
        # Equal steps, so that the last tile is no sliver and costs no more than it must.
        step = -(-(length - overlap) // (count * align)) * align if count > 1 else length
        starts = range(0, max(1, length - overlap), step)
        return [(start, min(length, start + step + overlap)) for start in starts]

    return [
        Tile(top=top, bottom=bottom, left=left, right=right)
        for top, bottom in spans(size[0])
        for left, right in spans(size[1])
    ]


def run_tiled(
    compute: Callable[[Tile], Tensor], tiles: Iterable[Tile], size: tuple[int, int]
) -> Tensor:
    """Compute a picture tile by tile and blend the overlaps linearly.

    Where neighbours agree, the result is exactly what they agree on.

    Args:
        compute: gives the (B, C, h, w) of a tile.
        tiles: as from `plan_tiles`.
        size: (H, W) of the picture.

    Returns:
        (B, C, H, W) on the CPU.

    Raises:
        ValueError: there is no tile.
    """
    canvas: Tensor | None = None
    row: Tensor | None = None
    row_top = done_bottom = done_right = 0
    for tile in tiles:
        part = compute(tile).cpu()
        if canvas is None:
            canvas = part.new_empty((*part.shape[:2], *size))
        if tile.left == 0:
            if row is not None:
                _lay(canvas, row, row_top, done_bottom, -2)
                done_bottom = row_top + row.shape[-2]
            row = part.new_empty((*part.shape[:3], size[1]))
            row_top, done_right = tile.top, 0
        assert row is not None
        _lay(row, part, tile.left, done_right, -1)
        done_right = tile.right
    if canvas is None or row is None:
        raise ValueError("no tiles")
    _lay(canvas, row, row_top, done_bottom, -2)
    return canvas


def _lay(canvas: Tensor, part: Tensor, start: int, done: int, axis: int) -> None:
    """Put `part` at `start` along `axis`, fading over from what lies there up to `done`."""
    shared = max(0, done - start)
    if shared:
        below = canvas.narrow(axis, start, shared)
        above = part.narrow(axis, 0, shared)
        ramp = torch.arange(1, shared + 1, dtype=part.dtype) / (shared + 1)
        below.lerp_(above, ramp if axis == -1 else ramp[:, None])
    fresh = part.shape[axis] - shared
    canvas.narrow(axis, start + shared, fresh).copy_(part.narrow(axis, shared, fresh))

"""A picture by cells: what is measured and decided for small squares of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor

BLOCK_SIZE = 8
"""Side of a cell in pixels; the last ones of rows and columns may be smaller."""

Statistics = TypeVar("Statistics")


def block_means(x: Tensor) -> Tensor:
    """Average (N, H, W) by cells, (N, h, w)."""
    return F.avg_pool2d(x[None], BLOCK_SIZE, ceil_mode=True, count_include_pad=False)[0]


def stack_blocks(parts: Iterable[Statistics], height: int) -> Statistics:
    """Put the cells of a picture's parts, each below the one before, together.

    Each goes to its place at once: if many small tensors were kept while large ones come and go,
    they would leave the heap full of holes, hundreds of megabytes for a large picture.

    Args:
        parts: dataclasses of tensors (..., h, w), at least one; all but the last of whole cells.
        height: of the picture, in pixels.
    """
    whole: dict[str, Tensor] = {}
    top = 0
    for part in parts:
        below = top
        for name, values in vars(part).items():
            if not top:
                size = (*values.shape[:-2], -(-height // BLOCK_SIZE), values.shape[-1])
                whole[name] = values.new_empty(size)
            below = top + values.shape[-2]
            whole[name][..., top:below, :] = values
        top = below
    return type(part)(**whole)


def upsample_blocks(cells: Tensor, top: int, height: int, width: int) -> Tensor:
    """Bring values by cells to some rows of the picture, linearly between the cells' middles.

    Args:
        cells: (N, h, w), of the whole picture.
        top: the first row, a multiple of BLOCK_SIZE.
        height: how many rows.
        width: of the picture.

    Returns:
        (N, height, width).
    """
    first = top // BLOCK_SIZE
    above = min(1, first)
    around = cells[:, first - above : first + -(-height // BLOCK_SIZE) + 1]
    fine = F.interpolate(around[None], scale_factor=BLOCK_SIZE, mode="bilinear")[0]
    return fine[:, above * BLOCK_SIZE : above * BLOCK_SIZE + height, :width]

"""Reduce images to 8 x 8 blocks, and interpolate block values back to pixels."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch.nn.functional as F
from torch import Tensor

BLOCK_SIZE = 8
"""Side of a block in pixels; the last ones of rows and columns may be smaller."""

Blocks = TypeVar("Blocks")


def block_means(x: Tensor) -> Tensor:
    """Per-block means of (N, H, W), (N, h, w)."""
    return F.avg_pool2d(x[None], BLOCK_SIZE, ceil_mode=True, count_include_pad=False)[0]


class BlockStack(Generic[Blocks]):
    """Joins the blocks of an image's parts, from the top down.

    Each part is copied into one large tensor at once. Many small tensors kept between large,
    short-lived ones would fragment the heap, by hundreds of megabytes for a large image.

    Args:
        height: of the image, in pixels.
    """

    def __init__(self, height: int) -> None:
        self._height = height
        self._tensors: dict[str, Tensor] = {}
        self._filled = 0
        self._kind: type[Blocks] | None = None

    def add(self, part: Blocks) -> None:
        """Add the next part: a dataclass of tensors (..., h, w)."""
        self._kind = type(part)
        tensors: dict[str, Any] = vars(part)
        end = self._filled
        for name, values in tensors.items():
            if not self._filled:
                size = (*values.shape[:-2], -(-self._height // BLOCK_SIZE), values.shape[-1])
                self._tensors[name] = values.new_empty(size)
            end = self._filled + values.shape[-2]
            self._tensors[name][..., self._filled : end, :] = values
        self._filled = end

    def whole(self) -> Blocks:
        """Return the blocks of the whole image; at least one part was added."""
        assert self._kind is not None
        return self._kind(**self._tensors)


def upsample_blocks(blocks: Tensor, top: int, height: int, width: int) -> Tensor:
    """Interpolate block values linearly between the blocks' centres, for some rows of the image.

    Args:
        blocks: (N, h, w), of the whole image.
        top: the first row, a multiple of BLOCK_SIZE.
        height: how many rows.
        width: of the image.

    Returns:
        (N, height, width).
    """
    first = top // BLOCK_SIZE
    above = min(1, first)
    around = blocks[:, first - above : first + -(-height // BLOCK_SIZE) + 1]
    fine = F.interpolate(around[None], scale_factor=BLOCK_SIZE, mode="bilinear")[0]
    return fine[:, above * BLOCK_SIZE : above * BLOCK_SIZE + height, :width]

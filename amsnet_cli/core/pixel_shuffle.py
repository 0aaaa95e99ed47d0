"""Pixel-shuffle downsampling (PD): one image becomes stride * stride sub-images.

Neighbouring pixels of a sub-image are `stride` pixels apart in the image, which breaks the spatial
correlation of real camera noise (AP-BSN, and AMSNet after it).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Padding = Literal["reflection", "zeros"]


def pad_to_multiple(x: Tensor, multiple: int, padding: Padding = "reflection") -> Tensor:
    """Extend the bottom and right borders until both sides are multiples.

    Args:
        x: (..., H, W), any dtype, any size from 1x1 up.
        multiple: at least 1.
        padding: "reflection", repeated if the image is smaller than the border, or "zeros".

    Returns:
        (..., H', W') with H', W' the next multiples of `multiple`.
    """
    height, width = x.shape[-2:]
    rows, columns = -height % multiple, -width % multiple
    if padding == "zeros":
        return F.pad(x, (0, columns, 0, rows))
    if rows:
        x = x.index_select(-2, _reflected(height, height + rows, x.device))
    if columns:
        x = x.index_select(-1, _reflected(width, width + columns, x.device))
    return x


def _reflected(size: int, padded: int, device: torch.device) -> Tensor:
    period = max(1, 2 * (size - 1))
    index = torch.arange(padded, device=device) % period
    return torch.minimum(index, period - index) if size > 1 else index


def pd_down(x: Tensor, stride: int) -> Tensor:
    """Split images into sub-images, `x[..., i::stride, j::stride]` for each (i, j).

    Args:
        x: (B, C, H, W), any dtype; padded by reflection to multiples of `stride`.
        stride: s, at least 1.

    Returns:
        (B*s*s, C, ceil(H/s), ceil(W/s)), the offsets (i, j) in row-major order for each image.
    """
    if stride == 1:
        return x
    x = pad_to_multiple(x, stride)
    batch, channels, height, width = x.shape
    rows, columns = height // stride, width // stride
    x = x.reshape(batch, channels, rows, stride, columns, stride)  # (B, C, H/s, s, W/s, s)
    x = x.permute(0, 3, 5, 1, 2, 4)  # (B, s, s, C, H/s, W/s)
    return x.reshape(batch * stride * stride, channels, rows, columns)


def pd_up(sub_images: Tensor, stride: int, size: tuple[int, int]) -> Tensor:
    """Join sub-images again: `pd_up(pd_down(x, s), s, x.shape[-2:])` is exactly `x`.

    Args:
        sub_images: (B*s*s, C, H/s, W/s) in the order of `pd_down`.
        stride: s, as given to `pd_down`.
        size: (H, W) of the image; what `pd_down` padded is cropped off.

    Returns:
        (B, C, H, W).
    """
    if stride == 1:
        return sub_images
    count, channels, rows, columns = sub_images.shape
    batch = count // (stride * stride)
    x = sub_images.reshape(batch, stride, stride, channels, rows, columns)
    x = x.permute(0, 3, 4, 1, 5, 2)  # (B, C, H/s, s, W/s, s)
    x = x.reshape(batch, channels, rows * stride, columns * stride)
    return x[..., : size[0], : size[1]]

"""Bayer mosaic, and three ways to interpolate it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def mosaic(rgb: Tensor) -> Tensor:
    """Keep one colour per pixel, RGGB; (B, 3, H, W) -> (B, 1, H, W)."""
    bayer = rgb[:, 1:2].clone()
    bayer[..., 0::2, 0::2] = rgb[:, 0:1, 0::2, 0::2]
    bayer[..., 1::2, 1::2] = rgb[:, 2:3, 1::2, 1::2]
    return bayer


def demosaic(bayer: Tensor, kind: Tensor) -> Tensor:
    """Demosaic: bilinear, gradient-corrected linear (Malvar et al., 2004) or edge-aware.

    Args:
        bayer: (B, 1, H, W) float32, RGGB.
        kind: (B, 1, 1, 1) in [0, 1]: below .2 bilinear, above .65 edge-aware.

    Returns:
        (B, 3, H, W).
    """
    rgb = torch.where(kind < 0.2, _bilinear(bayer), _malvar(bayer))
    chosen = kind.flatten() > 0.65
    low, high = (f(bayer[chosen], dim=(1, 2, 3), keepdim=True) for f in (torch.amin, torch.amax))
    scale = 65535 / (high - low).clamp_min(1e-6)
    sensors = ((bayer[chosen] - low) * scale)[:, 0].cpu().numpy().astype(np.uint16)
    edge_aware = [cv2.cvtColor(sensor, cv2.COLOR_BayerRGGB2RGB_EA) for sensor in sensors]
    if edge_aware:
        images = torch.from_numpy(np.stack(edge_aware).astype(np.float32)).to(bayer.device)
        rgb[chosen] = images.permute(0, 3, 1, 2) / scale + low
    return rgb


def _sites(bayer: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Masks of the red, green and blue pixels, (1, 1, H, W) each."""
    red = torch.zeros_like(bayer[:1])
    red[..., 0::2, 0::2] = 1
    blue = torch.zeros_like(red)
    blue[..., 1::2, 1::2] = 1
    return red, 1 - red - blue, blue


def _filter(x: Tensor, kernel: list[list[float]]) -> Tensor:
    weight = x.new_tensor(kernel)[None, None]
    pad = weight.shape[-1] // 2
    return F.conv2d(F.pad(x, (pad, pad, pad, pad), mode="reflect"), weight)


def _bilinear(bayer: Tensor) -> Tensor:
    red, green, blue = _sites(bayer)
    cross = [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]
    plus = [[0.0, 0.25, 0.0], [0.25, 1.0, 0.25], [0.0, 0.25, 0.0]]
    return torch.cat(
        [_filter(bayer * red, cross), _filter(bayer * green, plus), _filter(bayer * blue, cross)],
        1,
    )


def _malvar(bayer: Tensor) -> Tensor:
    red, green, blue = _sites(bayer)
    at_cross = [
        [0, 0, -1 / 8, 0, 0],
        [0, 0, 2 / 8, 0, 0],
        [-1 / 8, 2 / 8, 4 / 8, 2 / 8, -1 / 8],
        [0, 0, 2 / 8, 0, 0],
        [0, 0, -1 / 8, 0, 0],
    ]
    along = [
        [0, 0, 1 / 16, 0, 0],
        [0, -1 / 8, 0, -1 / 8, 0],
        [-1 / 8, 4 / 8, 5 / 8, 4 / 8, -1 / 8],
        [0, -1 / 8, 0, -1 / 8, 0],
        [0, 0, 1 / 16, 0, 0],
    ]
    across = [list(column) for column in zip(*along, strict=True)]
    opposite = [
        [0, 0, -3 / 16, 0, 0],
        [0, 2 / 8, 0, 2 / 8, 0],
        [-3 / 16, 0, 6 / 8, 0, -3 / 16],
        [0, 2 / 8, 0, 2 / 8, 0],
        [0, 0, -3 / 16, 0, 0],
    ]
    cross, row, column, other = (_filter(bayer, k) for k in (at_cross, along, across, opposite))
    even_row = torch.zeros_like(red)
    even_row[..., 0::2, :] = 1
    red_row_green, blue_row_green = green * even_row, green * (1 - even_row)
    r = bayer * red + row * red_row_green + column * blue_row_green + other * blue
    g = bayer * green + cross * (red + blue)
    b = bayer * blue + column * red_row_green + row * blue_row_green + other * red
    return torch.cat([r, g, b], 1)

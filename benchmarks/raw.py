"""How well mosaics are denoised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rawpy
import torch
from torch import Tensor

from amsnet_cli.core.networks.mosaic import MosaicNetwork, denoise_stabilised
from amsnet_cli.device import fast_precision
from amsnet_cli.noise.sensor import SensorNoise

BORDER = 8
"""Photosites cut at each side before errors are measured."""


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """The mosaic of a RAW file.

    Attributes:
        values: (1, 1, H, W) float32, 0 at black and 1 at white.
        colours: (1, 3, H, W) float32: 1 where a photosite records red, green, blue.
        gains: (1, 1, H, W) float32: the camera's white balance, 1 for green.
    """

    values: Tensor
    colours: Tensor
    gains: Tensor


def read_mosaic(path: Path) -> Mosaic:
    """Read the visible part of a mosaic."""
    with rawpy.imread(str(path)) as raw:
        index = raw.raw_colors_visible
        black = np.array(raw.black_level_per_channel, np.float64)[index]
        values = (raw.raw_image_visible - black) / (raw.white_level - black)
        letters = np.array(list(raw.color_desc.decode()))[index]
        balance = np.array(raw.camera_whitebalance)
        gains = np.select([letters == c for c in "RGB"], list(balance[:3] / balance[1]))
    colours = np.stack([letters == c for c in "RGB"])
    return Mosaic(
        values=torch.from_numpy(values).float()[None, None],
        colours=torch.from_numpy(colours).float()[None],
        gains=torch.from_numpy(gains).float()[None, None],
    )


def denoise_mosaic(network: MosaicNetwork, mosaic: Mosaic, noise: SensorNoise) -> Tensor:
    """Denoise values, (1, 1, H, W), whose noise is known."""
    hidden = torch.zeros_like(mosaic.values, dtype=torch.bool)
    stabilised = noise.stabilise(mosaic.values)
    sigma = noise.sigma.float().reshape(1, 1, 1, 1)
    with fast_precision(torch.device("cpu")):
        denoised = denoise_stabilised(network, stabilised, sigma, mosaic.colours, hidden)
    return noise.unstabilise(denoised)


def psnr(values: Tensor, clean: Mosaic) -> float:
    """PSNR in dB of white-balanced mosaics with gamma 2.2: metric M."""
    a, b = (
        (x * clean.gains).clamp(0, 1).pow(1 / 2.2)[..., BORDER:-BORDER, BORDER:-BORDER]
        for x in (values, clean.values)
    )
    return -10 * math.log10(float((a - b).double().square().mean()))

"""Denoise the mosaic of a RAW file, before it is developed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from amsnet_cli.core.networks.mosaic import denoise_stabilised
from amsnet_cli.device import fast_precision
from amsnet_cli.inference.mosaic_noise import SensorNoiseFound, find_flaws
from amsnet_cli.inference.tiles import Tile, plan_tiles, run_in_bands
from amsnet_cli.mosaic_model import MosaicModel
from amsnet_cli.photos.mosaic import Mosaic

LEAST_SIDE = 32
"""Photosites to the side of the smallest mosaic that is denoised."""


@dataclass(frozen=True, kw_only=True)
class MosaicOptions:
    """How a mosaic is denoised.

    Attributes:
        strength: how much, 0 to 1: 0 keeps the mosaic bit for bit, 1 is the network's output.
        tile: longest side of the parts that are denoised at once, in photosites.
        overlap: photosites by which parts overlap at least.
    """

    strength: float = 1.0
    tile: int = 1024
    overlap: int = 64


def denoise_mosaic(
    mosaic: Mosaic,
    model: MosaicModel,
    noise: SensorNoiseFound,
    options: MosaicOptions = MosaicOptions(),
    *,
    device: torch.device,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Mosaic:
    """Denoise a mosaic whose noise is known.

    Noise of rows and columns is subtracted first, and defects are replaced by what is around them.
    Other photosites at which the sensor clips keep their values, so that highlights stay white.

    Args:
        mosaic: of any size.
        model: for mosaics.
        noise: as from `find_noise`.
        options: see `MosaicOptions`.
        device: where to compute.
        progress: called with the fraction done.

    Returns:
        The mosaic with other values, and the NoiseProfile that is left: none at full strength.
    """
    values = mosaic.values
    if options.strength == 0 or min(values.shape) < LEAST_SIDE:
        return mosaic
    height, width = values.shape
    planes = mosaic.planes()
    light = mosaic.light()
    flaws = find_flaws(mosaic, light, planes, noise)
    seen, defects = flaws.without_lines(light), flaws.defects
    network = model.network.to(device)
    align = network.multiple * 3  # of the six photosites of X-Trans, too
    tiles = plan_tiles((height, width), options.tile, options.overlap, align)
    done = 0

    def denoised(tile: Tile) -> Tensor:
        nonlocal done
        noisy = tile.of(torch.from_numpy(seen)[None, None]).to(device)
        colours = tile.of(torch.from_numpy(planes)[None]).to(device)
        law = noise.at(colours)
        hidden = tile.of(torch.from_numpy(defects)[None, None]).to(device)
        sigma = law.sigma.to(noisy).reshape(1, 1, 1, 1) if law.sigma.dim() == 0 else law.sigma
        with torch.no_grad(), fast_precision(device, network.runs_in_bfloat16):
            stabilised = denoise_stabilised(network, law.stabilise(noisy), sigma, colours, hidden)
        done += 1
        progress(done / len(tiles))
        return law.unstabilise(stabilised).float()

    result = light.copy()
    for top, band in run_in_bands(denoised, tiles):
        part = result[top : top + band.shape[2]]
        part += options.strength * (band[0, 0].numpy() - part)
    changed = mosaic.with_light(result)
    clipped = (values >= mosaic.saturation) & ~defects
    kept = mosaic.with_values(np.where(clipped, values, changed.values))
    left = (1 - options.strength) ** 2
    profile = tuple((left * s, left * o) for s, o in mosaic.noise_profile) if left else ()
    return replace(kept, noise_profile=profile)

"""Denoise the mosaic of a RAW file, before it is developed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from amsnet_cli.core.networks.mosaic import denoise_stabilised
from amsnet_cli.inference.memory import memory_errors, release_memory, reuse_memory
from amsnet_cli.inference.mosaic_noise import Flaws, SensorNoiseFound, find_flaws
from amsnet_cli.inference.run import in_fastest_precision
from amsnet_cli.inference.tile_size import TileNeeds, TileRunner
from amsnet_cli.inference.tiles import Tile
from amsnet_cli.mosaic_model import MosaicModel
from amsnet_cli.photos.mosaic import Box, Mosaic
from amsnet_cli.postprocess.mosaic_blend import MosaicBlend, kept_noise, likely_detail

LEAST_SIDE = 32
"""Photosites to the side of the smallest mosaic that is denoised."""

_LARGE = 1 << 20
"""Photosites from which freed memory is worth the time to return it to the system."""

FULL = MosaicBlend()
"""All that the network removes."""


@dataclass(frozen=True, kw_only=True)
class MosaicOptions:
    """How a mosaic is denoised.

    Attributes:
        strength: by how much the measured noise is multiplied before the network is told it, > 0.
        blend: how much of what the network removes is removed; nothing keeps the mosaic bit for
            bit.
        region: the only part that is denoised: top, bottom, left, right, in photosites of the
            active area; None for all.
        tile: longest side of the parts that are denoised at once, in photosites; 0 chooses by the
            free memory.
        max_memory: memory budget of this process on the device, in bytes; None for no limit.
        afterwards: bytes of RAM that the caller needs once the mosaic is denoised.
        overlap: photosites by which parts overlap, unless the network's reach is less.
    """

    strength: float = 1.0
    blend: MosaicBlend = FULL
    region: Box | None = None
    tile: int = 0
    max_memory: int | None = None
    afterwards: int = 0
    overlap: int = 64


def denoise_mosaic(
    mosaic: Mosaic,
    model: MosaicModel,
    noise: SensorNoiseFound,
    options: MosaicOptions = MosaicOptions(),
    *,
    flaws: Flaws | None = None,
    device: torch.device,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Mosaic:
    """Denoise a mosaic whose noise is known.

    Noise of rows and columns is subtracted first, and defects are replaced by what is around them.
    Other photosites at which the sensor clips keep their values, so that highlights stay white. The
    mosaic is only held as it is stored; in float32 there is one row of tiles at a time.

    Args:
        mosaic: of any size; one smaller than `LEAST_SIDE` is returned as it is.
        model: for mosaics.
        noise: as from `find_noise`.
        options: see `MosaicOptions`.
        flaws: as from `find_flaws`; None to look for them.
        device: where to compute.
        progress: called with the fraction done.

    Returns:
        The mosaic with other values, and the NoiseProfile that is left: none if all is removed.

    Raises:
        WeightsError: the network gives NaN.
        DeviceError: out of memory, or the memory budget is too small for any tile.
    """
    values, blend = mosaic.values, options.blend
    if blend.luma == blend.chroma == 0 or min(values.shape) < LEAST_SIDE:
        return mosaic
    if options.max_memory is None:
        reuse_memory()
    flaws = flaws or find_flaws(mosaic, noise)
    network = model.network.to(device)
    top, bottom, left, right = options.region or (0, values.shape[0], 0, values.shape[1])
    region = Tile(top=top, bottom=bottom, left=left, right=right)
    removed_power, left_power, noise_power = 0.0, 0.0, 0.0
    weaker = options.strength < 1

    def denoised(tile: Tile) -> Tensor:
        """Return the light of a tile, (1, 1, h, w)."""
        nonlocal removed_power, left_power, noise_power
        part = tile.top, tile.bottom, tile.left, tile.right
        stored = mosaic.light(part)
        light, seen, hidden = (
            torch.from_numpy(x)[None, None].to(device)
            for x in (
                stored,
                flaws.without_lines(stored, part),
                flaws.defects[tile.top : tile.bottom, tile.left : tile.right],
            )
        )
        colours = torch.from_numpy(mosaic.planes(part))[None].to(device)
        law = noise.at(colours)
        sigma = law.sigma.to(light).reshape(1, 1, 1, 1) if law.sigma.dim() == 0 else law.sigma
        y = law.stabilise(seen)
        cleaned = denoise_stabilised(network, y, options.strength * sigma, colours, hidden)
        clean = law.unstabilise(cleaned).float()
        if weaker:
            noise_power += _sum(law.variance(clean).expand_as(clean))
        if blend == FULL and not weaker:
            return clean
        removed = light - clean
        gains = 1 / torch.tensor(mosaic.neutral or (1.0, 1.0, 1.0))
        stays = kept_noise(removed, colours, gains, blend)
        removed_power += _sum(removed, 2)
        left_power += _sum(stays, 2)
        if blend.detail:
            share = blend.detail * likely_detail((y - cleaned) / sigma, blend)
            stays = stays + share * (removed - stays)
        return clean + stays

    # Bayer mosaics are aligned to two photosites, X-Trans to six.
    align = math.lcm(network.multiple, *mosaic.colours.shape)
    overlap = -(-min(options.overlap, network.reach) // align) * align
    runner = TileRunner(
        network, "mosaic", values.shape, region, TileNeeds(align=align, overlap=overlap),
        device=device, rounds=1, progress=progress,
    )  # fmt: skip
    with memory_errors(device):
        compute = in_fastest_precision(
            denoised, model.name, device, allowed=network.runs_in_bfloat16
        )
        runner.plan(
            compute, options.tile,
            max_memory=options.max_memory, reserve=mosaic.frame.nbytes,
            afterwards=options.afterwards,
        )  # fmt: skip
        removed_power = left_power = noise_power = 0.0  # without the probe's
        frame = mosaic.frame.copy()
        result = replace(mosaic, frame=frame)
        for start, band in runner.bands(compute):
            rows = top + start, top + start + band.shape[2], left, right
            area = np.s_[rows[0] : rows[1], left:right]
            before = values[area]
            clipped = (before >= mosaic.saturation) & ~flaws.defects[area]
            after = mosaic.stored(band[0, 0].cpu().numpy(), rows)
            result.values[area] = np.where(clipped, before, after)
    if values.size > _LARGE:
        release_memory(torch.device("cpu"))
    share = left_power / removed_power if removed_power else 0.0
    if noise_power:  # Told weaker noise, the network removes a part of each deviation.
        removed = min(1.0, (removed_power / noise_power) ** 0.5) * (1 - share**0.5)
        share = (1 - removed) ** 2
    profile = tuple((share * s, share * o) for s, o in mosaic.noise_profile) if share else ()
    return replace(result, noise_profile=profile)


def _sum(values: Tensor, power: int = 1) -> float:
    """Sum of a power, in float64; Apple's GPUs have none, so there the rows are summed first."""
    if values.device.type == "mps":
        return float(values.pow(power).sum(-1).cpu().double().sum())
    return float(values.double().pow(power).sum())

"""Run a network over the rows of an image: single pass, multi-mask inference, refinement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from amsnet_cli.core.masks import partition_masks
from amsnet_cli.core.multi_mask import multi_mask_pass, random_replacement, self_ensemble
from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.device import fast_precision
from amsnet_cli.errors import WeightsError
from amsnet_cli.inference.memory import reuse_memory
from amsnet_cli.inference.tile_size import Compute, TileNeeds, TileRunner
from amsnet_cli.inference.tiles import Tile
from amsnet_cli.model import Inference, Model

MAX_OVERLAP = 96
"""Largest overlap of tiles, in pixels of a sub-image.

Tiles overlap by the network's reach (the radius of its receptive field) if that is less. Then tiles
change nothing, except by padding. Pixels farther away hardly matter. With random weights, the
paper's U-Net (reach 157) changes by 1 % of the image's contrast at the very edge of such a tile,
and blending gives the edge no weight. Networks that pool globally see another mean in each tile,
whatever the overlap.
"""
_REFINEMENT_COPIES = 6
"""Float32 images that refinement holds at a time."""
_MUCH_MEMORY = 16_000_000
"""Pixels above which freed memory is returned at once: reuse would fragment the heap."""


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Memory that tiles may use, and memory that they must leave free.

    Attributes:
        tile: longest side of a tile in pixels; 0 chooses by the free memory.
        max_memory: memory budget of this process on the device, in bytes; None for no limit.
        reserve: bytes of the device that the caller is about to fill.
        afterwards: further bytes of the device that it needs once all rows are computed.
    """

    tile: int = 0
    max_memory: int | None = None
    reserve: int = 0
    afterwards: int = 0


def run_network(
    noisy: Compute,
    size: tuple[int, int],
    wanted: Tile,
    model: Model,
    inference: Inference,
    *,
    noise: PhotoNoise | None = None,
    memory: MemoryPlan = MemoryPlan(),
    device: torch.device = torch.device("cpu"),
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Iterator[tuple[int, Tensor]]:
    """Denoise a region of an image and yield its rows as they are done.

    Args:
        noisy: returns (1, 3, h, w) of a tile, float32 in [0, 1], on `device`.
        size: (H, W) of the image.
        wanted: the region; the surrounding pixels that it depends on are computed as well.
        model: moved to `device`.
        inference: used instead of the model's own.
        noise: of the image, for a network that is told it; None estimates it in every tile.
        memory: see `MemoryPlan`.
        device: where to compute.
        seed: of the masks; they are drawn for the whole image, however it is cut into tiles.
        progress: called with the share done, in (0, 1].

    Yields:
        The first row, counted from the top of `wanted`, and (1, 3, h, w) float32, finite, not
        clipped, on `device`.

    Raises:
        WeightsError: the network gives NaN even in float32.
        DeviceError: the memory budget is too small for any tile.
    """
    if memory.max_memory is None and math.prod(size) <= _MUCH_MEMORY:
        reuse_memory()
    network = partial(
        model.network.to(device).eval(), noise=None if noise is None else noise.to(device)
    )
    single = inference.passes == "single"
    generator = torch.Generator().manual_seed(seed)
    repeats = 0 if single else inference.repeats
    masks = [partition_masks(inference.n_masks, (1, *size), generator) for _ in range(repeats)]

    def denoised(part: Tile) -> Tensor:
        x = noisy(part)
        if single:
            return self_ensemble(network, x, inference.ensemble)
        total = torch.zeros_like(x)
        for mask in masks:
            here = part.of(mask).to(device)
            total += multi_mask_pass(network, x, here, inference.n_masks, inference.stride)
        return total / repeats

    rounds = 0 if single or not inference.refine else inference.refine_repeats
    tiles = TileRunner(
        model.network, inference, size, wanted, _tile_needs(model, inference),
        device=device, rounds=1 + rounds, progress=progress,
    )  # fmt: skip
    reserve = memory.reserve
    if rounds:
        reserve += _REFINEMENT_COPIES * 3 * 4 * math.prod(tiles.around.size)
    first_pass = in_fastest_precision(
        denoised, model.name, device, allowed=model.network.network.runs_in_bfloat16
    )
    tiles.plan(
        first_pass, memory.tile,
        max_memory=memory.max_memory, reserve=reserve, afterwards=memory.afterwards,
    )  # fmt: skip
    if not rounds:
        yield from tiles.bands(first_pass)
        return
    around = tiles.around
    start, whole = tiles.whole(first_pass), noisy(around)
    refined = torch.zeros_like(start)
    for _ in range(rounds):
        mixed = random_replacement(start, whole, inference.refine, generator)
        mask = partition_masks(inference.n_masks, (1, *around.size), generator)

        def again(part: Tile, mixed: Tensor = mixed, mask: Tensor = mask) -> Tensor:
            here = part.relative_to(around)
            return multi_mask_pass(
                network, here.of(mixed), here.of(mask).to(device), inference.n_masks
            )

        refined += tiles.whole(
            in_fastest_precision(
                again, model.name, device, allowed=model.network.network.runs_in_bfloat16
            )
        )
    inner = wanted.relative_to(around)
    yield 0, inner.of(refined / rounds)


def _tile_needs(model: Model, inference: Inference) -> TileNeeds:
    stride = 1 if inference.passes == "single" else inference.stride
    align = stride * model.network.network.multiple
    reach = model.network.network.reach
    overlap = stride * min(MAX_OVERLAP if reach is None else reach, MAX_OVERLAP)
    return TileNeeds(align=align, overlap=-(-overlap // align) * align)


def in_fastest_precision(
    compute: Compute, name: str, device: torch.device, *, allowed: bool
) -> Compute:
    """Compute a tile in bfloat16 where that is faster, and again in float32 if it gives NaN.

    Args:
        compute: returns the result of a tile.
        name: of the model, for messages.
        device: where it computes.
        allowed: whether bfloat16 may be used.
    """

    def computed(part: Tile) -> Tensor:
        with torch.no_grad(), fast_precision(device, allowed) as fast:
            result = compute(part)
        if fast and not result.isfinite().all():
            with torch.no_grad():
                result = compute(part)  # in float32
        if not result.isfinite().all():
            raise WeightsError(
                f"model {name} gives NaN for this photo", "use other weights with -w"
            )
        return result

    return computed

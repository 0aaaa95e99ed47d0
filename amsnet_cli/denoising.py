"""Denoise one photo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from amsnet_cli.core.blend import blend
from amsnet_cli.core.inference import multi_mask_pass, random_replacement, single_pass
from amsnet_cli.core.masks import partition_masks
from amsnet_cli.core.tiling import Tile, plan_tiles, run_tiled
from amsnet_cli.device import fast_precision, memory_errors
from amsnet_cli.errors import UsageError, WeightsError
from amsnet_cli.model import Inference, Model
from amsnet_cli.photos.photo import Photo, unit_range, with_unit_pixels

AUTO_TILE = 1024
OVERLAP = 72
"""Pixels by which tiles overlap: more than the default network sees to each side."""


@dataclass(frozen=True, kw_only=True)
class DenoiseOptions:
    """What may be asked for beyond what the model says of itself; None is as the model says.

    Attributes:
        n_masks: number of complementary masks; 1 for the single pass.
        repeats: sets of masks averaged.
        refine: share of pixels put back by random replacement refinement, 0 for none.
        strength: 0 gives the photo back, 1 is the network's result, linear between.
        luma: strength for brightness; None is as `strength`.
        chroma: strength for colour; None is as `strength`.
        detail: share of lost texture given back, see `core.blend`.
        tile: longest side of a tile in pixels; 0 chooses.
        seed: of the masks.
    """

    n_masks: int | None = None
    repeats: int | None = None
    refine: float | None = None
    strength: float = 1.0
    luma: float | None = None
    chroma: float | None = None
    detail: float = 0.0
    tile: int = 0
    seed: int = 0


def denoise(
    photo: Photo,
    model: Model,
    options: DenoiseOptions = DenoiseOptions(),
    *,
    device: torch.device = torch.device("cpu"),
    progress: Callable[[float], None] = lambda share: None,
) -> Photo:
    """Denoise a photo with a model.

    Args:
        photo: any depth, grey or RGB; transparency and metadata are passed on.
        model: moved to `device`.
        options: see `DenoiseOptions`.
        device: where to compute.
        progress: called with the share done, in (0, 1].

    Returns:
        A photo of the same size, depth and metadata.

    Raises:
        UsageError: the options do not fit the model.
        WeightsError: the network gives NaN; nothing of it is returned.
        DeviceError: out of memory.
    """
    inference = _settle(model, options)
    pixels, low, high = unit_range(photo)
    noisy = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # (1, C, H, W)
    with memory_errors(device):
        denoised = denoise_tensor(
            noisy.expand(-1, 3, -1, -1), model, inference,
            device=device, tile=options.tile, seed=options.seed, progress=progress,
        )  # fmt: skip
        if noisy.shape[1] == 1:
            denoised = denoised.mean(1, keepdim=True)
        luma = options.strength if options.luma is None else options.luma
        chroma = options.strength if options.chroma is None else options.chroma
        if (luma, chroma, options.detail) != (1, 1, 0):
            denoised = blend(noisy[0], denoised[0], luma, chroma, options.detail)[None]
    result = np.ascontiguousarray(denoised[0].permute(1, 2, 0).numpy())  # (H, W, C)
    return with_unit_pixels(photo, result, low, high)


def denoise_tensor(
    noisy: Tensor,
    model: Model,
    inference: Inference,
    *,
    device: torch.device = torch.device("cpu"),
    tile: int = 0,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Denoise a picture as `inference` says, tile by tile.

    Args:
        noisy: (1, 3, H, W) float32 in [0, 1], on the CPU.
        model: moved to `device`.
        inference: used instead of the model's own.
        device: where to compute.
        tile: longest side of a tile in pixels; 0 chooses.
        seed: of the masks.
        progress: called with the share done.

    Returns:
        (1, 3, H, W) float32, finite, not clipped, on the CPU.

    Raises:
        WeightsError: the network gives NaN even in float32.
    """
    network = model.network.to(device).eval()
    size = (noisy.shape[-2], noisy.shape[-1])
    single = inference.passes == "single"
    stride = 1 if single else inference.stride
    align = stride * network.network.multiple
    tiles = plan_tiles(size, tile or AUTO_TILE, OVERLAP * stride, align)
    generator = torch.Generator().manual_seed(seed)
    repeats = 1 if single else inference.repeats
    rounds = inference.refine_repeats if inference.refine and not single else 0
    total, done = len(tiles) * (repeats + rounds), 0

    def run(compute: Callable[[Tile], Tensor]) -> Tensor:
        def safely(part: Tile) -> Tensor:
            nonlocal done
            with fast_precision(device, network.network.runs_in_bfloat16) as fast:
                result = compute(part)
            if fast and not result.isfinite().all():
                result = compute(part)  # in float32
            if not result.isfinite().all():
                raise WeightsError(
                    f"model {model.name} gives NaN for this photo", "use other weights with -w"
                )
            done += 1
            progress(done / total)
            return result

        return run_tiled(safely, tiles, size)

    def at(part: Tile, x: Tensor) -> Tensor:
        return part.of(x).to(device)

    with torch.no_grad():
        if single:
            return run(lambda part: single_pass(network, at(part, noisy)))
        denoised = torch.zeros_like(noisy)
        for _ in range(repeats):
            index = partition_masks(inference.n_masks, (1, *size), generator)

            def masked(part: Tile, index: Tensor = index) -> Tensor:
                return multi_mask_pass(
                    network, at(part, noisy), at(part, index), inference.n_masks, stride
                )

            denoised += run(masked)
        denoised /= repeats
        if not rounds:
            return denoised
        refined = torch.zeros_like(noisy)
        for _ in range(rounds):
            mixed = random_replacement(denoised, noisy, inference.refine, generator)
            index = partition_masks(inference.n_masks, (1, *size), generator)

            def remasked(part: Tile, mixed: Tensor = mixed, index: Tensor = index) -> Tensor:
                return multi_mask_pass(network, at(part, mixed), at(part, index), inference.n_masks)

            refined += run(remasked)
        return refined / rounds


def _settle(model: Model, options: DenoiseOptions) -> Inference:
    inference = model.config.inference
    if options.n_masks == 1:
        if inference.passes == "multi":
            raise UsageError(
                f"model {model.name} has only learned hidden pixels, it has no single pass",
                "use --masks 2 or more",
            )
        if options.repeats or options.refine:
            raise UsageError(
                "the single pass has no masks to repeat or refine", "use --masks 2 or more"
            )
    elif options.n_masks or options.repeats or options.refine:
        inference = replace(inference, passes="multi")
    if options.n_masks and options.n_masks > 1:
        inference = replace(inference, n_masks=options.n_masks)
    if options.repeats is not None:
        inference = replace(inference, repeats=options.repeats)
    if options.refine is not None:
        inference = replace(inference, refine=options.refine)
    return inference

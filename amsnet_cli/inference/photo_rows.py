"""Stream the stored rows of a photo through the network and through the post-processing.

The photo and the network's output are only held as they are stored: in 8 or 16 bits, or as float32
if the photo is. The output stays on the device until it is corrected. Some rows at a time of the
photo are sent there, and the result comes back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.inference.memory import RELEASES_VALUES, release_memory, release_values
from amsnet_cli.inference.run import MemoryPlan, run_network
from amsnet_cli.inference.tensor_codec import converts_on, dtype_of, to_stored, to_unit
from amsnet_cli.inference.tiles import Tile
from amsnet_cli.model import Inference, Model
from amsnet_cli.photos.photo import Photo, Pixels
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.config import PostprocessConfig
from amsnet_cli.postprocess.pipeline import (
    BlendSettings,
    Corrector,
    ImageStatistics,
    Statistics,
    memory_needed,
    row_parts,
)

_LARGE_PHOTO = 1 << 20
"""Pixels from which freed memory is worth the time to return it to the system."""


def run_photo(
    photo: Photo,
    box: Tile,
    codec: PixelCodec,
    model: Model,
    inference: Inference,
    *,
    noise: PhotoNoise | None = None,
    tile: int = 0,
    max_memory: int | None = None,
    device: torch.device = torch.device("cpu"),
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Tensor:
    """Run a network over a region of a photo.

    Args:
        photo: any depth, grey or RGB.
        box: the region, in stored pixels.
        codec: of the photo.
        model: moved to `device`.
        inference: how it is run.
        noise: of the photo, for a network that is told it.
        tile: longest side of a tile in pixels; 0 chooses by the free memory.
        max_memory: memory budget of this process on the device, in bytes; None for no limit.
        device: where to compute.
        seed: of the masks.
        progress: called with the share done, in (0, 1].

    Returns:
        The raw output, (H, W, C) stored by `intermediate(codec)`, on `device`; of float pictures
        and linear light on the CPU.

    Raises:
        WeightsError: the network gives NaN.
        DeviceError: the memory budget is too small for any tile.
    """
    wide = intermediate(codec)
    (height, width), channels = box.size, photo.pixels.shape[2]

    def noisy(part: Tile) -> Tensor:
        stored = photo.pixels[part.top : part.bottom, part.left : part.right]
        return to_unit(codec, stored, device)[None].expand(-1, 3, -1, -1)  # (1, 3, h, w)

    output = torch.empty(
        (height, width, channels), dtype=dtype_of(wide), device=converts_on(codec, device)
    )
    narrowed = 0 if codec.dtype == wide.dtype or RELEASES_VALUES else output.nbytes // 2
    rows = run_network(
        noisy, (photo.pixels.shape[0], photo.pixels.shape[1]), box, model, inference,
        noise=noise,
        memory=MemoryPlan(
            tile=tile, max_memory=max_memory, reserve=output.nbytes,
            afterwards=memory_needed(height, width, device) + narrowed,
        ),
        device=device, seed=seed, progress=progress,
    )  # fmt: skip
    for top, band in rows:
        colours = band[0] if channels == 3 else band[0].mean(0, keepdim=True)
        for start, end in row_parts(colours.shape[1], width, device):
            output[top + start : top + end] = to_stored(wide, colours[:, start:end])
        del band, colours
        _release_heap(output)
    return output


def postprocess_photo(
    noisy: Photo,
    output: Tensor,
    codec: PixelCodec,
    blend: BlendSettings,
    config: PostprocessConfig = PostprocessConfig(),
    *,
    device: torch.device = torch.device("cpu"),
) -> Photo:
    """Blend the network's output with the noisy photo and correct it; see `postprocess.pipeline`.

    Args:
        noisy: the region of the photo that the network was run over.
        output: from `run_photo`; overwritten.
        codec: of the whole photo.
        blend: how much of the residual is removed.
        config: stages and numbers.
        device: where to compute.

    Returns:
        The photo with denoised pixels.
    """
    statistics = photo_statistics(noisy, output, codec, config, device=device)
    corrector = Corrector(statistics, blend, config)
    _release_heap(output)
    return correct_photo(noisy, output, codec, corrector, device=device)


def photo_statistics(
    noisy: Photo,
    output: Tensor,
    codec: PixelCodec,
    config: PostprocessConfig = PostprocessConfig(),
    *,
    device: torch.device = torch.device("cpu"),
) -> ImageStatistics:
    """Collect the statistics of a photo and its residual; arguments as for `postprocess_photo`."""
    wide = intermediate(codec)
    height, width, channels = noisy.pixels.shape
    statistics = Statistics(height, width, channels, config)
    for top, end in row_parts(height, width, device):
        statistics.add(
            to_unit(codec, noisy.pixels[top:end], device), to_unit(wide, output[top:end], device)
        )
    return statistics.finish()


def correct_photo(
    noisy: Photo,
    output: Tensor,
    codec: PixelCodec,
    corrector: Corrector,
    *,
    device: torch.device = torch.device("cpu"),
) -> Photo:
    """Correct the rows of a photo; arguments as for `postprocess_photo`."""
    wide = intermediate(codec)
    height, width = output.shape[:2]
    # Each row of the output is read before it is overwritten.
    here = codec.dtype == wide.dtype and output.device.type == "cpu"
    pixels: Pixels = output.numpy() if here else np.empty(output.shape, codec.dtype)
    for top, end in row_parts(height, width, device):
        below = int(end < height)
        denoised = to_unit(wide, output[top : end + below], device)
        stored = noisy.pixels[top:end]
        corrected = corrector.apply(to_unit(codec, stored, device), denoised)
        pixels[top:end] = codec.restore(to_stored(codec, corrected).cpu().numpy(), stored)
        if not here:
            release_values(output[top:end])
    _release_heap(output)
    return replace(noisy, pixels=pixels)


def intermediate(codec: PixelCodec) -> PixelCodec:
    """Return the codec of the network's output: at least 16 bits, as it is rounded again later."""
    return replace(codec, dtype=np.uint16) if codec.dtype == np.uint8 else codec


def _release_heap(pixels: Tensor) -> None:
    """Return freed memory to the system, for a large photo."""
    if math.prod(pixels.shape[:2]) > _LARGE_PHOTO:
        release_memory(torch.device("cpu"))

"""Denoise one photo."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from amsnet_cli.core.masks import partition_masks
from amsnet_cli.core.multi_mask import multi_mask_pass, random_replacement, single_pass
from amsnet_cli.core.networks import MaskedNetwork
from amsnet_cli.device import (
    PeakMemory,
    fast_precision,
    free_memory,
    is_out_of_memory,
    memory_errors,
    release_memory,
    reuse_memory,
)
from amsnet_cli.errors import DeviceError, UsageError, WeightsError
from amsnet_cli.inference.photo_noise import photo_noise_level
from amsnet_cli.inference.tiles import Tile, plan_tiles, run_in_bands, run_tiled
from amsnet_cli.model import Inference, Model
from amsnet_cli.noise.level import is_white
from amsnet_cli.photos.geometry import cropped, stored_box
from amsnet_cli.photos.jpeg_history import estimate_quantisation_step
from amsnet_cli.photos.photo import Photo, Pixels
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.block_stats import BlockStats, block_stats
from amsnet_cli.postprocess.blocks import BLOCK_SIZE, stack_blocks, upsample_blocks
from amsnet_cli.postprocess.brightness import ResidualHistogram, correct_brightness
from amsnet_cli.postprocess.residual_noise import smooth_residual_noise, smoothing_weights
from amsnet_cli.postprocess.sharpness import clip_radius, limit_sharpness
from amsnet_cli.postprocess.texture import blend_residual, blend_weights, is_weak, noise_confidence

MAX_OVERLAP = 96
"""Pixels of a sub-image by which tiles overlap at most.

A network's reach where that is less, so that tiles change nothing but the paddings' share. What
lies farther off hardly counts: with random weights, the paper's U-Net (reach 157) changes by 1 %
of the picture's contrast at the very edge of such a tile, where blending leaves nothing of it.
Networks that pool globally see another mean in each tile, whatever the overlap.
"""
LARGEST_TILE = {"cpu": 1024, "mps": 1024, "cuda": 2048}
"""Longest side in pixels that is chosen, however much memory there is."""
MEMORY_SHARE = 0.4
"""How much of the free memory a tile may take: operators use some that cannot be foreseen."""
_REFINED = 6
"""Float32 pictures that refinement holds at a time."""

_PROBE = 128
_TRIALS: WeakKeyDictionary[MaskedNetwork, dict[tuple[Inference, torch.device], float]] = (
    WeakKeyDictionary()
)
"""Bytes for each pixel of a tile, as a trial found: it takes as long as a small picture."""
_SMALL_PICTURE = 1024
"""Side in pixels up to which a picture is one tile without a trial."""

_MUCH_MEMORY = 16_000_000
"""Pixels from which memory is given back at once: what is reused is never laid out as densely."""

_FUSED = 1 << 18
"""Pixels that are fused at a time."""

_TELLING = 1 << 17
"""Pixels that tell whether noise is white, about."""

Compute = Callable[[Tile], Tensor]


@dataclass(frozen=True, kw_only=True)
class DenoiseOptions:
    """What may be asked for beyond what the model says of itself; None is as the model says.

    Attributes:
        n_masks: number of complementary masks; 1 for the single pass.
        stride: of the pixel-shuffle downsampling around the masks.
        repeats: sets of masks averaged.
        refine: share of pixels put back by random replacement refinement, 0 for none.
        strength: 0 gives the photo back, 1 is the network's result, linear between; None takes
            back what was structure and not noise (`core.fusion`), smooths the faint noise that
            the network left (`core.remains`), sets the brightness of lopsided noise right
            (`core.brightness`), and leaves nothing finer than interpolated noise
            (`core.resolution`).
        luma: strength for brightness; None is as `strength`.
        chroma: strength for colour; None is as `strength`.
        detail: share of lost texture given back, in [0, 1].
        tile: longest side of a tile in pixels; 0 chooses by the memory that is free.
        max_memory: bytes that this process may use on the device, None for all that is free. On
            the CPU its peak stays below, the interpreter and the photo itself included; only
            encoding the result as WebP, AVIF or progressive JPEG can take more.
        crop: only this region: x, y, width, height in pixels of the upright picture; what was
            structure is told from the region alone.
        seed: of the masks.
    """

    n_masks: int | None = None
    stride: int | None = None
    repeats: int | None = None
    refine: float | None = None
    strength: float | None = None
    luma: float | None = None
    chroma: float | None = None
    detail: float = 0.0
    tile: int = 0
    max_memory: int | None = None
    crop: tuple[int, int, int, int] | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Denoised:
    """A denoised photo, and what is known of it.

    Attributes:
        photo: of the same depth and metadata as the input, of the same size or that of the crop.
        model: the model that was used: the given one, or that for white noise.
        noisy: the input, or the crop of it.
    """

    photo: Photo
    model: Model
    noisy: Photo

    @cached_property
    def noise_before(self) -> float:
        """Noise level of the input on a scale of 255; nan where it cannot be measured."""
        return photo_noise_level(self.noisy)

    @cached_property
    def noise_after(self) -> float:
        """Noise level of the result on a scale of 255; nan where it cannot be measured."""
        return photo_noise_level(self.photo)


def denoise(
    photo: Photo,
    model: Model,
    options: DenoiseOptions = DenoiseOptions(),
    *,
    device: torch.device = torch.device("cpu"),
    progress: Callable[[float], None] = lambda share: None,
) -> Denoised:
    """Denoise a photo with a model.

    The whole picture is only held as it is stored; in float32 it is a row of tiles at a time (but
    for `refine`, which needs it several times over).

    Args:
        photo: any depth, grey or RGB; transparency and metadata are passed on.
        model: moved to `device`.
        options: see `DenoiseOptions`.
        device: where to compute.
        progress: called with the share done, in (0, 1].

    Returns:
        A photo of the same depth and metadata, of the same size or that of the crop.

    Raises:
        UsageError: the options do not fit the model.
        PhotoError: the crop is not within the photo.
        WeightsError: the network gives NaN; nothing of it is returned.
        DeviceError: out of memory, even with small tiles.
    """
    given, model = model, select_model(photo, model, options)
    white = model.config.noise == "white" and (model is not given or has_white_noise(photo))
    inference = _settle(model, options)
    codec = PixelCodec.of(photo)
    height, width, channels = photo.pixels.shape
    box = stored_box(photo, options.crop) if options.crop else (0, height, 0, width)

    def noisy(part: Tile) -> Tensor:
        stored = photo.pixels[part.top : part.bottom, part.left : part.right]
        unit = torch.from_numpy(codec.decode(stored))
        return unit.permute(2, 0, 1)[None].expand(-1, 3, -1, -1)

    result = cropped(photo, box) if options.crop else photo
    # 8-bit photos wait in 16 bits for what is yet to come.
    finer = replace(codec, dtype=np.uint16) if codec.dtype == np.uint8 else codec
    with memory_errors(device):
        waiting = replace(result, pixels=np.empty(result.pixels.shape, finer.dtype))
        bands = _denoised_bands(
            noisy, (height, width), Tile(top=box[0], bottom=box[1], left=box[2], right=box[3]),
            model, inference,
            device=device, tile=options.tile, max_memory=options.max_memory,
            reserve=waiting.pixels.nbytes, afterwards=_needed_to_fuse(waiting.pixels),
            seed=options.seed, progress=progress,
        )  # fmt: skip
        for top, band in bands:
            colours = band[0] if channels == 3 else band[0].mean(0, keepdim=True)
            for start, end in _rows_at_a_time(colours.shape[1], colours.shape[2]):
                rows = _stored(finer, colours[:, start:end])
                waiting.pixels[top + start : top + end] = rows
            del band, colours
            _release_heap(waiting.pixels)
        clean = _fused(result, waiting, options, codec, finer, white=white)
        _release_heap(waiting.pixels)
        return Denoised(photo=clean, model=model, noisy=result)


def select_model(photo: Photo, model: Model, options: DenoiseOptions = DenoiseOptions()) -> Model:
    """Choose between a model and that which takes over from its single pass if noise is white.

    Args:
        photo: any depth, grey or RGB; some rows of it are looked at.
        model: chosen again, the choice is the same.
        options: as for `denoise`.

    Raises:
        UsageError: the options do not fit the model.
    """
    if model.white is None or _settle(model, options).passes != "single":
        return model
    return model.white if has_white_noise(photo) else model


def has_white_noise(photo: Photo) -> bool:
    """Tell whether a photo's noise is white, by `core.noise.is_white` and rows all over it."""
    height, width, channels = photo.pixels.shape
    wanted = max(1, _TELLING // (BLOCK_SIZE * width))
    apart = max(1, -(-(height // BLOCK_SIZE) // wanted))
    rows = photo.pixels[: height // BLOCK_SIZE * BLOCK_SIZE].reshape(
        -1, BLOCK_SIZE, width, channels
    )[::apart]
    unit = PixelCodec.of(photo).decode(rows.reshape(-1, width, channels))
    return is_white(torch.from_numpy(unit).permute(2, 0, 1))


def _fused(
    photo: Photo,
    waiting: Photo,
    options: DenoiseOptions,
    codec: PixelCodec,
    finer: PixelCodec,
    *,
    white: bool,
) -> Photo:
    """Settle brightness and give back what the options say, some rows at a time.

    Where noise is surely white, and the network was made for it, there is no doubt whether it is
    noise, nor anything to set right but what a tone curve has done.
    """
    luma = options.strength if options.luma is None else options.luma
    chroma = options.strength if options.chroma is None else options.chroma

    def rows(of: Photo, top: int, end: int) -> Tensor:
        part = (codec if of is photo else finer).decode(of.pixels[top:end])
        return torch.from_numpy(part).permute(2, 0, 1)  # (C, h, W)

    height, width, channels = photo.pixels.shape
    parts = _rows_at_a_time(height, width)
    residuals = ResidualHistogram(channels)
    # Some 100,000 pixels tell enough. Odd steps, as even ones would meet only pixels of one colour
    # of the sensor's mosaic, whose noise differs from that of interpolated ones.
    step = 1 + 2 * math.isqrt(height * width >> 21)
    rows_apart = 3 * step if height * width >> 17 else 1

    def measured() -> Iterator[BlockStats]:
        for top, end in parts:
            above, below = int(top > 0), int(end < height)
            noisy, denoised = (rows(x, top - above, end + below) for x in (photo, waiting))
            sampled = np.s_[:, above + -top % rows_apart : above + end - top : rows_apart, ::step]
            residuals.add(noisy[sampled], denoised[sampled])
            yield block_stats(noisy, denoised, above=above, below=below)

    cells = stack_blocks(measured(), height)
    by_itself = options.strength is None
    shift = residuals.shift(if_bent=white) if by_itself else None
    sure = 1.0 if white else noise_confidence(cells, quantisation_step(photo, cells))
    decided = blend_weights(cells, luma, chroma, options.detail, sure)
    if by_itself:
        decided = torch.cat([decided, clip_radius(cells), smoothing_weights(cells)])
    _release_heap(photo.pixels)
    # Over what has been read already: a row takes no more room than it did while waiting.
    memory = waiting.pixels.reshape(-1).view(photo.pixels.dtype)
    pixels = memory[: photo.pixels.size].reshape(photo.pixels.shape)
    last = torch.empty(channels, 0, width)  # row of the part above
    for top, end in parts:
        above, below = int(top > 0), int(end < height)
        denoised = rows(waiting, top, end + below)
        fine = upsample_blocks(decided, top, denoised.shape[1], width)
        within = np.s_[:, : end - top]
        if shift is not None:
            denoised = correct_brightness(smooth_residual_noise(denoised, fine[3:]), shift)
            around = torch.cat([last, denoised], 1)
            last = denoised[within][:, -1:].clone()
            denoised = limit_sharpness(around, fine[2:3][within], above=above, below=below)
        noisy = rows(photo, top, end)
        fused = blend_residual(noisy, denoised[within], fine[:1][within], fine[1:2][within])
        pixels[top:end] = _stored(codec, fused)
    return replace(photo, pixels=pixels)


def quantisation_step(photo: Photo, removed: BlockStats) -> float | None:
    """Find out how coarsely a photo was coded, as far as `core.fusion.noise_confidence` needs to know.

    Args:
        photo: whose file says it, or whose pixels show it.
        removed: from the photo; where that was more than faint noise, pixels are not searched.

    Returns:
        See `Photo.quantisation_step`.
    """
    whole_numbers = photo.pixels.dtype != np.float32
    if photo.quantisation_step is None and whole_numbers and is_weak(removed):
        return estimate_quantisation_step(photo.pixels)
    return photo.quantisation_step


def _rows_at_a_time(height: int, width: int) -> list[tuple[int, int]]:
    """Cut a picture into rows of whole cells: first and end of each part."""
    rows = BLOCK_SIZE * max(1, _FUSED // (BLOCK_SIZE * width))
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def _needed_to_fuse(pixels: Pixels) -> int:
    """Foresee what `_fused` takes besides the two pictures, in bytes, as it was measured."""
    height, width = pixels.shape[:2]
    in_rows: int = 24 * 3 * 4 * max(_FUSED, BLOCK_SIZE * width)
    in_cells: int = 3 * height * width
    return in_rows + in_cells


def _release_heap(pixels: Pixels) -> None:
    """Give freed memory back to the system, for a picture so large that it is worth the time."""
    if math.prod(pixels.shape[:2]) > _SMALL_PICTURE**2:
        release_memory(torch.device("cpu"))


def _stored(codec: PixelCodec, unit: Tensor) -> Pixels:
    """Encode (C, h, w) in [0, 1] as (h, w, C) stored values."""
    return codec.encode(unit.permute(1, 2, 0).contiguous().numpy())


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
    size = (noisy.shape[-2], noisy.shape[-1])
    denoised = torch.empty_like(noisy)
    bands = _denoised_bands(
        lambda part: part.of(noisy), size, Tile(top=0, bottom=size[0], left=0, right=size[1]),
        model, inference,
        device=device, tile=tile, max_memory=None, reserve=noisy.nbytes,
        seed=seed, progress=progress,
    )  # fmt: skip
    for top, band in bands:
        denoised[..., top : top + band.shape[-2], :] = band
    return denoised


def _denoised_bands(
    noisy: Compute,
    size: tuple[int, int],
    wanted: Tile,
    model: Model,
    inference: Inference,
    *,
    device: torch.device,
    tile: int,
    max_memory: int | None,
    reserve: int,
    afterwards: int = 0,
    seed: int,
    progress: Callable[[float], None],
) -> Iterator[tuple[int, Tensor]]:
    """Denoise a part of a picture and give its rows as they are done.

    Args:
        noisy: gives the (1, 3, h, w) of a tile, float32 in [0, 1], on the CPU.
        size: (H, W) of the picture.
        wanted: the part; what it depends on around it is computed with it.
        model: moved to `device`.
        inference: used instead of the model's own.
        device: where to compute.
        tile: longest side of a tile in pixels; 0 chooses.
        max_memory: see `DenoiseOptions`.
        reserve: bytes of RAM that the caller is about to fill.
        afterwards: bytes of RAM that the caller needs besides, once all rows are done.
        seed: of the masks; they are drawn for the whole picture, however it is cut into tiles.
        progress: called with the share done.

    Yields:
        The first row, counted from the top of `wanted`, and (1, 3, h, w) on the CPU.
    """
    if max_memory is None and math.prod(size) <= _MUCH_MEMORY:
        reuse_memory()
    network = model.network.to(device).eval()
    single = inference.passes == "single"
    stride = 1 if single else inference.stride
    generator = torch.Generator().manual_seed(seed)
    repeats = 0 if single else inference.repeats
    masks = [partition_masks(inference.n_masks, (1, *size), generator) for _ in range(repeats)]

    def denoised(part: Tile) -> Tensor:
        x = noisy(part).to(device)
        if single:
            return single_pass(network, x)
        total = torch.zeros_like(x)
        for index in masks:
            here = part.of(index).to(device)
            total += multi_mask_pass(network, x, here, inference.n_masks, stride)
        return total / repeats

    rounds = 0 if single or not inference.refine else inference.refine_repeats
    tiles = _Tiles(
        model, inference, size, wanted, device=device, rounds=1 + rounds, progress=progress
    )
    if rounds:
        reserve += _REFINED * 3 * 4 * math.prod(tiles.around.size)
    tiles.plan(denoised, tile, max_memory=max_memory, reserve=reserve, afterwards=afterwards)
    if not rounds:
        yield from tiles.bands(denoised)
        return
    around = tiles.around
    start, whole = tiles.picture(denoised), noisy(around)
    refined = torch.zeros_like(start)
    for _ in range(rounds):
        mixed = random_replacement(start, whole, inference.refine, generator)
        index = partition_masks(inference.n_masks, (1, *around.size), generator)

        def again(part: Tile, mixed: Tensor = mixed, index: Tensor = index) -> Tensor:
            here = part.relative_to(around)
            x = here.of(mixed).to(device)
            return multi_mask_pass(network, x, here.of(index).to(device), inference.n_masks)

        refined += tiles.picture(again)
    inner = wanted.relative_to(around)
    yield 0, inner.of(refined / rounds)


class _Tiles:
    """The tiles of one picture: as large as the memory allows, made smaller where it does not."""

    def __init__(
        self,
        model: Model,
        inference: Inference,
        size: tuple[int, int],
        wanted: Tile,
        *,
        device: torch.device,
        rounds: int,
        progress: Callable[[float], None],
    ) -> None:
        self.model, self.inference, self.device, self.wanted = model, inference, device, wanted
        self.rounds, self.progress, self.done = rounds, progress, 0
        stride = 1 if inference.passes == "single" else inference.stride
        self.align = stride * model.network.network.multiple
        reach = model.network.network.reach
        overlap = stride * min(MAX_OVERLAP if reach is None else reach, MAX_OVERLAP)
        self.overlap = -(-overlap // self.align) * self.align
        self.smallest = 2 * self.overlap
        self.around = Tile(
            top=max(0, wanted.top - self.overlap) // self.align * self.align,
            bottom=min(size[0], wanted.bottom + self.overlap),
            left=max(0, wanted.left - self.overlap) // self.align * self.align,
            right=min(size[1], wanted.right + self.overlap),
        )

    def plan(
        self,
        compute: Compute,
        tile: int,
        *,
        max_memory: int | None,
        reserve: int,
        afterwards: int,
    ) -> None:
        """Choose the longest side of tiles, unless `tile` says it; see `_denoised_bands`.

        Raises:
            DeviceError: `max_memory` is too little for the smallest, or for what comes afterwards.
        """
        self.side = tile or LARGEST_TILE[self.device.type]
        if not tile and (max_memory is not None or max(self.around.size) > _SMALL_PICTURE):
            self.side = self._side_by_memory(compute, max_memory, reserve, afterwards)
        self.tiles = plan_tiles(self.around.size, self.side, self.overlap, self.align)
        self.side = max(max(tile.size) for tile in self.tiles)

    def bands(self, compute: Compute) -> Iterator[tuple[int, Tensor]]:
        """Compute the wanted rows; see `_denoised_bands`."""
        inner = self.wanted.relative_to(self.around)
        for top, band in run_in_bands(self._counting(compute), self.tiles):
            first, end = max(top, inner.top), min(top + band.shape[-2], inner.bottom)
            if first < end:
                rows = band[..., first - top : end - top, inner.left : inner.right]
                yield first - inner.top, rows
                del rows  # with the band, before the next is computed
            del band

    def picture(self, compute: Compute) -> Tensor:
        """Compute all of `around`, (1, C, H, W)."""
        return run_tiled(self._counting(compute), self.tiles, self.around.size)

    def _counting(self, compute: Compute) -> Compute:
        def counting(part: Tile) -> Tensor:
            result = self._fitting(compute, part.within(self.around))
            self.done += 1
            self.progress(self.done / (self.rounds * len(self.tiles)))
            return result

        return counting

    def _fitting(self, compute: Compute, part: Tile) -> Tensor:
        """Compute a tile; where memory runs out, in parts half as large, and so from then on."""
        if max(part.size) <= self.side:
            try:
                return self._precisely(compute, part)
            except (MemoryError, RuntimeError) as error:
                self.side = max(part.size) // 2
                if not is_out_of_memory(error) or self.side < self.smallest:
                    raise
            release_memory(self.device)
        parts = plan_tiles(part.size, self.side, self.overlap, self.align)
        return run_tiled(lambda p: self._fitting(compute, p.within(part)), parts, part.size)

    def _precisely(self, compute: Compute, part: Tile) -> Tensor:
        """Compute a tile in the fastest precision that gives numbers."""
        allowed = self.model.network.network.runs_in_bfloat16
        with torch.no_grad(), fast_precision(self.device, allowed) as fast:
            result = compute(part)
        if fast and not result.isfinite().all():
            with torch.no_grad():
                result = compute(part)  # in float32
        if not result.isfinite().all():
            raise WeightsError(
                f"model {self.model.name} gives NaN for this photo", "use other weights with -w"
            )
        return result

    def _side_by_memory(
        self, compute: Compute, max_memory: int | None, reserve: int, afterwards: int
    ) -> int:
        """Find the largest side that the free memory allows, by what a small tile takes."""
        height, width = self.around.size
        trials = _TRIALS.setdefault(self.model.network, {})
        per_pixel = trials.get((self.inference, self.device))
        if per_pixel is None:
            side = -(-_PROBE // self.align) * self.align
            trial = Tile(top=0, bottom=min(height, side), left=0, right=min(width, side))
            with PeakMemory() as peak:
                self._precisely(compute, trial.within(self.around))
            per_pixel = peak.bytes / (trial.bottom * trial.right)
            trials[self.inference, self.device] = per_pixel
        release_memory(self.device)
        free, per_row = free_memory(self.device, max_memory), 0
        if self.device.type == "cpu":
            free -= reserve
            per_row = 3 * 4 * width  # of a row of tiles, three float32 channels
        # per_row * self.overlap are left from the row of tiles before.
        room = max(0, free - per_row * self.overlap)
        per_pixel /= MEMORY_SHARE
        # The positive root of per_pixel * side**2 + per_row * side = room.
        fitting = int((math.sqrt(per_row**2 + 4 * per_pixel * room) - per_row) / (2 * per_pixel))
        smallest = min(self.smallest, max(height, width))
        least = per_pixel * smallest**2 + per_row * (smallest + self.overlap)
        missing = max(least, afterwards) - free
        if max_memory is not None and missing > 0:
            raise DeviceError(
                f"{max_memory / 1e9:.2f} GB are too little memory for this photo",
                f"allow --max-memory {(max_memory + missing) / 1e9 + 0.01:.2f}G",
            )
        return min(LARGEST_TILE[self.device.type], max(fitting, self.smallest))


def _settle(model: Model, options: DenoiseOptions) -> Inference:
    inference = model.config.inference
    if options.n_masks == 1:
        if inference.passes == "multi":
            raise UsageError(
                f"model {model.name} has only learned hidden pixels, it has no single pass",
                "use --masks 2 or more",
            )
        if options.stride or options.repeats or options.refine:
            raise UsageError(
                "the single pass has no masks to split, repeat or refine", "use --masks 2 or more"
            )
    elif options.n_masks or options.stride or options.repeats or options.refine:
        if inference.passes == "single" and not model.config.mask_channel:
            raise UsageError(
                f"model {model.name} has only learned whole pictures, it knows no hidden pixels",
                "leave out --masks, --stride, --repeats and --refine",
            )
        inference = replace(inference, passes="multi")
    if options.n_masks and options.n_masks > 1:
        inference = replace(inference, n_masks=options.n_masks)
    if options.stride is not None:
        inference = replace(inference, stride=options.stride)
    if options.repeats is not None:
        inference = replace(inference, repeats=options.repeats)
    if options.refine is not None:
        inference = replace(inference, refine=options.refine)
    return inference

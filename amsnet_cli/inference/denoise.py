"""Denoise one photo."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from amsnet_cli.core.networks import MaskedNetwork
from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.errors import UsageError
from amsnet_cli.inference.hot_pixels import HotPixels, find_hot_pixels_of
from amsnet_cli.inference.memory import memory_errors
from amsnet_cli.inference.noise_estimate import estimate_told_noise, photo_noise_level
from amsnet_cli.inference.photo_rows import postprocess_photo, run_photo
from amsnet_cli.inference.tiles import Tile
from amsnet_cli.model import Inference, Model
from amsnet_cli.mosaic_model import MosaicModel
from amsnet_cli.noise.hot_pixels import HotPixelConfig
from amsnet_cli.photos.geometry import cropped, stored_box
from amsnet_cli.photos.mosaic import MosaicPhoto
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.config import PostprocessConfig
from amsnet_cli.postprocess.pipeline import BlendSettings
from amsnet_cli.stacks.stack import StackPhoto


@dataclass(frozen=True, kw_only=True)
class DenoiseOptions:
    """How to denoise; None takes the model's own setting, unless its field says otherwise."""

    n_masks: int | None = None
    """Number of complementary masks; 1 for the single pass."""
    stride: int | None = None
    """Stride of the pixel-shuffle downsampling around the masks, in pixels."""
    repeats: int | None = None
    """Sets of masks that are averaged."""
    ensemble: int | None = None
    """Turned and mirrored copies whose single passes are averaged, 1 to 8."""
    refine: float | None = None
    """Share of pixels put back by random replacement refinement, in [0, 1]; 0 for none."""
    strength: float | None = None
    """0 keeps the photo. For a network that is told the noise: by how much the measured noise is
    multiplied, in [0, 2]; None is 1. For others, in [0, 1]: 1 is the raw network output, linear
    between, and None also smooths residual noise and corrects sharpness and brightness, see
    `postprocess`."""
    noise: float | None = None
    """Standard deviation of the noise on a scale of 255, white and the same everywhere, instead of
    what is measured; only for a network that is told the noise. Multiplied by the strength."""
    caution: float = 0.7
    """By how much measured noise is weakened before a network is told it, at most, on a scale of
    255: noise as faint cannot be told from fine texture, and too strong costs more than too weak.
    See `PhotoNoise.cautious`."""
    luma: float | None = None
    """Strength for brightness, in [0, 1]; None for `strength`."""
    chroma: float | None = None
    """Strength for colour, in [0, 1]; None for `strength`."""
    detail: float = 0.0
    """Share of fine detail restored that went with the noise, in [0, 1]."""
    tile: int = 0
    """Longest side of a tile in pixels; 0 chooses by the free memory."""
    max_memory: int | None = None
    """Memory budget of this process on the device, in bytes; None for no limit. On the CPU it
    includes the interpreter and the photo itself. Only encoding the result as WebP, AVIF or
    progressive JPEG can exceed it."""
    crop: tuple[int, int, int, int] | None = None
    """Only this region: x, y, width, height in pixels of the upright image. The post-processing
    sees the region alone."""
    keep_hot_pixels: bool = False
    """Leave hot pixels to the network, which takes them for detail. Else each is replaced by the
    median of its neighbours first, unless the strength is 0."""
    seed: int = 0
    """Seed of the masks."""
    hot_pixels: HotPixelConfig = field(default_factory=HotPixelConfig)
    """What makes a pixel hot."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    """Stages and numbers of the post-processing."""


@dataclass(frozen=True, kw_only=True)
class Denoised:
    """A denoised photo, its model, and its noise levels before and after.

    Attributes:
        photo: of the same depth and metadata as the input, of the same size or that of the crop.
        model: the model that was used.
        noisy: the input, or the crop of it; of a RAW photo, developed like the result.
        hot_pixels: how many values of the photo's pixels were mended, also outside of the crop.
        noise: what the network was told, as measured or as given, times the strength; None if it is
            not told the noise.
    """

    photo: Photo
    model: Model | MosaicModel
    noisy: Photo
    hot_pixels: int = 0
    noise: PhotoNoise | None = None

    @cached_property
    def noise_before(self) -> float:
        """Noise level of the input on a scale of 255; nan where it cannot be measured."""
        return (
            math.nan
            if isinstance(self.noisy, MosaicPhoto | StackPhoto)
            else photo_noise_level(self.noisy)
        )

    @cached_property
    def noise_after(self) -> float:
        """Noise level of the result on the same scale; nan where it cannot be measured."""
        if isinstance(self.noisy, MosaicPhoto | StackPhoto):
            return math.nan
        return photo_noise_level(self.photo, scale=self.noisy)


@dataclass(frozen=True, kw_only=True)
class ResolvedOptions:
    """Options of one photo, with nothing left open.

    Attributes:
        inference: how the model is run.
        blend: how much of the residual is removed.
        box: the region to denoise, in stored pixels.
        codec: converts stored values to [0, 1]; of the whole photo.
        noise: that the network is told; None if it is not.
    """

    inference: Inference
    blend: BlendSettings
    box: Tile
    codec: PixelCodec
    noise: PhotoNoise | None


def denoise(
    photo: Photo,
    model: Model,
    options: DenoiseOptions = DenoiseOptions(),
    *,
    device: torch.device = torch.device("cpu"),
    progress: Callable[[float], None] = lambda share: None,
    in_place: bool = False,
) -> Denoised:
    """Denoise a photo.

    The whole photo is only held as it is stored. In float32 there is one row of tiles at a time,
    except with `refine`, which holds several copies of the photo.

    Args:
        photo: any depth, grey or RGB; transparency and metadata are passed on.
        model: moved to `device`.
        options: see `DenoiseOptions`.
        device: where to compute.
        progress: called with the share done, in (0, 1].
        in_place: replace hot pixels in the photo itself until it is denoised, and not in a copy.

    Raises:
        UsageError: the options do not fit the model.
        PhotoError: the crop is not within the photo.
        WeightsError: the network gives NaN.
        DeviceError: out of memory, even with small tiles.
    """
    found = HotPixels()
    strengths = {options.strength if s is None else s for s in (options.luma, options.chroma)}
    if not options.keep_hot_pixels and strengths != {0}:
        found = find_hot_pixels_of(photo, options.hot_pixels, device=device)
    with memory_errors(device), found.mended(photo, in_place=in_place) as mended:
        resolved = resolve_options(mended, model, options, device=device)
        box = resolved.box
        edges = box.top, box.bottom, box.left, box.right
        noisy = cropped(mended, edges) if options.crop else mended
        output = run_photo(
            mended, box, resolved.codec, model, resolved.inference,
            noise=resolved.noise, tile=options.tile, max_memory=options.max_memory, device=device,
            seed=options.seed, progress=progress,
        )  # fmt: skip
        clean = postprocess_photo(
            noisy, output, resolved.codec, resolved.blend, options.postprocess, device=device
        )
    return Denoised(
        photo=clean, model=model, noisy=cropped(photo, edges) if options.crop else photo,
        hot_pixels=len(found.medians), noise=resolved.noise,
    )  # fmt: skip


def resolve_options(
    photo: Photo,
    model: Model,
    options: DenoiseOptions,
    *,
    device: torch.device = torch.device("cpu"),
) -> ResolvedOptions:
    """Return the options for a photo with nothing left open; raises as `denoise` does."""
    told = model.network.is_told
    _check_strength(model, options)
    both = options.strength
    if told and both:
        both = None  # the network was told weaker or stronger noise instead
    luma, chroma = (both if own is None else own for own in (options.luma, options.chroma))
    height, width = photo.pixels.shape[:2]
    box = stored_box(photo, options.crop) if options.crop else (0, height, 0, width)
    codec = PixelCodec.of(photo)
    return ResolvedOptions(
        inference=_resolve_inference(model, options),
        blend=BlendSettings(
            luma="auto" if luma is None else luma,
            chroma="auto" if chroma is None else chroma,
            detail=options.detail,
            corrections=told or options.strength is None,
        ),
        box=Tile(top=box[0], bottom=box[1], left=box[2], right=box[3]),
        codec=codec,
        noise=_told_noise(photo, codec, model.network.to(device), options) if told else None,
    )


def _told_noise(
    photo: Photo, codec: PixelCodec, network: MaskedNetwork, options: DenoiseOptions
) -> PhotoNoise:
    """Return the noise that the network is told, measured or given, times the strength."""
    if options.noise is None:
        noise = estimate_told_noise(photo, codec, network).cautious(options.caution)
    else:
        noise = PhotoNoise.white(options.noise)
    return noise if options.strength is None else noise.scaled(options.strength)


def _check_strength(model: Model, options: DenoiseOptions) -> None:
    """Refuse what only a network that is told the noise can do."""
    if model.network.is_told:
        return
    why = f"model {model.name} guesses the noise by itself"
    if options.noise is not None:
        raise UsageError(f"{why}, so it cannot be told", "leave out --noise, or use -w photo")
    if options.strength is not None and options.strength > 1:
        raise UsageError(f"{why}: its strength is at most 1", "use --strength 1, or -w photo")


def _resolve_inference(model: Model, options: DenoiseOptions) -> Inference:
    """Return the model's inference settings, overridden by the options."""
    inference = model.config.inference
    masked = options.stride or options.repeats or options.refine
    if options.n_masks == 1:
        if inference.passes == "multi":
            raise UsageError(
                f"model {model.name} was trained with masking only and cannot run in a single pass",
                "use --masks 2 or more",
            )
        if masked:
            raise UsageError(
                "the single pass has no masks to split, repeat or refine", "use --masks 2 or more"
            )
    elif options.n_masks or masked:
        if inference.passes == "single" and not model.config.mask_channel:
            raise UsageError(
                f"model {model.name} was trained without masking and cannot fill masked pixels",
                "leave out --masks, --pd-stride, --repeats and --refine",
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
    if options.ensemble is not None:
        if inference.passes == "multi":
            raise UsageError(
                "--ensemble averages single passes, and masks need several",
                "use --repeats to average over masks",
            )
        inference = replace(inference, ensemble=options.ensemble)
    return inference


def single_pass_only(model: Model) -> Inference:
    """Return the inference settings of a model with a single pass.

    Raises:
        UsageError: it has none.
    """
    inference = _resolve_inference(model, DenoiseOptions(n_masks=1))
    return replace(inference, passes="single")

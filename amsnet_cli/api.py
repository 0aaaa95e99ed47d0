"""The Python interface: the functions of `import amsnet_cli as amsnet`, documented in docs/api.md.

Thin wrappers that take names and paths, and write files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.batch.stack_denoiser import StackDenoiser
from amsnet_cli.device import choose_device
from amsnet_cli.errors import OutputError, UsageError, WeightsError
from amsnet_cli.fitting.events import FitEvent
from amsnet_cli.fitting.fit import FitResult
from amsnet_cli.fitting.fit import fit as fit_model
from amsnet_cli.fitting.kind import kind_of_fit
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.fitting.start import Rivals, no_rivals, start_and_rivals
from amsnet_cli.inference.denoise import Denoised, DenoiseOptions
from amsnet_cli.inference.denoise import denoise as denoise_photo
from amsnet_cli.inference.mosaic_noise import UnknownNoiseError
from amsnet_cli.inference.mosaic_photos import MosaicDenoiser, denoise_raw
from amsnet_cli.inference.stack_noise import Detector
from amsnet_cli.model import Model, load_model
from amsnet_cli.mosaic_model import MosaicModel
from amsnet_cli.photos.formats import WRITABLE
from amsnet_cli.photos.formats.dng import FORMAT as DNG
from amsnet_cli.photos.formats.raw import RawOptions, develop
from amsnet_cli.photos.mosaic import MosaicPhoto
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import (
    after_development,
    read_mosaic_or_photo,
    read_mosaic_photo,
    read_photo,
)
from amsnet_cli.photos.write import check_depth, check_output, with_fitting_depth, write_photo
from amsnet_cli.software_tag import tag_software
from amsnet_cli.stacks.find import open_stack
from amsnet_cli.stacks.stack import StackPhoto, photo_of_stack


def denoise(
    photo: str | Path | Photo,
    output: str | Path | None = None,
    *,
    weights: str | Path | Model | MosaicModel | None = None,
    raw: Literal["mosaic", "developed"] = "mosaic",
    raw_options: RawOptions = RawOptions(),
    device: str = "auto",
    pages: slice = slice(None),
    detector: Detector = Detector(),
    keep_flux: bool | None = None,
    force: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
    **options: Any,
) -> Denoised:
    """Denoise a photo, and write it if there is an output; or a stack, from file to file.

    Args:
        photo: a file or a photo in memory.
        output: the file to write; its suffix sets the format.
        weights: the name of published weights or of a fitted model, a model file, or a model; None
            for the bundled weights.
        raw: "mosaic" denoises RAW files before they are developed, or writes them as DNG where
            `output` is one; "developed" develops them first. What holds no mosaic is developed.
        raw_options: how RAW files are developed.
        device: auto, cpu, cuda, cuda:N or mps.
        pages: of stacks, places of the first axis that are denoised and kept.
        detector: what is known of the noise of stacks.
        keep_flux: whether fluxes in stacks are kept; None for FITS alone.
        force: overwrite `output` if it exists.
        progress: called with the fraction done.
        **options: fields of `DenoiseOptions`.

    Returns:
        Of a stack, `photo.stack` is the opened result and `noisy.stack` the opened source, and the
        levels are nan. Else the photo, whose Software tag names the model, the model that was used,
        and the noise levels before and after. Of DNG, photo and noisy are undeveloped, and the
        levels nan.

    Raises:
        AmsnetError: see `amsnet_cli.errors`. An output that could not be written is an error
            before any work.
    """
    target = None if output is None else Path(output)
    denoise_options, where = DenoiseOptions(**options), choose_device(device)
    stacks = StackDenoiser(
        denoise_options, where, chosen=pages, detector=detector, keep_flux=keep_flux
    )
    stack = None if isinstance(photo, Photo) else stacks.open(Path(photo), target)
    if target is not None:
        check_output(target, force=force, suffixes=stack.stack.suffixes if stack else WRITABLE)
    if stack is not None and target is not None:
        model = weights if isinstance(weights, Model) else _load_for_developed(weights)
        return _denoise_stack(stack, target, stacks, model, progress)
    to_dng = target is not None and target.suffix.lower() in DNG.suffixes
    undeveloped = to_dng or (raw == "mosaic" and not isinstance(weights, Model))
    noisy = _read(photo, undeveloped, to_dng=to_dng, raw_options=raw_options)
    if target is not None:
        if not isinstance(photo, Photo):
            noisy = with_fitting_depth(noisy, target)
        check_depth(noisy, target)
    result: Denoised | Photo = noisy
    if isinstance(noisy, MosaicPhoto):
        if isinstance(weights, Model):
            raise WeightsError(f"{weights.name} is for developed photos", "leave out weights")
        source = Path("photo") if isinstance(photo, Photo) else Path(photo)
        mosaics = MosaicDenoiser(weights, denoise_options, raw_options, device=where)
        result = _denoise_undeveloped(source, noisy, mosaics, to_dng, raw_options, progress)
        weights = None
    if isinstance(result, Photo):
        model = weights if isinstance(weights, Model) else _load_for_developed(weights)
        result = denoise_photo(result, model, denoise_options, device=where, progress=progress)
    denoised = replace(result, photo=tag_software(result, denoise_options))
    if target is not None:
        write_photo(denoised.photo, target)
    return denoised


def _denoise_stack(
    noisy: StackPhoto,
    target: Path,
    stacks: StackDenoiser,
    model: Model,
    progress: Callable[[float], None],
) -> Denoised:
    stacks.denoise(noisy, target, model, progress)
    stacks.write(target)
    result = open_stack(target, counts=True)
    assert result is not None
    return Denoised(photo=photo_of_stack(result), model=model, noisy=noisy)


def _read(
    photo: str | Path | Photo, undeveloped: bool, *, to_dng: bool, raw_options: RawOptions
) -> Photo:
    if isinstance(photo, Photo):
        return photo
    if to_dng:
        return read_mosaic_photo(Path(photo))
    read = read_mosaic_or_photo if undeveloped else read_photo
    return read(Path(photo), raw_options)


def _denoise_undeveloped(
    source: Path,
    photo: MosaicPhoto,
    mosaics: MosaicDenoiser,
    to_dng: bool,
    raw_options: RawOptions,
    progress: Callable[[float], None],
) -> Denoised | Photo:
    """Denoise a mosaic, or develop it if its noise cannot be found and it need not stay one."""
    try:
        return denoise_raw(source, photo, mosaics, to_dng=to_dng, progress=progress)
    except UnknownNoiseError as error:
        if to_dng:
            raise
        developed = develop(source, photo.content, photo.mosaic, raw_options)
        developed = replace(developed, bits=photo.bits)
        return after_development(source, developed, error)


def _load_for_developed(weights: str | Path | MosaicModel | None) -> Model:
    if isinstance(weights, MosaicModel):
        raise WeightsError(f"{weights.name} is for mosaics of RAW files", "leave out weights")
    return load_model(weights)


def denoise_array(
    image: NDArray[Any],
    strength: float | None = None,
    *,
    weights: str | Path | Model | None = None,
    device: str = "auto",
    **options: Any,
) -> NDArray[Any]:
    """Denoise an array, as the functions of scikit-image take them.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3), real numbers of any type and range. uint8, uint16 and
            floats with their brightest value near 1 have the usual range; that of all others is
            estimated from their values. NaN stays.
        strength: as for `denoise`; None for auto.
        weights: as for `denoise`.
        device: as for `denoise`.
        **options: fields of `DenoiseOptions`.

    Returns:
        A new array of the same shape, type and range.

    Raises:
        AmsnetError: the array is of another kind, or as by `denoise`.
    """
    image = np.asarray(image)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3) or not image.size:
        raise UsageError(
            f"an array of shape {image.shape}",
            "give (H, W), (H, W, 1) or (H, W, 3); denoise other stacks plane by plane",
        )
    if image.dtype.kind not in "uif":
        raise UsageError(f"an array of {image.dtype}", "give integers or floats")
    # Other types have no range of their own.
    as_stored = image.dtype in (np.uint8, np.uint16)
    pixels = image.reshape(*image.shape[:2], channels)
    photo = Photo(pixels=np.ascontiguousarray(pixels if as_stored else pixels.astype(np.float32)))
    denoised = denoise(photo, weights=weights, device=device, strength=strength, **options)
    clean = denoised.photo.pixels
    if image.dtype.kind in "ui" and not as_stored:
        ends = np.iinfo(image.dtype)
        clean = np.clip(np.rint(clean.astype(np.float64)), float(ends.min), float(ends.max))
    return clean.reshape(*clean.shape[:2], *image.shape[2:]).astype(image.dtype)


def fit(
    folder: str | Path,
    output: str | Path,
    *,
    weights: str | Path | Model | MosaicModel | None = None,
    from_scratch: bool = False,
    device: str = "auto",
    resume: bool = False,
    force: bool = False,
    on_event: Callable[[FitEvent], None] = lambda event: None,
    **options: Any,
) -> FitResult:
    """Fit a model to a folder of noisy photos; no clean images needed.

    Args:
        folder: searched for photos recursively.
        output: the model file to write, a .safetensors file.
        weights: what to start from, as for `denoise`; for RAW files, weights for mosaics. None
            tries `photo` and the models fitted to the cameras, or takes `raw`.
        from_scratch: start from a fresh network instead.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: continue an interrupted fit with the same options.
        force: overwrite `output` if it exists.
        on_event: called with each event of `fitting.events`.
        **options: fields of `FitOptions`.

    Returns:
        The result; its `model` is None and its `reason` set if the fit brought no significant
        improvement, and then nothing was written.

    Raises:
        AmsnetError: see `amsnet_cli.errors`.
    """
    target = Path(output)
    if target.exists() and not (force or resume):
        raise OutputError(f"{target}: already exists", "pass force=True to overwrite it")
    fit_options = FitOptions(**options)
    start: Model | MosaicModel | None = None
    others: Rivals = no_rivals
    if isinstance(weights, Model | MosaicModel):
        start = weights
    elif not from_scratch:
        kind = kind_of_fit(Path(folder), fit_options.include, fit_options.raw)
        start, others = start_and_rivals(weights, target, mosaics=kind.mosaics, resume=resume)
    return fit_model(
        Path(folder), target, fit_options,
        start=start, rivals=others, resume=resume, device=choose_device(device),
        on_event=on_event,
    )  # fmt: skip

"""What the page of `amsnet tune` shows: the photo, and what each of the weights makes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from amsnet_cli.cli.crash import decode_told
from amsnet_cli.inference.denoise import DenoiseOptions
from amsnet_cli.inference.layers import Layers, denoised_layers, displayed, without_hot_pixels
from amsnet_cli.inference.model_choice import fitted_to
from amsnet_cli.inference.mosaic_noise import UnknownNoiseError
from amsnet_cli.inference.mosaic_photos import MosaicDenoiser
from amsnet_cli.inference.noise_estimate import photo_noise_level
from amsnet_cli.model import load_model
from amsnet_cli.photos.exif import camera_of
from amsnet_cli.photos.formats.raw import RawOptions
from amsnet_cli.photos.formats.raw import read as read_raw
from amsnet_cli.photos.mosaic import MosaicPhoto
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.photos.read import after_development, read_mosaic_or_photo
from amsnet_cli.report.tune_page import Choice, TunedPhoto, check_size
from amsnet_cli.weights.manifest import own_manifest
from amsnet_cli.weights.store import MOSAIC_WEIGHTS, find_weights

Progress = Callable[[float], None]

_RAW_NOTE = (
    "A RAW file: amsnet denoises its mosaic before development. Here the developed pictures are "
    "blended, so partial strengths are close but not exact, and there is no detail slider."
)


def prepare_photo(
    path: Path,
    weights: Sequence[str] | None,
    device: torch.device,
    *,
    command: str,
    serve: str,
    progress: Progress,
) -> tuple[TunedPhoto, list[Choice]]:
    """Denoise a photo with each of the weights.

    Args:
        path: of the photo.
        weights: their names; None to offer what suits the photo.
        device: where to compute.
        command: see `TunedPhoto`.
        serve: likewise.
        progress: called with the fraction done.

    Raises:
        AmsnetError: the photo cannot be read, is too large, or the weights do not suit it.
    """
    photo = read_mosaic_or_photo(path, decode=decode_told)
    check_size(*photo.pixels.shape[:2])
    names = list(dict.fromkeys(weights or _offered(photo)))
    made: tuple[Photo, list[Layers], list[str]] | None = None
    if isinstance(photo, MosaicPhoto):
        try:
            made = _of_mosaic(path, photo, names, device, progress)
        except UnknownNoiseError as error:
            photo = after_development(path, read_raw(path, photo.content, RawOptions()), error)
            names = list(dict.fromkeys(weights or _offered(photo)))
    shown, layers, about = made or _of_photo(photo, names, device, progress)
    notes = photo.notes
    if photo.alpha is not None:
        notes = (*notes, "Its transparency is not shown here; amsnet denoise keeps it.")
    choices = []
    for name, of in zip(names, layers, strict=True):
        title = name if of.model == name else f"{name} ({of.model}, as the noise is white)"
        if not math.isnan(of.noise_after):
            title += f": noise {of.noise_after:.1f} after"
        default = MOSAIC_WEIGHTS if of.weights is None else own_manifest().default
        choices.append(Choice(weights="" if name == default else name, title=title, layers=of))
    return TunedPhoto(
        title=f"Tune {path.name}", noisy=displayed(shown, PixelCodec.of(shown)),
        orientation=shown.orientation, icc=shown.icc,
        about=[_noise_line(shown), *about, *notes], command=command, serve=serve,
    ), choices  # fmt: skip


def _offered(photo: Photo) -> list[str]:
    mosaics = isinstance(photo, MosaicPhoto)
    names = [MOSAIC_WEIGHTS] if mosaics else [own_manifest().default, "fine"]
    fitted, _ = fitted_to(*camera_of(photo.exif), mosaics=mosaics)
    return [*names, fitted.stem] if fitted else names


def _noise_line(photo: Photo) -> str:
    level = photo_noise_level(photo)
    if math.isnan(level):
        return "Its noise cannot be measured."
    camera, iso = camera_of(photo.exif)
    taken = f"Taken by {camera}{f' at ISO {iso}' * (iso is not None)}. " if camera else ""
    return f"{taken}Noise {level:.1f} before, on a scale of 255."


def _of_photo(
    photo: Photo, names: Sequence[str], device: torch.device, progress: Progress
) -> tuple[Photo, list[Layers], list[str]]:
    mended, hot_pixels = without_hot_pixels(photo)
    layers = []
    for done, name in enumerate(names):
        model = load_model(find_weights(name), name)
        layers.append(
            denoised_layers(
                mended, model, device=device,
                progress=lambda share, done=done: progress((done + share) / len(names)),  # type: ignore[misc]
            )
        )  # fmt: skip
    about = [f"{hot_pixels} hot pixels are mended, also in the photo before."] if hot_pixels else []
    return mended, layers, about


def _of_mosaic(
    path: Path,
    photo: MosaicPhoto,
    names: Sequence[str],
    device: torch.device,
    progress: Progress,
) -> tuple[Photo, list[Layers], list[str]]:
    layers = []
    before = None
    for done, name in enumerate(names):
        denoiser = MosaicDenoiser(name, DenoiseOptions(), RawOptions(), device=device)
        denoiser.check(path)
        result = denoiser.denoise(
            photo,
            lambda share, done=done: progress((done + share) / len(names)),  # type: ignore[misc]
            to_dng=False,
        )
        before = before or denoiser.develop(path, photo)
        after = denoiser.develop(path, result.photo)
        codec = PixelCodec.of(before)
        picture = displayed(after, codec)
        layers.append(
            Layers(
                model=result.weights, denoised=picture, weights=None,
                noise_after=photo_noise_level(after, scale=before),
            )
        )  # fmt: skip
    assert before is not None
    return before, layers, [_RAW_NOTE]

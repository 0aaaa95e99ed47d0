"""The Software tag in a result's EXIF: which model denoised it, and how strongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from amsnet_cli import __version__
from amsnet_cli.inference.denoise import Denoised, DenoiseOptions
from amsnet_cli.photos.exif import with_software
from amsnet_cli.photos.photo import Photo
from amsnet_cli.weights.manifest import SUFFIX


def tag_software(denoised: Denoised, options: DenoiseOptions) -> Photo:
    """Return the photo with the version, the model's name and the strengths in its Software tag."""
    note = software_note(denoised.model.name, options)
    return replace(denoised.photo, exif=with_software(denoised.photo.exif, note))


def software_note(model: str, options: DenoiseOptions) -> str:
    """Return the version, the model's name and the strengths, as they stand in a Software tag."""
    strengths = {
        "strength": options.strength, "luma": options.luma, "chroma": options.chroma,
        "detail": options.detail or None,
    }  # fmt: skip
    settings = [f"{name} {value:g}" for name, value in strengths.items() if value is not None]
    return f"amsnet {__version__} ({', '.join([Path(model).name.removesuffix(SUFFIX), *settings])})"

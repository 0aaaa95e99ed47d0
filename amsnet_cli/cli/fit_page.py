"""The page of a fit: photos before and after, made with the fitted model."""

from __future__ import annotations

from pathlib import Path

import torch

from amsnet_cli import __version__
from amsnet_cli.cli.fit_progress import loss_change
from amsnet_cli.fitting.fit import FitResult
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.inference.mosaic_photos import MosaicDenoiser
from amsnet_cli.inference.photo_noise import photo_noise_level
from amsnet_cli.model import load_model
from amsnet_cli.photos.formats.raw import RawOptions
from amsnet_cli.photos.mosaic import MosaicPhoto
from amsnet_cli.photos.photo import Photo
from amsnet_cli.report.comparison import Comparison, compare
from amsnet_cli.report.fit_page import write_fit_page


def write_page(page: Path, result: FitResult, folder: Path) -> None:
    """Write the page of a fit that gave a model.

    Raises:
        OutputError: it cannot be written.
        PhotoError: a RAW file can no longer be developed.
    """
    assert result.model is not None
    comparisons = [
        (path.name, _comparison(result.model, path, photo)) for path, photo in result.samples
    ]
    about = result.profile.lines() if result.profile else []
    if result.best:
        about = [
            *about, f"Validation loss {loss_change(result.best)} after {result.best.step} steps."
        ]  # fmt: skip
    write_fit_page(
        page,
        title=f"{result.model.stem}, fitted to {folder.resolve().name}",
        about=[*about, f"amsnet {__version__}, {result.seconds:.0f} s."],
        settings=[(name, str(value)) for name, value in result.settings.to_dict().items()],
        curve=result.curve,
        comparisons=comparisons,
    )


def _comparison(model: Path, path: Path, photo: Photo) -> Comparison:
    if isinstance(photo, MosaicPhoto):
        mosaics = MosaicDenoiser(
            str(model), DenoiseOptions(), RawOptions(), device=torch.device("cpu")
        )
        clean = mosaics.denoise(photo, lambda fraction: None, to_dng=False).photo
        before, after = (mosaics.develop(path, version) for version in (photo, clean))
        noise = photo_noise_level(before), photo_noise_level(after, scale=before)
        return compare(before, after, noise=noise)
    denoised = denoise(photo, load_model(model))
    return compare(photo, denoised.photo, noise=(denoised.noise_before, denoised.noise_after))

"""The page of a fit: photos before and after, made with the fitted model and with its start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from amsnet_cli import __version__
from amsnet_cli.cli.fit_progress import describe_outlook, loss_change
from amsnet_cli.fitting.fit import FitResult
from amsnet_cli.fitting.start import load_start
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.inference.mosaic_photos import MosaicDenoiser
from amsnet_cli.inference.noise_estimate import photo_noise_level
from amsnet_cli.model import Model
from amsnet_cli.mosaic_model import MosaicModel
from amsnet_cli.photos.formats.raw import RawOptions
from amsnet_cli.photos.mosaic import MosaicPhoto
from amsnet_cli.photos.photo import Photo
from amsnet_cli.report.comparison import compare, most_different
from amsnet_cli.report.curve import CurvePoint
from amsnet_cli.report.fit_page import Difference, write_fit_page


def write_page(page: Path, result: FitResult, folder: Path) -> None:
    """Write the page of a fit that gave a model.

    Raises:
        OutputError: it cannot be written.
        PhotoError: a RAW file can no longer be developed.
    """
    assert result.model is not None
    fitted = load_start(result.model, mosaics=False)
    comparisons, differences = [], []
    for path, photo in result.samples:
        before, after = _denoised(fitted, path, photo)
        levels = photo_noise_level(before), photo_noise_level(after, scale=before)
        comparisons.append((path.name, compare(before, after, noise=levels)))
        if result.start:
            by_start = _denoised(result.start, path, photo)[1]
            amplification, crop = most_different(by_start, after)
            at_start = photo_noise_level(by_start, scale=before)
            differences.append(Difference(
                photo=path.name, noise=(levels[0], at_start, levels[1]),
                amplification=amplification, crop=crop,
            ))  # fmt: skip
    about = result.profile.lines() if result.profile else []
    if result.best:
        about = [
            *about, f"Validation loss {loss_change(result.best)} after {result.best.step} steps."
        ]  # fmt: skip
    if result.outlook:
        about.append(describe_outlook(result.outlook, result.seconds).capitalize() + ".")
    write_fit_page(
        page,
        title=f"{result.model.stem}, fitted to {folder.resolve().name}",
        about=[*about, f"amsnet {__version__}, {result.seconds:.0f} s."],
        settings=[(name, str(value)) for name, value in result.settings.to_dict().items()],
        curve=result.curve,
        comparisons=comparisons,
        expected=_expected(result),
        start=result.started_from,
        differences=differences,
    )


def _expected(result: FitResult) -> CurvePoint | None:
    """Return where the curve would be after as many steps again."""
    if not (result.outlook and result.curve):
        return None
    last = result.curve[-1]
    return replace(
        last, step=2 * last.step,
        improvement=last.improvement + result.outlook.improvement,
        standard_error=last.standard_error + result.outlook.standard_error,
    )  # fmt: skip


def _denoised(model: Model | MosaicModel, path: Path, photo: Photo) -> tuple[Photo, Photo]:
    """Return a photo before and after, developed."""
    if isinstance(model, MosaicModel):
        assert isinstance(photo, MosaicPhoto)
        mosaics = MosaicDenoiser(model, DenoiseOptions(), RawOptions(), device=torch.device("cpu"))
        clean = mosaics.denoise(photo, lambda fraction: None, to_dng=False).photo
        before, after = (mosaics.develop(path, version) for version in (photo, clean))
        return before, after
    return photo, denoise(photo, model).photo

"""Fits to mosaics of RAW files: their noise, the objective, and the model file."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from amsnet_cli.core.networks.mosaic import (
    MosaicNetwork,
    MosaicNetworkConfig,
    denoise_stabilised,
)
from amsnet_cli.device import fast_precision
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.events import FitEvent, StageProgress
from amsnet_cli.fitting.images import ImageFolder
from amsnet_cli.fitting.mosaic_images import MosaicCrop
from amsnet_cli.fitting.mosaic_objective import MosaicObjective
from amsnet_cli.fitting.mosaic_patches import MosaicPatches
from amsnet_cli.fitting.mosaic_profile import noise_of_photos, profile_mosaics
from amsnet_cli.fitting.settings import MosaicSettings
from amsnet_cli.fitting.task import SCRATCH, FitNetwork, FitTask
from amsnet_cli.mosaic_model import MosaicModel, load_mosaic_model, save_mosaic_model
from amsnet_cli.noise.sensor import law_by_colour
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_mosaic_photo
from amsnet_cli.weights.store import MOSAIC_WEIGHTS, find_weights

SAMPLES = 4
"""Photos of `FitTask.samples` at most."""
SAMPLED_PIXELS = 30_000_000
"""Photosites of theirs together, unless one alone has more: they are developed for the page."""


def mosaic_task(
    images: ImageFolder[MosaicCrop],
    settings: MosaicSettings,
    start: MosaicModel | None,
    *,
    device: torch.device,
    distributed: DistributedContext,
    on_event: Callable[[FitEvent], None],
) -> FitTask:
    """Measure the noise of mosaics, and return what is trained on them.

    Args:
        images: parts of mosaics.
        settings: of the fit.
        start: the model to start from; None for a fresh network. Then the bundled weights denoise
            the mosaics once, to say how strong the noise is at each photosite.
        device: where to compute.
        distributed: the processes that share the fit.
        on_event: called with the progress.
    """
    laws = noise_of_photos(images)
    profile = profile_mosaics(images, laws)
    first = start or load_mosaic_model(find_weights(MOSAIC_WEIGHTS))
    network = first.network.to(device)
    denoised = []
    for done, crop in enumerate(images.crops, 1):
        denoised.append(_denoised(network, crop, device))
        on_event(StageProgress(stage="measure", done=done, total=len(images.crops)))

    def save(path: Path, fitted: FitNetwork, training: dict[str, Any]) -> None:
        assert isinstance(fitted, MosaicNetwork)
        training = {**training, "terms": list(settings.terms)}
        save_mosaic_model(path, fitted, training, torch.float32, cameras=profile.cameras)

    def make_objective() -> MosaicObjective:
        patches = MosaicPatches(
            images, denoised, laws, size=settings.patch_size, seed=settings.seed
        )
        return MosaicObjective(
            patches, terms=settings.terms, batch=settings.batch, alpha=settings.alpha,
            mask_ratio=settings.mask_ratio, law_uncertainty=profile.law_uncertainty(),
            distributed=distributed, device=device,
        )  # fmt: skip

    return FitTask(
        paths=images.paths, skipped=images.skipped, fingerprint=images.fingerprint(),
        profile=profile, reason="",
        started_from=start.name if start else SCRATCH,
        start=start,
        make_network=lambda: copy.deepcopy(start.network) if start else _fresh(),
        make_objective=make_objective, save=save,
        samples=lambda: _samples(images),
    )  # fmt: skip


def _fresh() -> MosaicNetwork:
    network = MosaicNetwork(MosaicNetworkConfig())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _denoised(
    network: MosaicNetwork, crop: MosaicCrop, device: torch.device
) -> NDArray[np.float32]:
    """Return the light of a crop, denoised, (H, W), as denoising would do it."""
    colours = torch.from_numpy(crop.mosaic.planes())
    law = law_by_colour(crop.noise.laws, colours)
    noisy = law.stabilise(torch.from_numpy(crop.mosaic.light())[None])
    given = (x[None].to(device) for x in (noisy, law.sigma, colours, torch.zeros_like(noisy) > 0))
    with fast_precision(device, network.runs_in_bfloat16):
        denoised = denoise_stabilised(network, *given)
    light: NDArray[np.float32] = law.unstabilise(denoised[0].float().cpu())[0].numpy()
    return light


def _samples(images: ImageFolder[MosaicCrop]) -> tuple[tuple[Path, Photo], ...]:
    """Read some photos again, evenly spread."""
    count = min(SAMPLES, len(images.paths))
    chosen: list[tuple[Path, Photo]] = []
    pixels = 0
    for i in range(count):
        path = images.paths[i * len(images.paths) // count]
        photo = read_mosaic_photo(path)
        pixels += photo.pixels.size
        if chosen and pixels > SAMPLED_PIXELS:
            break
        chosen.append((path, photo))
    return tuple(chosen)

"""Fits to developed photos: the folder's noise, the objective, and the model file."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from amsnet_cli.core.networks import LIGHT, MaskedNetwork
from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.fitting.distillation import distil
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.events import FitEvent, StageProgress, StartChosen
from amsnet_cli.fitting.images import ImageCrop, ImageFolder, merge_cameras
from amsnet_cli.fitting.noise_adaptation import NoiseAdaptation
from amsnet_cli.fitting.noise_profile import (
    CropProfile,
    FolderProfile,
    profile_crops,
    profile_folder,
)
from amsnet_cli.fitting.objectives import (
    MaskedPrediction,
    Objective,
    TotalVariationFinetune,
)
from amsnet_cli.fitting.options import PRESETS
from amsnet_cli.fitting.patches import MaskedPatches, PatchSampler
from amsnet_cli.fitting.settings import AdaptSettings, FitSettings, MaskedSettings
from amsnet_cli.fitting.start import Rivals, best_of, try_starts
from amsnet_cli.fitting.task import SCRATCH, FitNetwork, FitTask
from amsnet_cli.known_noise import KnownNoise
from amsnet_cli.model import Inference, Model, ModelConfig, build_network, load_model, save_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.weights.store import find_weights

PROFILED_CROPS = 24
"""Crops of the noise profile where it only describes the folder."""
NEW_KNOWN = 4
"""Noises of a folder that its model remembers."""
MAX_KNOWN = 16
"""Noises that a model remembers, of all folders together; the oldest go first."""
SAMPLES = 4
"""Photos of `FitTask.samples`."""


def photo_task(
    images: ImageFolder[ImageCrop],
    settings: AdaptSettings | MaskedSettings,
    start: Model | None,
    rivals: Rivals,
    *,
    device: torch.device,
    distributed: DistributedContext,
    on_event: Callable[[FitEvent], None],
) -> FitTask:
    """Measure the noise of photos, and return what is trained on them.

    Args:
        images: developed photos.
        settings: of the fit.
        start: the model to start from; None for a fresh network.
        rivals: returns models that "adapt" starts from instead, where one validates better.
        device: where to compute.
        distributed: the processes that share the fit.
        on_event: called with the progress.
    """
    crops = _profile_crops(images, settings, start, device, on_event)
    tried = [start, *rivals(images.camera_ranges())] if start else []
    if isinstance(settings, AdaptSettings) and start and len(tried) > 1 and _has_noise(crops):
        objective = _make_objective(images, crops, settings, distributed, device)
        trials = try_starts(tried, objective, settings, device)
        best = tried[int(distributed.broadcast(best_of(trials)))]
        on_event(StartChosen(name=best.name, trials=tuple(trials)))
        if best is not start:
            start = best
            crops = _profile_crops(images, settings, start, device, on_event)
    profile = profile_folder(images, crops) if crops else None
    grows = isinstance(settings, AdaptSettings) and settings.grow
    known = start.known if start and grows else ()
    config = start.config if start else _fresh_config(settings)

    distils = isinstance(settings, MaskedSettings) and settings.distilled_share > 0

    def save(path: Path, network: FitNetwork, training: dict[str, Any]) -> None:
        assert isinstance(network, MaskedNetwork)
        header = _describe(config, settings, profile, training, grows=grows)
        new = _known_noise(crops) if settings.preset == "adapt" else ()
        save_model(path, network, header, known=(*known, *new)[-MAX_KNOWN:])

    def single_pass_of(network: FitNetwork, stopped: Callable[[], bool]) -> FitNetwork | None:
        assert isinstance(network, MaskedNetwork) and isinstance(settings, MaskedSettings)
        return distil(
            network, images, settings, device=device, stopped=stopped,
            on_progress=lambda share: on_event(
                StageProgress(stage="distil", done=round(100 * share), total=100)
            ),
        )  # fmt: skip

    return FitTask(
        paths=images.paths, skipped=images.skipped, fingerprint=images.fingerprint(),
        profile=profile, reason=_nothing_to_learn(profile, settings, start),
        started_from=start.name if start else SCRATCH,
        start=start,
        make_network=lambda: copy.deepcopy(start.network) if start else build_network(config),
        make_objective=lambda: _make_objective(
            images, crops, settings, distributed, device, known
        ),
        save=save, samples=lambda: _samples(images),
        distil=single_pass_of if distils else None,
    )  # fmt: skip


def _profile_crops(
    images: ImageFolder[ImageCrop],
    settings: FitSettings,
    start: Model | None,
    device: torch.device,
    on_event: Callable[[FitEvent], None],
) -> list[CropProfile]:
    """Profile all crops with the model to adapt, or some with the default to describe them."""
    if settings.preset == "paper":
        return []
    adapted = start if settings.preset == "adapt" else None
    return profile_crops(
        images, adapted or load_model(find_weights(None)),
        max_crops=None if adapted else PROFILED_CROPS, device=device,
        on_progress=lambda done, total: on_event(
            StageProgress(stage="measure", done=done, total=total)
        ),
    )  # fmt: skip


def _has_noise(crops: Sequence[CropProfile]) -> bool:
    return any(crop.noise is not None for crop in crops)


def _nothing_to_learn(
    profile: FolderProfile | None, settings: FitSettings, start: Model | None
) -> str:
    """Return why a fit is pointless, or ""."""
    if profile and start and profile.clean:
        return "the photos contain almost no measurable noise"
    if profile and settings.preset == "adapt" and not profile.levels:
        return "the photos are too small or too textured to measure their noise"
    return ""


def _make_objective(
    images: ImageFolder[ImageCrop],
    crops: list[CropProfile],
    settings: AdaptSettings | MaskedSettings,
    distributed: DistributedContext,
    device: torch.device,
    known: Sequence[KnownNoise] = (),
) -> Objective:
    if isinstance(settings, AdaptSettings):
        return NoiseAdaptation(
            images, crops, known, patch_size=settings.patch_size, batch=settings.batch,
            seed=settings.seed, distributed=distributed, device=device,
        )  # fmt: skip
    sampler = PatchSampler(
        images, settings.patch_size, settings.seed,
        quarter_turns=PRESETS[settings.preset].quarter_turns,
    )  # fmt: skip
    common: dict[str, Any] = {
        "patches": MaskedPatches(
            images, sampler, pd_stride=settings.pd_stride, mask_ratio=settings.mask_ratio
        ),
        "batch": settings.batch, "distributed": distributed, "device": device,
    }  # fmt: skip
    if settings.smooth:
        return TotalVariationFinetune(**common, n_masks=settings.n_masks, seed=settings.seed)
    return MaskedPrediction(**common)


def _fresh_config(settings: FitSettings) -> ModelConfig:
    """Return the config of the network that a fit from scratch trains."""
    preset = PRESETS[settings.preset]
    compact = dataclasses.replace(LIGHT, in_channels=3 + preset.mask_channel)
    return ModelConfig(
        network=compact if settings.network == "compact" else settings.network,
        fill=preset.fill, mask_channel=preset.mask_channel,
    )  # fmt: skip


def _describe(
    config: ModelConfig,
    settings: FitSettings,
    profile: FolderProfile | None,
    training: dict[str, Any],
    *,
    grows: bool,
) -> ModelConfig:
    """Return the header of the model file."""
    cameras = profile.cameras if profile else {}
    if grows:
        training = {**training, "before": config.provenance}
        cameras = merge_cameras(config.cameras, cameras)
    inference, scheme = config.inference, {}
    if isinstance(settings, MaskedSettings):
        inference = Inference(
            passes="single" if training["distilled"] else "multi",
            n_masks=settings.n_masks, stride=settings.pd_stride_test,
            repeats=settings.mask_repeats, refine=settings.refine,
        )  # fmt: skip
        scheme = {
            "pd_stride": settings.pd_stride, "mask_ratio": settings.mask_ratio,
            "smooth": settings.smooth,
        }  # fmt: skip
    return dataclasses.replace(
        config,
        inference=inference,
        cameras=cameras,
        provenance={**training, **scheme},
    )


def _known_noise(crops: Sequence[CropProfile]) -> list[KnownNoise]:
    """Return the noise of some crops, from the weakest to the strongest."""
    found = [
        KnownNoise(
            model=crop.noise,
            # Networks that are not told the noise ignore it.
            told=crop.told or PhotoNoise.white(255 * crop.noise.sigma()),
        )
        for crop in crops
        if crop.noise
    ]
    found.sort(key=lambda noise: noise.model.sigma())
    count = min(NEW_KNOWN, len(found))
    return [found[i * (len(found) - 1) // max(1, count - 1)] for i in range(count)]


def _samples(images: ImageFolder[ImageCrop]) -> tuple[tuple[Path, Photo], ...]:
    """Return a crop of each of some photos, evenly spread."""
    first = {crop.image: crop for crop in reversed(images.crops)}
    count = min(SAMPLES, len(first))
    chosen = [first[i * len(first) // count] for i in range(count)]
    return tuple((images.paths[crop.image], Photo(pixels=crop.pixels)) for crop in chosen)

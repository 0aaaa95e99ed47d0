"""Fit a model to a folder of noisy photos; no clean images needed.

`fit` reads from top to bottom: images, noise profile, objective, training, validation, model file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from amsnet_cli.atomic import clear_leftovers
from amsnet_cli.fitting.checkpoint import checkpoint_path
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.events import (
    FitEvent,
    FolderProfiled,
    ImageSkipped,
    StageProgress,
)
from amsnet_cli.fitting.images import ImageFolder, load_images
from amsnet_cli.fitting.noise_profile import (
    CropProfile,
    FolderProfile,
    mostly_white,
    profile_crops,
    profile_folder,
)
from amsnet_cli.fitting.objectives import (
    MaskedPrediction,
    NoiseAdaptation,
    Objective,
    TotalVariationFinetune,
)
from amsnet_cli.fitting.options import (
    PRESETS,
    AdaptSettings,
    FitOptions,
    FitSettings,
    MaskedSettings,
    resolve_settings,
)
from amsnet_cli.fitting.patches import MaskedPatches, PatchSampler
from amsnet_cli.fitting.run import FitRun, train
from amsnet_cli.inference.memory import memory_errors, reuse_memory
from amsnet_cli.model import Inference, Model, ModelConfig, load_model, save_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.report.curve import CurvePoint
from amsnet_cli.weights.store import find_weights

PROFILED_CROPS = 24
"""Crops of the noise profile where it only describes the folder."""
SAMPLES = 4
"""Photos of `FitResult.samples`."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The result of a fit.

    Attributes:
        model: the model file; None if none was written.
        reason: why none was written.
        steps: optimizer steps taken.
        photos: how many were trained on.
        skipped: for each photo that could not be read, why.
        seconds: of training and validation.
        curve: validation losses from the start to the end; empty without training.
        best: the point of the weights kept; after a fit from a model, its improvement is that of
            the final comparison, on more patches.
        settings: the options as resolved.
        profile: of the folder; None with the paper's preset.
        samples: some of the photos, or crops of them.
        interrupted: whether it was stopped before its budget was used; `resume` continues it.
    """

    model: Path | None
    reason: str = ""
    steps: int = 0
    photos: int
    skipped: tuple[str, ...]
    seconds: float = 0.0
    curve: tuple[CurvePoint, ...] = ()
    best: CurvePoint | None = None
    settings: AdaptSettings | MaskedSettings
    profile: FolderProfile | None
    samples: tuple[tuple[Path, Photo], ...] = ()
    interrupted: bool = False


def fit(
    folder: Path,
    output: Path,
    options: FitOptions = FitOptions(),
    *,
    start: Model | None = None,
    resume: bool = False,
    device: torch.device = torch.device("cpu"),
    distributed: DistributedContext = DistributedContext(),
    on_event: Callable[[FitEvent], None] = lambda event: None,
    stopped: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Fit a network to the noisy photos of a folder.

    Args:
        folder: searched for photos recursively; each is read at most once.
        output: the model file to write. While fitting, `output` + ".resume" is the checkpoint.
        options: see `FitOptions`.
        start: the model to start from; None for a fresh network. "adapt" on photos with mostly
            white noise starts from its variant for white noise, if it has one.
        resume: continue from the checkpoint, with the same photos and options.
        device: where to compute.
        distributed: the processes that share the fit, all called with the same arguments; the main
            one writes, and its clock and `stopped` count.
        on_event: called with each `events.FitEvent`.
        stopped: asked before each step; when true, the weights so far and a checkpoint are saved.

    Returns:
        See `FitResult`.

    Raises:
        UsageError: options out of range, or a checkpoint of other options.
        PhotoError: no readable photo.
        TrainingError: nothing to resume, or the loss is no longer finite.
        OutputError: the model cannot be written.
        DeviceError: out of memory.
    """
    settings = resolve_settings(options, start, processes=distributed.world_size)
    preset = PRESETS[settings.preset]
    images = load_images(
        folder, include=settings.include, max_pixels=preset.max_pixels, seed=settings.seed,
        max_images=preset.max_images, max_file_bytes=preset.max_file_bytes,
        on_progress=lambda done, total: on_event(
            StageProgress(stage="read", done=done, total=total)
        ),
        on_skip=lambda reason: on_event(ImageSkipped(reason=reason)),
    )  # fmt: skip
    reuse_memory()
    if settings.preset == "adapt" and start and start.white and mostly_white(images):
        start = start.white

    with memory_errors(device):
        crops = _profile_crops(images, settings, start, device, on_event)
        profile = profile_folder(images, crops) if crops else None
        if profile:
            on_event(FolderProfiled(profile=profile))
        if reason := _nothing_to_learn(profile, settings, start):
            return FitResult(
                model=None, reason=reason, photos=len(images.paths), skipped=images.skipped,
                settings=settings, profile=profile,
            )  # fmt: skip

        objective = _make_objective(images, crops, settings, distributed, device)
        run = FitRun(objective, images, settings, start, device, distributed)
        if distributed.is_main:
            clear_leftovers(output.parent)
        if resume:
            run.restore(checkpoint_path(output))
        interrupted = train(run, checkpoint_path(output), on_event, stopped)

        compared = start and preset.keep == "best" and not interrupted and distributed.is_main
        if start and compared and not run.improves_on(start, on_event):
            reason = f"no significant improvement over {start.name} (less than 2 standard errors)"

    if distributed.is_main:
        if not reason:
            config = _describe(run, images, profile, folder)
            save_model(output, run.validator.best_network, config)
        if not interrupted:
            checkpoint_path(output).unlink(missing_ok=True)
    return FitResult(
        model=None if reason else output, reason=reason, steps=run.trainer.steps,
        photos=len(images.paths), skipped=images.skipped, seconds=run.seconds(),
        curve=tuple(run.validator.curve), best=run.validator.best, settings=settings,
        profile=profile, samples=_samples(images), interrupted=interrupted,
    )  # fmt: skip


def _profile_crops(
    images: ImageFolder,
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
    images: ImageFolder,
    crops: list[CropProfile],
    settings: AdaptSettings | MaskedSettings,
    distributed: DistributedContext,
    device: torch.device,
) -> Objective:
    if isinstance(settings, AdaptSettings):
        return NoiseAdaptation(
            images, crops, patch_size=settings.patch_size, batch=settings.batch,
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


def _describe(
    run: FitRun, images: ImageFolder, profile: FolderProfile | None, folder: Path
) -> ModelConfig:
    """Return the header of the model file."""
    settings = run.settings
    inference, scheme = run.config.inference, {}
    if isinstance(settings, MaskedSettings):
        inference = Inference(
            passes="multi", n_masks=settings.n_masks, stride=settings.pd_stride_test,
            repeats=settings.mask_repeats, refine=settings.refine,
        )  # fmt: skip
        scheme = {
            "pd_stride": settings.pd_stride, "mask_ratio": settings.mask_ratio,
            "smooth": settings.smooth,
        }  # fmt: skip
    return dataclasses.replace(
        run.config,
        inference=inference,
        white="",
        cameras=profile.cameras if profile else {},
        provenance={
            "preset": settings.preset,
            "fitted_on": folder.resolve().name,
            "photos": len(images.paths),
            "started_from": run.started_from,
            "steps": run.trainer.steps,
            **scheme,
            "seed": settings.seed,
            "validation_loss": round(run.validator.best.loss, 6),
        },
    )


def _samples(images: ImageFolder) -> tuple[tuple[Path, Photo], ...]:
    """Return a crop of each of some photos, evenly spread."""
    first = {crop.image: crop for crop in reversed(images.crops)}
    count = min(SAMPLES, len(first))
    chosen = [first[i * len(first) // count] for i in range(count)]
    return tuple((images.paths[crop.image], Photo(pixels=crop.pixels)) for crop in chosen)

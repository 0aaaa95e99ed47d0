"""Fit a model to noisy photos; no clean images needed.

`fit` reads from top to bottom: images and their noise, training, validation, model file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from amsnet_cli.atomic import clear_leftovers
from amsnet_cli.fitting.checkpoint import checkpoint_path
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.events import FitEvent, FolderProfiled, ImageSkipped, StageProgress
from amsnet_cli.fitting.images import (
    CropT_co,
    ImageFolder,
    ReadPhoto,
    Seed,
    load_images,
    read_developed,
)
from amsnet_cli.fitting.kind import FitKind, Photos, kind_of_fit
from amsnet_cli.fitting.mosaic_images import read_mosaic_crops
from amsnet_cli.fitting.mosaic_profile import MosaicProfile
from amsnet_cli.fitting.mosaic_task import mosaic_task
from amsnet_cli.fitting.noise_profile import FolderProfile
from amsnet_cli.fitting.options import PRESETS, FitOptions
from amsnet_cli.fitting.outlook import Outlook
from amsnet_cli.fitting.photo_task import photo_task
from amsnet_cli.fitting.run import FitRun, train
from amsnet_cli.fitting.settings import (
    AdaptSettings,
    FitSettings,
    MaskedSettings,
    MosaicSettings,
    resolve_settings,
)
from amsnet_cli.fitting.start import Rivals, no_rivals
from amsnet_cli.fitting.task import FitNetwork, FitTask
from amsnet_cli.inference.memory import memory_errors, reuse_memory
from amsnet_cli.model import Model
from amsnet_cli.mosaic_model import MosaicModel
from amsnet_cli.photos.photo import Photo
from amsnet_cli.report.curve import CurvePoint


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The result of a fit.

    Attributes:
        model: the model file; None if none was written.
        reason: why none was written.
        doubt: why it cannot be told whether the model is better than the start, or "".
        steps: optimizer steps taken.
        photos: how many were trained on.
        skipped: for each photo that could not be read, why.
        seconds: of training and validation.
        curve: validation losses from the start to the end; empty without training.
        network: of the weights kept, whether a model was written or not, or what was distilled of
            it; None without training.
        best: the point of the weights kept; after a fit from a model, its improvement is that of
            the final comparison, on more patches.
        outlook: what as many steps again would bring; None where that is not known.
        start: the model that it started from; None for a fresh network.
        started_from: its name, or "scratch".
        settings: the options as resolved.
        profile: of the folder; None with the paper's preset.
        samples: some of the photos, or crops of them; mosaics as they are in their files; empty
            where no model was written, or before the end.
        interrupted: whether it was stopped before its budget was used; `resume` continues it.
    """

    model: Path | None
    reason: str = ""
    doubt: str = ""
    steps: int = 0
    photos: int
    skipped: tuple[str, ...]
    seconds: float = 0.0
    curve: tuple[CurvePoint, ...] = ()
    network: FitNetwork | None = None
    best: CurvePoint | None = None
    outlook: Outlook | None = None
    start: Model | MosaicModel | None
    started_from: str
    settings: FitSettings
    profile: FolderProfile | MosaicProfile | None
    samples: tuple[tuple[Path, Photo], ...] = ()
    interrupted: bool = False


def fit(
    photos: Photos,
    output: Path,
    options: FitOptions = FitOptions(),
    *,
    start: Model | MosaicModel | None = None,
    rivals: Rivals = no_rivals,
    resume: bool = False,
    device: torch.device = torch.device("cpu"),
    distributed: DistributedContext = DistributedContext(),
    on_event: Callable[[FitEvent], None] = lambda event: None,
    stopped: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Fit a network to noisy photos, or to the mosaics of RAW files.

    Args:
        photos: a folder, searched recursively, or files; each is read at most once.
        output: the model file to write. While fitting, `output` + ".resume" is the checkpoint.
        options: see `FitOptions`.
        start: the model to start from, for mosaics or for developed photos as `kind_of_fit` says;
            None for a fresh network.
        rivals: returns models to start from instead, where one of them validates better.
        resume: continue from the checkpoint, with the same photos and options.
        device: where to compute.
        distributed: the processes that share the fit, all called with the same arguments; the main
            one writes, and its clock and `stopped` count.
        on_event: called with each `events.FitEvent`.
        stopped: asked before each step; when true, the weights so far and a checkpoint are saved.

    Returns:
        See `FitResult`.

    Raises:
        UsageError: options out of range, a start for the other kind of photo, or a checkpoint of
            other options.
        PhotoError: no readable photo.
        TrainingError: nothing to resume, or the loss is no longer finite.
        OutputError: the model cannot be written.
        DeviceError: out of memory.
    """
    kind = kind_of_fit(photos, options.include, options.raw)
    settings = resolve_settings(
        options, start, mosaics=kind.mosaics, processes=distributed.world_size
    )
    if kind.left_out:
        on_event(ImageSkipped(reason=kind.left_out))
    with memory_errors(device):
        task = _read_and_measure(
            photos, kind, settings, start, rivals,
            device=device, distributed=distributed, on_event=on_event,
        )  # fmt: skip
        if task.profile:
            on_event(FolderProfiled(profile=task.profile))
        if task.reason:
            return FitResult(
                model=None, reason=task.reason, photos=len(task.paths), skipped=task.skipped,
                start=task.start, started_from=task.started_from, settings=settings,
                profile=task.profile,
            )  # fmt: skip

        run = FitRun(task, settings, device, distributed)
        if distributed.is_main:
            clear_leftovers(output.parent)
        if resume:
            run.restore(checkpoint_path(output))
        interrupted = train(run, checkpoint_path(output), on_event, stopped)

        reason, doubt, by_paper = "", "", settings.preset == "paper"
        compared = task.start and not (by_paper or interrupted) and distributed.is_main
        if task.start and compared:
            reason = run.fault_against(task.start.network, task.started_from, on_event)
            doubt = "" if reason else run.doubt_against(task.start.network)
        network, student = run.validator.best_network, None
        if task.distil and distributed.is_main and not (reason or interrupted):
            student = task.distil(network, stopped)
            interrupted = student is None and stopped()

    # A model that grows stays as it is until the end, as a fit that resumes starts from it.
    written = not reason and not (interrupted and options.grow)
    if distributed.is_main:
        if written:
            training = _training(task, run, photos, distilled=student is not None)
            task.save(output, student or network, training)
        if not interrupted:
            checkpoint_path(output).unlink(missing_ok=True)
    return FitResult(
        model=output if written else None, reason=reason, doubt=doubt, steps=run.trainer.steps,
        photos=len(task.paths), skipped=task.skipped, seconds=run.seconds(),
        curve=tuple(run.validator.curve), network=student or network,
        best=run.validator.best, outlook=run.outlook(),
        start=task.start, started_from=task.started_from, settings=settings,
        profile=task.profile, samples=() if reason or interrupted else task.samples(),
        interrupted=interrupted,
    )  # fmt: skip


def _read_and_measure(
    photos: Photos,
    kind: FitKind,
    settings: AdaptSettings | MaskedSettings | MosaicSettings,
    start: Model | MosaicModel | None,
    rivals: Rivals,
    *,
    device: torch.device,
    distributed: DistributedContext,
    on_event: Callable[[FitEvent], None],
) -> FitTask:
    # Mosaics are denoised once before the training, which takes long for many photosites.
    preset = PRESETS["adapt" if kind.mosaics else settings.preset]

    def load(
        read: Callable[[Path, int, Seed], ReadPhoto[CropT_co]],
    ) -> ImageFolder[CropT_co]:
        images = load_images(
            photos, read, include=settings.include, suits=kind.suits,
            max_pixels=preset.max_pixels, seed=settings.seed,
            max_images=preset.max_images, max_file_bytes=preset.max_file_bytes,
            on_progress=lambda done, total: on_event(
                StageProgress(stage="read", done=done, total=total)
            ),
            on_skip=lambda reason: on_event(ImageSkipped(reason=reason)),
        )  # fmt: skip
        reuse_memory()
        return images

    common: dict[str, Any] = {"device": device, "distributed": distributed, "on_event": on_event}
    if isinstance(settings, MosaicSettings):
        assert not isinstance(start, Model)
        return mosaic_task(load(read_mosaic_crops), settings, start, **common)
    assert not isinstance(start, MosaicModel)
    return photo_task(load(read_developed), settings, start, rivals, **common)


def _training(task: FitTask, run: FitRun, photos: Photos, *, distilled: bool) -> dict[str, Any]:
    """Return what a model file says of its training."""
    return {
        "preset": run.settings.preset,
        "fitted_on": photos.resolve().name if isinstance(photos, Path) else "single photos",
        "photos": len(task.paths),
        "started_from": task.started_from,
        "steps": run.trainer.steps,
        "distilled": distilled,
        "seed": run.settings.seed,
        "validation_loss": round(run.validator.best.loss, 6),
    }

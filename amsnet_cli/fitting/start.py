"""The models that a fit may start from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch

from amsnet_cli.errors import WeightsError
from amsnet_cli.fitting.checkpoint import checkpoint_path, load_checkpoint
from amsnet_cli.fitting.events import Trial
from amsnet_cli.fitting.objectives import Objective
from amsnet_cli.fitting.settings import FitSettings
from amsnet_cli.fitting.task import SCRATCH
from amsnet_cli.fitting.validation import SIGNIFICANCE_Z, patch_losses, relative_improvement
from amsnet_cli.model import Model, load_model
from amsnet_cli.mosaic_model import MosaicModel, load_mosaic_model
from amsnet_cli.weights.header import cameras_of, is_for_mosaics, read_header
from amsnet_cli.weights.store import MOSAIC_WEIGHTS, find_weights, fitted_models

MAX_FITTED = 4
"""Fitted models that are tried, the newest."""
Rivals = Callable[[Collection[str]], Iterable[Model]]
"""Returns models to try, given the cameras of the photos."""


def load_start(weights: str | Path | None, *, mosaics: bool) -> Model | MosaicModel:
    """Load a model of either kind.

    Args:
        weights: a name or path as for `find_weights`, or the `Path` of a model file; None for the
            bundled weights.
        mosaics: whether None means those for mosaics of RAW files.

    Raises:
        WeightsError: there are no such weights, or they are damaged.
    """
    weights = weights or (MOSAIC_WEIGHTS if mosaics else None)
    path = weights if isinstance(weights, Path) else find_weights(weights)
    name = weights if isinstance(weights, str) else path.stem
    if path.is_file() and is_for_mosaics(read_header(path)):
        return load_mosaic_model(path, name)
    return load_model(path, name)


def start_and_rivals(
    weights: str | Path | None, output: Path, *, mosaics: bool, resume: bool = False
) -> tuple[Model | MosaicModel, Rivals]:
    """Load the model that a fit starts from, and say what else it may start from.

    Args:
        weights: as for `load_start`; None lets the photos choose, or what a fit that is resumed
            started from.
        output: the file of the fit.
        mosaics: whether it is to mosaics of RAW files.
        resume: whether it continues an interrupted one.

    Raises:
        WeightsError: there are no such weights, or they are damaged.
        TrainingError: the checkpoint is missing or damaged.
    """
    if resume and weights is None:
        identity = load_checkpoint(checkpoint_path(output), torch.device("cpu"))["identity"]
        name = identity["started_from"]
        return load_start(None if name == SCRATCH else name, mosaics=mosaics), no_rivals
    choose = weights is None and not mosaics
    return load_start(weights, mosaics=mosaics), (
        partial(rivals, output=output) if choose else no_rivals
    )


def no_rivals(cameras: Collection[str]) -> Iterable[Model]:
    """No model."""
    return ()


def rivals(cameras: Collection[str], output: Path) -> list[Model]:
    """Load the fitted models that a fit may start from instead of the default.

    Args:
        cameras: of the photos; models fitted to one of them are loaded, but unreadable ones.
        output: the file of the fit, which is no start for it.

    Raises:
        WeightsError: the folder of models cannot be read.
    """
    found: list[Model] = []
    newest = sorted(
        (path for path in fitted_models().values() if path.resolve() != output.resolve()),
        key=lambda path: (-path.stat().st_mtime_ns, path),
    )
    for path in newest:
        try:
            header = read_header(path)
            if is_for_mosaics(header) or not set(cameras_of(header)) & set(cameras):
                continue
            model = load_model(path, path.stem)
        except WeightsError:
            continue
        if model.config.inference.passes == "single":
            found.append(model)
        if len(found) == MAX_FITTED:
            break
    return found


def try_starts(
    models: Sequence[Model], objective: Objective, settings: FitSettings, device: torch.device
) -> list[Trial]:
    """Validate models on the same patches, without training."""
    losses = []
    for model in models:
        network = model.network.to(device)
        fast = network.runs_in_bfloat16 and settings.precision == "auto"
        losses.append(patch_losses(objective, network, device=device, bfloat16=fast)[0])
    trials = []
    for model, own in zip(models, losses, strict=True):
        improvement, error = relative_improvement(losses[0], own)
        trials.append(Trial(name=model.name, improvement=improvement, standard_error=error))
    return trials


def best_of(trials: Sequence[Trial]) -> int:
    """Index of the model to start from: the first, unless another is significantly better."""
    best = max(range(len(trials)), key=lambda i: trials[i].improvement)
    better = trials[best].improvement > SIGNIFICANCE_Z * trials[best].standard_error
    return best if better else 0

"""The state of an unfinished fit, beside the model file: what `--resume` continues from."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from amsnet_cli.atomic import whole_file
from amsnet_cli.errors import OutputError, TrainingError, UsageError
from amsnet_cli.fitting.settings import FitSettings

CHECKPOINT_SECONDS = 15.0
"""Time between two checkpoints, unless saving takes long."""
_BUDGET = ("minutes", "steps", "until_level")


def checkpoint_path(output: Path) -> Path:
    """Return where the checkpoint of a fit to `output` lies."""
    return output.with_name(output.name + ".resume")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch turns some of the former into the latter
        raise OutputError(
            f"{path}: cannot be written ({error})", "choose another place with -o"
        ) from error


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        TrainingError: there is none, or it is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(
            f"{path}: no interrupted fit to resume", "start it without --resume"
        ) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path}: the checkpoint is damaged", "start over with --force"
        ) from error
    return state


def fit_identity(settings: FitSettings, started_from: str, fingerprint: str) -> dict[str, Any]:
    """Return what must be the same when a fit is resumed; the budget may change."""
    values = settings.to_dict()
    return {
        "settings": {k: v for k, v in values.items() if k not in _BUDGET},
        "started_from": started_from,
        "fingerprint": fingerprint,
    }


def check_same_fit(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare two results of `fit_identity`.

    Raises:
        UsageError: the interrupted fit had another start, or other options.
        TrainingError: it had other photos.
    """
    if saved["started_from"] != now["started_from"]:
        raise UsageError(
            f"the interrupted fit started from {saved['started_from']}", "give the same start"
        )
    before, after = saved["settings"], now["settings"]
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    if changed:
        raise UsageError(
            f"the interrupted fit had another {', '.join(changed)}", "give the same options"
        )
    if saved["fingerprint"] != now["fingerprint"]:
        raise TrainingError(
            "the folder's photos have changed since the fit was interrupted",
            "start it without --resume",
        )

"""What a fit reports while it runs, one dataclass an event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from amsnet_cli.fitting.mosaic_profile import MosaicProfile
from amsnet_cli.fitting.noise_profile import FolderProfile
from amsnet_cli.report.curve import CurvePoint


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """Progress of a stage before or after training.

    Attributes:
        stage: "read" loads the images, "measure" profiles their noise, "compare" evaluates the
            start and the fitted model on the final validation patches, "distil" trains the single
            pass.
        done: items done.
        total: items in all, about.
    """

    stage: Literal["read", "measure", "compare", "distil"]
    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class ImageSkipped:
    """A photo could not be read; `reason` names the file."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class FolderProfiled:
    """The cameras and the noise of the folder are known."""

    profile: FolderProfile | MosaicProfile


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How a model validates on the photos, before any training.

    Attributes:
        name: of the model.
        improvement: of its validation loss over that of the first model, as a fraction.
        standard_error: of the improvement.
    """

    name: str
    improvement: float
    standard_error: float


@dataclass(frozen=True, kw_only=True)
class StartChosen:
    """Several models were tried, and one is the start.

    Attributes:
        name: of the start.
        trials: of all, the default first.
    """

    name: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """An optimizer step was taken.

    Attributes:
        step: how many were taken.
        progress: fraction of the budget used, in [0, 1].
        loss: exponential moving average of the training loss.
        steps_per_second: over the whole fit.
        seconds_left: estimate.
    """

    step: int
    progress: float
    loss: float
    steps_per_second: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class Validated:
    """The validation loss was measured.

    Attributes:
        point: of the weights of now.
        best: of the weights that would be kept now.
    """

    point: CurvePoint
    best: CurvePoint


FitEvent = StageProgress | ImageSkipped | FolderProfiled | StartChosen | StepDone | Validated

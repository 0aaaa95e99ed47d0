"""The training loop of a fit, and its state: what a step changes and a checkpoint restores."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from amsnet_cli.errors import TrainingError
from amsnet_cli.fitting import checkpoint
from amsnet_cli.fitting.budget import Budget
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.events import FitEvent, StageProgress, StepDone, Validated
from amsnet_cli.fitting.options import PRESETS
from amsnet_cli.fitting.outlook import Outlook, levelled_off, outlook
from amsnet_cli.fitting.settings import FitSettings, MaskedSettings
from amsnet_cli.fitting.task import FitNetwork, FitTask
from amsnet_cli.fitting.trainer import Trainer, TrainerConfig
from amsnet_cli.fitting.validation import (
    FINAL_VALIDATION_FACTOR,
    SIGNIFICANCE_Z,
    Validator,
    relative_improvement,
)


def train(
    run: FitRun,
    path: Path,
    on_event: Callable[[FitEvent], None],
    stopped: Callable[[], bool],
) -> bool:
    """Train until the budget is used; return whether it was interrupted before."""
    validator = run.validator
    saved, save_seconds = time.monotonic(), 0.0
    if run.distributed.is_main:
        on_event(Validated(point=validator.curve[-1], best=validator.best))
    while (progress := run.progress_unless(stopped)) < 1:
        run.step(progress)
        if not run.distributed.is_main:
            continue
        on_event(run.step_event())
        if validator.is_due(run.trainer.steps):
            on_event(run.validate())
        if time.monotonic() - saved > max(checkpoint.CHECKPOINT_SECONDS, 30 * save_seconds):
            before = time.monotonic()
            run.save(path)
            saved = time.monotonic()
            save_seconds = saved - before
    if run.distributed.is_main:
        # Before the last validation, which a fit that resumes would not have made at this step; and
        # the comparison that follows may be interrupted as well.
        run.save(path)
        on_event(run.validate())
    return math.isinf(progress)


class FitRun:
    """A fit in progress: the trainer, the validator, and the time it took."""

    def __init__(
        self,
        task: FitTask,
        settings: FitSettings,
        device: torch.device,
        distributed: DistributedContext,
    ) -> None:
        self.objective, self.settings = task.make_objective(), settings
        self.device, self.distributed = device, distributed
        self.identity = checkpoint.fit_identity(settings, task.started_from, task.fingerprint)
        preset = PRESETS[settings.preset]
        torch.manual_seed(settings.seed)
        network = task.make_network()
        bfloat16 = network.runs_in_bfloat16 and settings.precision == "auto"
        distilled = settings.distilled_share if isinstance(settings, MaskedSettings) else 0.0
        own = dataclasses.replace(settings, minutes=settings.minutes * (1 - distilled))
        self.budget = Budget(own, preset.fall_from)
        self.trainer: Trainer[FitNetwork] = Trainer(
            network,
            TrainerConfig(
                learning_rate=settings.learning_rate, fall_from=preset.fall_from,
                optimizer=preset.optimizer, warmup_steps=preset.warmup_steps, beta2=preset.beta2,
                grad_clip=preset.grad_clip, ema_decay=preset.ema_decay, bfloat16=bfloat16,
            ),
            device=device, distributed=distributed,
        )  # fmt: skip
        self.loss, self.steady_points = math.nan, 1
        self.earlier_seconds, self.started = 0.0, time.monotonic()
        self.validator = Validator(
            self.objective, self.trainer.ema, keep=preset.keep, device=device, bfloat16=bfloat16
        )  # fmt: skip

    def seconds(self) -> float:
        """Return how long the fit took so far, before an interruption included."""
        return self.earlier_seconds + time.monotonic() - self.started

    def progress(self) -> float:
        """Return the fraction of the budget used."""
        return self.budget.progress(self.trainer.steps, self.seconds())

    def progress_unless(self, stopped: Callable[[], bool]) -> float:
        """Return the fraction used, or infinity to stop; the same in all processes."""
        progress = self.progress()
        return self.distributed.broadcast(math.inf if progress < 1 and stopped() else progress)

    def step(self, progress: float) -> None:
        """Take an optimizer step."""
        step = self.trainer.steps
        loss = self.trainer.step(lambda network: self.objective.loss(network, step), progress)
        value = self.distributed.mean(loss.item())
        if not math.isfinite(value):
            raise TrainingError("the loss is no longer a number", "try a lower --lr")
        self.loss = value if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * value

    def step_event(self) -> StepDone:
        """Return the event of the latest step."""
        seconds, progress = self.seconds(), self.progress()
        return StepDone(
            step=self.trainer.steps, progress=progress, loss=self.loss,
            steps_per_second=self.trainer.steps / seconds,
            seconds_left=seconds * (1 - progress) / progress if progress else math.inf,
        )  # fmt: skip

    def validate(self) -> Validated:
        """Measure the validation loss of the moving average; it may be found to be level."""
        progress = self.progress()
        point = self.validator.check(
            self.trainer.ema, step=self.trainer.steps, finished=progress >= 1
        )
        if progress <= self.budget.fall_from:
            self.steady_points = len(self.validator.curve)
            if levelled_off(self.validator.curve, self.validator.patch_losses):
                self.budget.end_at(math.ceil(point.step / self.budget.fall_from))
        return Validated(point=point, best=self.validator.best)

    def outlook(self) -> Outlook | None:
        """Return what as many steps again would bring; None where the curve does not tell."""
        steady = slice(self.steady_points)
        return outlook(self.validator.curve[steady], self.validator.patch_losses[steady])

    def fault_against(
        self, start: FitNetwork, name: str, on_event: Callable[[FitEvent], None]
    ) -> str:
        """Return why the start is to be kept instead, or "".

        They are compared on more patches than during training.
        """
        losses, known = [], []
        networks = (copy.deepcopy(start).to(self.device), self.validator.best_network)
        for i, network in enumerate(networks):
            on_event(StageProgress(stage="compare", done=i, total=len(networks)))
            losses.append(self.validator.losses(network, FINAL_VALIDATION_FACTOR))
            known.append(self.validator.known_losses(network))
        if not self.validator.compare(*losses):
            return f"no significant improvement over {name} (less than 2 standard errors)"
        if len(known[0]):
            gain, error = relative_improvement(*known)
            if gain < -SIGNIFICANCE_Z * error:
                return f"it would forget some of what {name} knows"
        return ""

    def doubt_against(self, start: FitNetwork) -> str:
        """Return why the weights kept may be no better than the start, or ""."""
        return self.validator.doubt(
            copy.deepcopy(start).to(self.device).eval(), self.validator.best_network
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint."""
        checkpoint.save_checkpoint(path, {
            "identity": self.identity, "trainer": self.trainer.state_dict(),
            "validator": self.validator.state_dict(), "loss": self.loss, "seconds": self.seconds(),
            "steady_points": self.steady_points, "ends_at": self.budget.steps,
        })  # fmt: skip

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint; see `checkpoint` for the errors."""
        state = checkpoint.load_checkpoint(path, self.device)
        checkpoint.check_same_fit(state["identity"], self.identity)
        self.trainer.load_state_dict(state["trainer"])
        self.validator.load_state_dict(state["validator"])
        self.loss, self.steady_points = state["loss"], state["steady_points"]
        self.budget.end_at(state["ends_at"])
        self.earlier_seconds, self.started = state["seconds"], time.monotonic()

"""What `amsnet fit` shows while it runs."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from amsnet_cli.cli.console import print_json, say, stderr
from amsnet_cli.fitting.events import (
    FitEvent,
    FolderProfiled,
    ImageSkipped,
    StageProgress,
    StartChosen,
    StepDone,
    Validated,
)
from amsnet_cli.fitting.fit import FitResult
from amsnet_cli.fitting.outlook import Outlook
from amsnet_cli.report.curve import CurvePoint

_STAGES = {
    "read": "reading photos", "measure": "measuring noise", "compare": "validating",
    "distil": "distilling into a single pass",
}  # fmt: skip
_BARS = "▁▂▃▄▅▆▇█"
LINE_SECONDS = 15.0
"""Time between lines where there is no terminal."""


class FitDisplay:
    """A live bar on a terminal, a line now and then elsewhere; JSON lines on stdout if wanted.

    Args:
        stopped: whether the user asked for a stop; before and after training, where there is
            nothing to save, that interrupts at once.
        quiet: show nothing on stderr.
        as_json: print each event as a JSON object.
    """

    def __init__(self, stopped: Callable[[], bool], *, quiet: bool, as_json: bool) -> None:
        self.stopped, self.quiet, self.as_json = stopped, quiet, as_json
        self.curve: list[CurvePoint] = []
        self.best: CurvePoint | None = None
        self.last_line = -LINE_SECONDS
        self.bars = Progress(
            BarColumn(), TextColumn("{task.description}"),
            console=stderr, transient=True, disable=quiet or not stderr.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> FitDisplay:
        self.bars.start()
        self.task = self.bars.add_task(_STAGES["read"], total=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def show(self, event: FitEvent) -> None:
        """Show an event."""
        if self.as_json:
            print_event(event)
        if isinstance(event, StageProgress):
            if self.stopped() and event.stage != "distil":  # That one ends by itself.
                raise KeyboardInterrupt
            line = f"{_STAGES[event.stage]} {event.done}/{event.total}"
            self.bars.update(self.task, completed=event.done / event.total, description=line)
        elif isinstance(event, ImageSkipped):
            self._say(f"skipped {event.reason}")
        elif isinstance(event, FolderProfiled):
            self._say(*event.profile.lines())
        elif isinstance(event, StartChosen):
            self._say(describe_start(event))
        elif isinstance(event, Validated):
            self.curve.append(event.point)
            self.best = event.best
        else:
            self._show_step(event)

    def _say(self, *lines: str) -> None:
        if not self.quiet:
            for line in lines:
                say(line)

    def _show_step(self, now: StepDone) -> None:
        assert self.best is not None
        left = f"{now.seconds_left:.0f} s left" if now.progress < 1 else "done"
        latest = self.curve[-1]
        line = (
            f"step {now.step}  loss {now.loss:.4f}  validation {latest.loss:.4f} "
            f"(best {self.best.loss:.4f}, {loss_change(latest)}) {_sparkline(self.curve)}  "
            f"{now.steps_per_second:.1f} steps/s  {left}"
        )
        self.bars.update(self.task, completed=now.progress, description=escape(line))
        due = time.monotonic() - self.last_line > LINE_SECONDS or now.progress >= 1
        if due and not stderr.is_terminal:
            self._say(line)
            self.last_line = time.monotonic()


def describe_start(chosen: StartChosen) -> str:
    """Say which model a fit starts from, and how the others compare."""
    first, *others = chosen.trials
    compared = [
        f"{trial.name} {-trial.improvement:+.2%} ± {2 * trial.standard_error:.2%}"
        for trial in others
    ]
    return f"starts from {chosen.name}; validation loss against {first.name}: {', '.join(compared)}"


def loss_change(point: CurvePoint) -> str:
    """Return how the loss differs from the start's, in percent, with two standard errors."""
    return f"{-point.improvement:+.2%} ± {2 * point.standard_error:.2%}"


def describe_verdict(result: FitResult) -> str:
    """Return whether the model is better than its start, for people; "" if that is not known."""
    if result.doubt:
        return f"cannot tell whether it is better than {result.started_from}: {result.doubt}"
    compared = result.start and not result.interrupted and result.settings.preset != "paper"
    return f"better than {result.started_from} on these photos" if compared else ""


def describe_outlook(outlook: Outlook, seconds: float) -> str:
    """Say what more training would bring, after a fit of so many seconds."""
    return (
        f"{seconds / 60:.1f} minutes more would lower the loss by about "
        f"{outlook.improvement:.2%} ± {2 * outlook.standard_error:.2%}"
    )


def print_event(event: FitEvent) -> None:
    """Print an event as a JSON object."""
    if isinstance(event, StageProgress):
        print_object(event.stage, done=event.done, total=event.total)
    elif isinstance(event, ImageSkipped):
        print_object("skipped", reason=event.reason)
    elif isinstance(event, FolderProfiled):
        print_object("profile", **dataclasses.asdict(event.profile))
    elif isinstance(event, StartChosen):
        print_object("start", **dataclasses.asdict(event))
    elif isinstance(event, Validated):
        print_object("validation", **dataclasses.asdict(event.point), best=event.best.loss)
    else:
        left = event.seconds_left
        print_object(
            "step", step=event.step, progress=round(event.progress, 4), loss=event.loss,
            steps_per_second=round(event.steps_per_second, 3),
            seconds_left=None if math.isinf(left) else round(left, 1),
        )  # fmt: skip


def print_object(kind: str, **fields: object) -> None:
    """Print an event's kind and fields as a JSON object on stdout."""
    print_json({"event": kind, **fields})


def _sparkline(curve: Sequence[CurvePoint]) -> str:
    """Draw the validation loss in a line of text."""
    losses = [point.loss for point in curve]
    low, high = min(losses), max(losses)
    if not high > low:
        return ""
    return "".join(_BARS[round((loss - low) / (high - low) * (len(_BARS) - 1))] for loss in losses)

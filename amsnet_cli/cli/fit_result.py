"""What `amsnet fit` says at its end."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from amsnet_cli.cli.console import print_result, say
from amsnet_cli.cli.fit_progress import (
    describe_outlook,
    describe_verdict,
    loss_change,
    print_object,
)
from amsnet_cli.fitting.fit import FitResult


def print_done(result: FitResult, page: Path | None, *, as_json: bool) -> None:
    """Print the model's path, or the event "done", on stdout."""
    if as_json:
        best = result.best
        print_object(
            "done",
            model=str(result.model) if result.model else None, reason=result.reason or None,
            doubt=result.doubt or None,
            report=str(page) if page and result.model else None,
            steps=result.steps, photos=result.photos, skipped=len(result.skipped),
            started_from=result.started_from, seconds=round(result.seconds, 1),
            improvement=best.improvement if best else None,
            standard_error=best.standard_error if best else None,
            as_long_again=dataclasses.asdict(result.outlook) if result.outlook else None,
            interrupted=result.interrupted,
        )  # fmt: skip
    elif result.model:
        print_result(result.model)


def say_result(result: FitResult, name: str, page: Path) -> None:
    """Say what a fit brought, what more would bring, and how to use the model called `name`."""
    if result.best:
        say(
            f"{result.steps} steps on {result.photos} photos, {len(result.skipped)} skipped, in "
            f"{result.seconds:.0f} s; validation loss {result.curve[0].loss:.4f} -> "
            f"{result.best.loss:.4f} ({loss_change(result.best)})"
        )
    if result.outlook:
        say(describe_outlook(result.outlook, result.seconds))
    if result.model is None:
        say(f"no model written: {result.reason}; keep using {result.started_from}")
        return
    if verdict := describe_verdict(result):
        say(verdict)
    say(f"before and after: {page}")
    say(f"use it with: amsnet denoise PHOTO -o CLEAN -w {shlex.quote(name)}")
    if result.profile and result.profile.cameras:
        say(f"or -w auto, for photos of {', '.join(result.profile.cameras)}")

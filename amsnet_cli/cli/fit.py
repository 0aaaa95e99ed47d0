"""`amsnet fit`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from amsnet_cli.cli import options
from amsnet_cli.cli.console import (
    INTERRUPTED,
    print_result,
    reports_errors,
    say,
    stderr,
    stop_requests,
)
from amsnet_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from amsnet_cli.fitting import FitProgress

LINE_EVERY = 15.0
"""Seconds between lines where there is no terminal."""


@reports_errors
def fit(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Noisy photos, searched recursively; only read."),
    ],
    weights: options.Weights = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Start from a fresh network, not from weights.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The model's file. (default: in your data folder, named like FOLDER)",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after this long. (default: 10)")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after this many steps; reproducible, unlike minutes."),
    ] = None,
    stride: Annotated[
        int, typer.Option(min=1, help="Of the pixel-shuffle downsampling; 1 for white noise.")
    ] = 5,
    hidden_share: Annotated[
        float, typer.Option("--hidden-share", help="How much of the pixels each mask hides.")
    ] = 0.5,
    rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn from a folder of noisy photos alone; no clean pictures are needed.

    Hidden pixels are predicted from visible ones, and compared with their noisy selves. Ctrl-C
    saves the model as it is and a state that --resume goes on from.
    """
    from amsnet_cli.photos.find import find_photos
    from amsnet_cli.weights.manifest import SUFFIX, load_manifest
    from amsnet_cli.weights.store import find_weights, models_dir

    if weights and from_scratch:
        raise UsageError("--weights and --from-scratch exclude each other", "give one of them")
    find_photos(folder)  # Says what is wrong with the folder before the long part begins.
    name = folder.resolve().name
    if output is None:
        if not name or name in load_manifest():
            raise UsageError(f"a model cannot be named {name or '/'!r}", "choose a file with -o")
        output = models_dir() / f"{name}{SUFFIX}"
    elif output.suffix != SUFFIX:
        raise UsageError(f"{output}: models are {SUFFIX} files", f"add {SUFFIX}")
    if output.exists() and not (force or resume):
        raise OutputError(f"{output}: exists already", "replace it with --force, or choose with -o")
    start_path = None if from_scratch else find_weights(weights)

    from amsnet_cli import fitting
    from amsnet_cli.device import choose_device
    from amsnet_cli.model import load_model

    if fitting.resume_path(output).exists() and not (force or resume):
        raise OutputError(
            f"{fitting.resume_path(output)}: an interrupted fit is there",
            "go on with --resume, or start over with --force",
        )
    start = load_model(start_path, weights or start_path.stem) if start_path else None
    if minutes is None and steps is None:
        minutes = 10.0
    wishes = fitting.FitOptions(
        minutes=minutes, steps=steps, stride=stride, hidden_share=hidden_share, rate=rate, seed=seed
    )
    where = choose_device(device)
    with stop_requests() as stopped, _Watch(quiet=quiet) as watch:
        result = fitting.fit(
            folder, output, wishes,
            start=start, resume=resume, device=where,
            progress=watch.show, notice=say, stopped=stopped,
        )  # fmt: skip

    print_result(result.model)
    again = f"amsnet fit {_quoted(folder)} --resume"
    if output.parent != models_dir():
        again += f" -o {_quoted(output)}"
    for option, value, default in (
        ("--minutes", minutes, None), ("--steps", steps, None), ("--stride", stride, 5),
        ("--hidden-share", hidden_share, 0.5), ("--rate", rate, None), ("--seed", seed, 0),
        ("--weights", weights, None),
    ):  # fmt: skip
        if value != default:
            again += f" {option} {_quoted(str(value))}"
    again += " --from-scratch" * from_scratch
    if result.interrupted:
        say(f"stopped after {result.steps} steps; the model is saved. Go on with: {again}")
        raise typer.Exit(INTERRUPTED)
    if not quiet:
        known_as = output.stem if output.parent == models_dir() else str(output)
        better = 1 - result.best_held_out / result.first_held_out
        say(
            f"{result.steps} steps on {result.photos} photos, {len(result.skipped)} skipped; "
            f"held-out loss {result.first_held_out:.4f} -> {result.best_held_out:.4f} "
            f"({-better:+.1%})"
        )
        say(f"use it with: amsnet denoise PHOTO -o CLEAN -w {_quoted(known_as)}")


def _quoted(text: str | Path) -> str:
    return shlex.quote(str(text))


class _Watch:
    """A live bar on a terminal, a line now and then elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.last_line = -LINE_EVERY
        self.bars = Progress(
            BarColumn(), TextColumn("{task.description}"),
            console=stderr, transient=True, disable=quiet or not stderr.is_terminal,
        )  # fmt: skip

    def __enter__(self) -> _Watch:
        self.bars.start()
        self.task = self.bars.add_task("reading photos", total=1.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def show(self, now: FitProgress) -> None:
        """Show where the fit stands."""
        left = f"{now.seconds_left:.0f} s left" if now.share < 1 else "done"
        line = (
            f"step {now.step}  loss {now.loss:.4f}  held-out {now.held_out:.4f} "
            f"(best {now.best:.4f})  {now.steps_per_second:.1f} steps/s  {left}"
        )
        self.bars.update(self.task, completed=now.share, description=escape(line))
        due = time.monotonic() - self.last_line > LINE_EVERY or now.share >= 1
        if due and not (self.quiet or stderr.is_terminal):
            say(line)
            self.last_line = time.monotonic()

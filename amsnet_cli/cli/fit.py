"""`amsnet fit`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    match: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="Learn only from photos named so, such as '*NOISY*' of SIDD Medium.",
        ),
    ] = "*",
    recipe: Annotated[
        Literal["default", "paper"],
        typer.Option(
            help="paper: the paper's own training, from a fresh network without --weights."
        ),
    ] = "default",
    network: Annotated[
        Literal["compact", "restormer", "deamnet", "nafnet", "unet", "dncnn"] | None,
        typer.Option(help="A fresh network for --recipe paper. (default: restormer)"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Stop after this long. (default: 10; with --recipe paper 25,000 steps)"
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after this many steps; reproducible, unlike minutes."),
    ] = None,
    stride: Annotated[
        int, typer.Option(min=1, help="Of the pixel-shuffle downsampling; 1 for white noise.")
    ] = 5,
    infer_stride: Annotated[
        int | None,
        typer.Option("--infer-stride", min=1, help="The same where the model denoises."),
    ] = None,
    hidden_share: Annotated[
        float, typer.Option("--hidden-share", help="How much of the pixels each mask hides.")
    ] = 0.5,
    smooth: Annotated[
        bool,
        typer.Option(
            "--smooth", help="Fine-tune --weights with prior smoothing, the paper's variant P."
        ),
    ] = False,
    refine: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of random replacement refinement where the model denoises, the paper's "
            "variant E; 0.16 there.",
        ),
    ] = 0.0,
    patch: Annotated[
        int | None, typer.Option(min=1, help="Side of a training patch. (default: about 160)")
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Patches a step. (default: 4; Restormer's 2)"),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: Annotated[
        Literal["auto", "float32"],
        typer.Option(help="auto computes in bfloat16 where that is faster."),
    ] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn from a folder of noisy photos alone; no clean pictures are needed.

    Hidden pixels are predicted from visible ones, and compared with their noisy selves. Ctrl-C
    saves the model as it is and a state that --resume goes on from. Several GPUs share a fit that
    torchrun starts: torchrun --nproc-per-node 4 -m amsnet_cli fit FOLDER.
    """
    from amsnet_cli.photos.find import find_photos
    from amsnet_cli.weights.store import find_weights, models_dir

    if weights and from_scratch:
        raise UsageError("--weights and --from-scratch exclude each other", "give one of them")
    if network and weights:
        raise UsageError("--weights bring their network", "leave --network out")
    find_photos(folder)  # Says what is wrong with the folder before the long part begins.
    output = _model_file(folder, output)
    if output.exists() and not (force or resume):
        raise OutputError(f"{output}: exists already", "replace it with --force, or choose with -o")
    fresh = from_scratch or (recipe == "paper" and weights is None)
    start_path = None if fresh else find_weights(weights)

    from amsnet_cli import fitting
    from amsnet_cli.device import choose_device
    from amsnet_cli.model import load_model
    from amsnet_cli.parallel import joined_crew

    if fitting.resume_path(output).exists() and not (force or resume):
        raise OutputError(
            f"{fitting.resume_path(output)}: an interrupted fit is there",
            "go on with --resume, or start over with --force",
        )
    start = load_model(start_path, weights or start_path.stem) if start_path else None
    if minutes is None and steps is None:
        minutes, steps = (None, fitting.PAPER_STEPS) if recipe == "paper" else (10.0, None)
    wishes = fitting.FitOptions(
        match=match,
        recipe=recipe,
        network=network or ("restormer" if recipe == "paper" and fresh else "compact"),
        smooth=smooth,
        minutes=minutes, steps=steps,
        stride=stride, infer_stride=infer_stride, hidden_share=hidden_share, refine=refine,
        patch=patch, batch=batch, rate=rate, precision=precision, seed=seed,
    )  # fmt: skip
    with (
        joined_crew(choose_device(device)) as crew,
        stop_requests() as stopped,
        _Watch(quiet=quiet or not crew.first) as watch,
    ):
        result = fitting.fit(
            folder, output, wishes,
            start=start, resume=resume, device=crew.device, crew=crew,
            progress=watch.show, notice=say if crew.first else lambda line: None, stopped=stopped,
        )  # fmt: skip

    if not crew.first:
        raise typer.Exit(INTERRUPTED if result.interrupted else 0)
    print_result(result.model)
    again = f"amsnet fit {_quoted(folder)} --resume"
    if output.parent != models_dir():
        again += f" -o {_quoted(output)}"
    for option, value, default in (
        ("--match", match, "*"), ("--recipe", recipe, "default"), ("--network", network, None),
        ("--minutes", minutes, None), ("--steps", steps, None),
        ("--stride", stride, 5), ("--infer-stride", infer_stride, None),
        ("--hidden-share", hidden_share, 0.5), ("--refine", refine, 0.0), ("--patch", patch, None),
        ("--batch", batch, None), ("--rate", rate, None), ("--precision", precision, "auto"),
        ("--seed", seed, 0), ("--weights", weights, None),
    ):  # fmt: skip
        if value != default:
            again += f" {option} {_quoted(str(value))}"
    again += " --smooth" * smooth + " --from-scratch" * from_scratch
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


def _model_file(folder: Path, chosen: Path | None) -> Path:
    """Where the model goes: as chosen, or named like the folder in the user's data folder."""
    from amsnet_cli.weights.manifest import SUFFIX, load_manifest
    from amsnet_cli.weights.store import models_dir

    if chosen:
        if chosen.suffix != SUFFIX:
            raise UsageError(f"{chosen}: models are {SUFFIX} files", f"add {SUFFIX}")
        return chosen
    name = folder.resolve().name
    if not name or name in load_manifest():
        raise UsageError(f"a model cannot be named {name or '/'!r}", "choose a file with -o")
    return models_dir() / f"{name}{SUFFIX}"


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

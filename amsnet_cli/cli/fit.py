"""`amsnet fit`."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import time
from collections.abc import Callable, Sequence
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
    from amsnet_cli.fitting.fit import FitProgress, FitResult
    from amsnet_cli.fitting.noise_profile import Survey
    from amsnet_cli.report.curve import CurvePoint

_BARS = "▁▂▃▄▅▆▇█"
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
        Literal["adapt", "masked", "paper"] | None,
        typer.Option(
            help="adapt: teach weights the noise of these photos, in minutes; masked: hide and "
            "predict; paper: the same by the paper's own settings. (default: adapt, or masked "
            "--from-scratch)",
        ),
    ] = None,
    network: Annotated[
        Literal["compact", "restormer", "deamnet", "nafnet", "unet", "dncnn"] | None,
        typer.Option(help="A fresh network for --recipe paper. (default: restormer)"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Stop after this long. (default: adapt none, masked 10, paper 25,000 steps)",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Stop after this many steps; reproducible, unlike minutes. (default: adapt 1000)",
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of the pixel-shuffle downsampling; 1 for white noise. (default: 5)",
        ),
    ] = None,
    infer_stride: Annotated[
        int | None,
        typer.Option("--infer-stride", min=1, help="The same where the model denoises."),
    ] = None,
    hidden_share: Annotated[
        float | None,
        typer.Option(
            "--hidden-share", help="How much of the pixels each mask hides. (default: 0.5)"
        ),
    ] = None,
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
        int | None,
        typer.Option(min=1, help="Side of a training patch. (default: adapt 96, else about 160)"),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Patches a step. (default: adapt 8, else 4; Restormer's 2)"),
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: Annotated[
        Literal["auto", "float32"],
        typer.Option(help="auto computes in bfloat16 where that is faster."),
    ] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on after an interruption.")] = False,
    denoise: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT_DIR", help="Then denoise the folder into this one, its tree kept."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.html",
            help="The page with the curve and photos before and after. (default: beside the model)",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each event on stdout.")
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn from a folder of noisy photos alone; no clean pictures are needed.

    Measures the noise of the photos and teaches the weights just that, or trains from scratch by
    hiding pixels and predicting them. Where the photos gain nothing, it says so and writes no
    model. Ctrl-C saves the model as it is and a state that --resume goes on from. Several GPUs
    share a fit that torchrun starts: torchrun --nproc-per-node 4 -m amsnet_cli fit FOLDER.
    """
    from amsnet_cli.photos.find import find_photos
    from amsnet_cli.weights.store import find_weights, models_dir, page_path

    if weights and from_scratch:
        raise UsageError("--weights and --from-scratch exclude each other", "give one of them")
    if network and weights:
        raise UsageError("--weights bring their network", "leave --network out")
    find_photos(folder)  # Says what is wrong with the folder before the long part begins.
    output = _model_file(folder, output)
    page = report or page_path(output)
    if output.exists() and not (force or resume):
        raise OutputError(f"{output}: exists already", "replace it with --force, or choose with -o")
    from amsnet_cli.report.html import check_report

    if report or page.exists():
        check_report(page, force=force)
    if denoise:
        from amsnet_cli.batch.destination import make_output_folder

        make_output_folder(folder, denoise, force=force)
    fresh = from_scratch or (recipe == "paper" and weights is None)
    start_path = None if fresh else find_weights(weights)

    from amsnet_cli.device import choose_device
    from amsnet_cli.fitting import fit as fitting
    from amsnet_cli.fitting.distributed import joined_crew
    from amsnet_cli.model import load_model

    if fitting.resume_path(output).exists() and not (force or resume):
        raise OutputError(
            f"{fitting.resume_path(output)}: an interrupted fit is there",
            "go on with --resume, or start over with --force",
        )
    start = load_model(start_path, weights or start_path.stem) if start_path else None
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
        _Watch(stopped, quiet=quiet or not crew.first, as_json=as_json and crew.first) as watch,
    ):
        result = fitting.fit(
            folder, output, wishes,
            start=start, resume=resume, device=crew.device, crew=crew,
            reading=watch.reading, surveyed=watch.surveyed, progress=watch.show,
            notice=watch.notice, stopped=stopped,
        )  # fmt: skip

    if not crew.first:
        raise typer.Exit(INTERRUPTED if result.interrupted else 0)
    if result.interrupted:
        again = _command(folder, None if output.parent == models_dir() else output, {
            "--match": None if match == "*" else match, "--recipe": recipe, "--network": network,
            "--minutes": minutes, "--steps": steps, "--stride": stride,
            "--infer-stride": infer_stride, "--hidden-share": hidden_share,
            "--refine": refine or None, "--patch": patch, "--batch": batch, "--rate": rate,
            "--precision": None if precision == "auto" else precision, "--seed": seed or None,
            "--weights": weights, "--denoise": denoise, "--report": report,
            "--smooth": smooth, "--from-scratch": from_scratch,
        })  # fmt: skip
        _give(result, None, as_json=as_json)
        say(f"stopped after {result.steps} steps; the model is saved. Go on with: {again}")
        raise typer.Exit(INTERRUPTED)
    known_as = output.stem if output.parent == models_dir() else str(output)
    if result.model:
        _write_page(page, result, folder)
    if not quiet:
        _tell(result, known_as, page)
    _give(result, page, as_json=as_json)
    if denoise:
        from amsnet_cli.cli.denoise import denoise as denoise_photos

        denoise_photos(
            [str(folder)], output=str(denoise), weights=known_as if result.model else weights,
            recursive=True, device=device, seed=seed, force=force, quiet=quiet, as_json=as_json,
        )  # fmt: skip


def _command(folder: Path, output: Path | None, given: dict[str, object]) -> str:
    """Spell the command that goes on with an interrupted fit."""
    parts = ["amsnet fit", _quoted(folder), "--resume"]
    for option, value in {"-o": output, **given}.items():
        if value is True:
            parts.append(option)
        elif value is not None and value is not False:
            parts += [option, _quoted(str(value))]
    return " ".join(parts)


def _give(result: FitResult, page: Path | None, *, as_json: bool) -> None:
    """Print what was made on stdout."""
    if as_json:
        kept = result.kept
        _event(
            "done",
            model=str(result.model) if result.model else None, why_not=result.why_not or None,
            report=str(page) if page and result.model else None,
            steps=result.steps, photos=result.photos,
            skipped=len(result.skipped), seconds=round(result.seconds, 1),
            gain=kept.gain if kept else None, error=kept.error if kept else None,
            interrupted=result.interrupted,
        )  # fmt: skip
    elif result.model:
        print_result(result.model)


def _tell(result: FitResult, known_as: str, page: Path) -> None:
    if result.model is None:
        say(f"no model is written, go on with the weights there are: {result.why_not}")
        return
    kept = result.kept
    assert kept is not None
    say(
        f"{result.steps} steps on {result.photos} photos, {len(result.skipped)} skipped, in "
        f"{result.seconds:.0f} s; held-out loss {result.curve[0].loss:.4f} -> {kept.loss:.4f} "
        f"({_gain(kept)})"
    )
    say(f"before and after: {page}")
    say(f"use it with: amsnet denoise PHOTO -o CLEAN -w {_quoted(known_as)}")
    if result.survey and result.survey.cameras:
        say(f"or -w auto, for photos of {', '.join(result.survey.cameras)}")


def _write_page(page: Path, result: FitResult, folder: Path) -> None:
    from amsnet_cli import __version__
    from amsnet_cli.inference.denoise import denoise
    from amsnet_cli.model import load_model
    from amsnet_cli.report.comparison import compare
    from amsnet_cli.report.fit_page import write_fit_page

    assert result.model is not None
    model = load_model(result.model)
    comparisons = []
    for path, photo in result.samples:
        after = denoise(photo, model)
        noise = after.noise_before, after.noise_after
        comparisons.append((path.name, compare(photo, after.photo, noise=noise)))
    chosen = dataclasses.asdict(result.options)
    about = result.survey.lines() if result.survey else []
    if result.kept:
        about = [*about, f"Held-out loss {_gain(result.kept)} after {result.kept.step} steps."]
    write_fit_page(
        page,
        title=f"{model.name}, fitted to {folder.resolve().name}",
        about=[*about, f"amsnet {__version__}, {result.seconds:.0f} s."],
        settings=[(name, str(value)) for name, value in chosen.items() if value is not None],
        curve=result.curve,
        comparisons=comparisons,
    )


def _gain(point: CurvePoint) -> str:
    return f"{-point.gain:+.2%} ± {2 * point.error:.2%}"


def _event(kind: str, **fields: object) -> None:
    print_result(json.dumps({"event": kind, **fields}))


def _model_file(folder: Path, chosen: Path | None) -> Path:
    """Where the model goes: as chosen, or named like the folder in the user's data folder."""
    from amsnet_cli.weights.manifest import SUFFIX, load_manifest
    from amsnet_cli.weights.store import AUTO, models_dir

    if chosen:
        if chosen.suffix != SUFFIX:
            raise UsageError(f"{chosen}: models are {SUFFIX} files", f"add {SUFFIX}")
        return chosen
    name = folder.resolve().name
    if not name or name == AUTO or name in load_manifest():
        raise UsageError(f"a model cannot be named {name or '/'!r}", "choose a file with -o")
    return models_dir() / f"{name}{SUFFIX}"


def _quoted(text: str | Path) -> str:
    return shlex.quote(str(text))


class _Watch:
    """A live bar on a terminal, a line now and then elsewhere, or JSON."""

    def __init__(self, stopped: Callable[[], bool], *, quiet: bool, as_json: bool) -> None:
        self.stopped, self.quiet, self.as_json = stopped, quiet, as_json
        self.last_line = -LINE_EVERY
        self.checks = 0
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

    def notice(self, line: str) -> None:
        """Pass a line on."""
        if self.as_json:
            _event("notice", text=line)
        if not self.quiet:
            say(line)

    def reading(self, what: str, done: int, of: int) -> None:
        """Show how far reading is, or comparing; what is to be saved has been."""
        if self.stopped():
            raise KeyboardInterrupt
        if self.as_json:
            _event(what, done=done, of=of)
        self.bars.update(self.task, completed=done / of, description=f"{what} {done}/{of}")

    def surveyed(self, found: Survey) -> None:
        """Show what the folder holds."""
        if self.as_json:
            _event("survey", **dataclasses.asdict(found))
        if not self.quiet:
            for line in found.lines():
                say(line)

    def show(self, now: FitProgress) -> None:
        """Show where the fit stands."""
        left = f"{now.seconds_left:.0f} s left" if now.share < 1 else "done"
        latest = now.curve[-1]
        line = (
            f"step {now.step}  loss {now.loss:.4f}  held-out {now.held_out:.4f} "
            f"(best {now.best:.4f}, {_gain(latest)}) {_sparkline(now.curve)}  "
            f"{now.steps_per_second:.1f} steps/s  {left}"
        )
        if self.as_json:
            if len(now.curve) > self.checks:
                self.checks = len(now.curve)
                _event("check", **dataclasses.asdict(latest))
            _event(
                "step", step=now.step, share=round(now.share, 4), loss=now.loss,
                steps_per_second=round(now.steps_per_second, 3),
                seconds_left=None if math.isinf(now.seconds_left) else round(now.seconds_left, 1),
            )  # fmt: skip
        self.bars.update(self.task, completed=now.share, description=escape(line))
        due = time.monotonic() - self.last_line > LINE_EVERY or now.share >= 1
        if due and not (self.quiet or stderr.is_terminal):
            say(line)
            self.last_line = time.monotonic()


def _sparkline(curve: Sequence[CurvePoint]) -> str:
    """Draw the held-out loss in a line of text."""
    losses = [point.loss for point in curve]
    low, high = min(losses), max(losses)
    if not high > low:
        return ""
    return "".join(_BARS[round((loss - low) / (high - low) * (len(_BARS) - 1))] for loss in losses)

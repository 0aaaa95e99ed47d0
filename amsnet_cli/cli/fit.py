"""`amsnet fit`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from amsnet_cli.cli import options
from amsnet_cli.cli.console import INTERRUPTED, imports_whole, print_result, say, stop_requests
from amsnet_cli.cli.export import export_fitted, plan_export
from amsnet_cli.core.network_names import NetworkName
from amsnet_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from amsnet_cli.fitting.fit import FitResult


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
            help="The model file. (default: in your data folder, named like FOLDER)",
        ),
    ] = None,
    include: Annotated[
        str,
        typer.Option(
            metavar="GLOB", help="Train only on files that match, such as '*NOISY*' of SIDD Medium."
        ),
    ] = "*",
    raw: Annotated[
        Literal["auto", "mosaic", "developed"],
        typer.Option(
            help="mosaic fits RAW files before development, as they are denoised then; developed "
            "develops them first; auto is mosaic where at least half of the photos are RAW, else "
            "it leaves RAW files out."
        ),
    ] = "auto",
    preset: Annotated[
        Literal["adapt", "masked", "paper"] | None,
        typer.Option(
            help="adapt: fine-tune weights on the noise of these photos, in minutes; masked: "
            "masked prediction; paper: masked prediction with the paper's settings. (default: "
            "adapt, or masked with --from-scratch)",
        ),
    ] = None,
    network: Annotated[
        NetworkName | None,
        typer.Option(help="A fresh network for --preset paper. (default: restormer)"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Time budget. (default: none for adapt, 10 for masked; paper runs 25,000 steps)",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Optimizer steps; reproducible, unlike minutes. (default: 1000 for adapt)"
        ),
    ] = None,
    pd_stride: Annotated[
        int | None,
        typer.Option(
            "--pd-stride",
            min=1,
            help="Pixel-shuffle downsampling in training; 1 for white noise. (default: 5)",
        ),
    ] = None,
    pd_stride_test: Annotated[
        int | None,
        typer.Option("--pd-stride-test", min=1, help="The same at inference. (default: 1 or 2)"),
    ] = None,
    mask_ratio: Annotated[
        float | None,
        typer.Option(
            "--mask-ratio", min=0, max=1, help="Fraction of pixels masked. (default: 0.5)"
        ),
    ] = None,
    smooth: Annotated[
        bool,
        typer.Option(
            "--smooth",
            help="Fine-tune --weights with a total-variation prior, the paper's variant P.",
        ),
    ] = False,
    refine: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Ratio of random replacement refinement at inference, the paper's variant E "
            "(0.16 there).",
        ),
    ] = 0.0,
    patch_size: Annotated[
        int | None,
        typer.Option(
            "--patch-size",
            min=1,
            help="Side of a training patch. (default: 96 for adapt, else about 160)",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Patches per step. (default: 8 for adapt, else 4; 2 for Restormer)"
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", min=0, help="Peak learning rate.")
    ] = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    precision: Annotated[
        Literal["auto", "float32"],
        typer.Option(help="auto computes in bfloat16 where that is faster."),
    ] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted fit.")] = False,
    denoise: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT_DIR", help="Then denoise the folder into this one, its tree kept."
        ),
    ] = None,
    export_to: Annotated[
        Literal["darktable", "onnx"] | None,
        typer.Option(
            "--export", help="Then export the model, as amsnet export does, beside its file."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.html",
            help="Page with the validation curve and photos before and after. (default: beside "
            "the model)",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each event as a JSON object on stdout.")
    ] = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Fit a model to a folder of noisy photos; no clean images needed.

    Measures the noise of the photos and fine-tunes the weights on it, or trains from scratch by
    masked prediction; RAW files as they are before development. A model is written only if
    validation shows a significant improvement. Ctrl-C saves the model so far and a checkpoint for
    --resume. Several GPUs share a fit that torchrun starts: torchrun --nproc-per-node 4 -m
    amsnet_cli fit FOLDER.
    """
    with imports_whole():
        from amsnet_cli.fitting.kind import kind_of_fit
        from amsnet_cli.weights.store import MOSAIC_WEIGHTS, find_weights, models_dir, page_path

    if weights and from_scratch:
        raise UsageError("--weights and --from-scratch exclude each other", "give one of them")
    if network and weights:
        raise UsageError("--weights bring their network", "leave --network out")
    kind = kind_of_fit(folder, include, raw)  # An empty folder is an error before all else.
    output = _model_file(folder, output)
    page = report or page_path(output)
    if output.exists() and not (force or resume):
        raise OutputError(f"{output}: exists already", "replace it with --force, or choose with -o")
    if report or page.exists():
        from amsnet_cli.report.html import check_report

        check_report(page, force=force)
    by_masks = from_scratch or smooth or preset in ("masked", "paper")
    exported = plan_export(output, export_to, kind.mosaics, by_masks, force=force)
    if denoise:
        from amsnet_cli.batch.destination import make_output_folder

        make_output_folder(folder, denoise, force=force)
    fresh = from_scratch or (preset == "paper" and weights is None)
    if not fresh:  # Weights that are not there are an error before torch is loaded.
        find_weights(weights or (MOSAIC_WEIGHTS if kind.mosaics else None))

    with imports_whole():
        from amsnet_cli.cli.fit_progress import FitDisplay
        from amsnet_cli.device import choose_device
        from amsnet_cli.fitting.checkpoint import checkpoint_path
        from amsnet_cli.fitting.distributed import distributed_context, was_restarted
        from amsnet_cli.fitting.fit import fit as run_fit
        from amsnet_cli.fitting.options import FitOptions
        from amsnet_cli.fitting.start import load_start

    resume = resume or (was_restarted() and not force and checkpoint_path(output).exists())
    if checkpoint_path(output).exists() and not (force or resume):
        raise OutputError(
            f"{checkpoint_path(output)}: the checkpoint of an interrupted fit",
            "continue with --resume, or start over with --force",
        )
    start = None if fresh else load_start(weights, mosaics=kind.mosaics)
    fit_options = FitOptions(
        preset=preset,
        network=network or ("restormer" if preset == "paper" and fresh else "compact"),
        include=include, raw=raw, smooth=smooth, minutes=minutes, steps=steps, pd_stride=pd_stride,
        pd_stride_test=pd_stride_test, mask_ratio=mask_ratio, patch_size=patch_size, batch=batch,
        learning_rate=learning_rate, refine=refine, precision=precision, seed=seed,
    )  # fmt: skip
    with (
        distributed_context(choose_device(device)) as distributed,
        stop_requests() as stopped,
        FitDisplay(
            stopped, quiet=quiet or not distributed.is_main, as_json=as_json and distributed.is_main
        ) as display,
    ):
        result = run_fit(
            folder, output, fit_options,
            start=start, resume=resume, device=distributed.device, distributed=distributed,
            on_event=display.show, stopped=stopped,
        )  # fmt: skip

    if not distributed.is_main:
        raise typer.Exit(INTERRUPTED if result.interrupted else 0)
    if result.interrupted:
        _print_done(result, None, as_json=as_json)
        command = shlex.join(["amsnet", *(a for a in sys.argv[1:] if a != "--resume"), "--resume"])
        say(f"stopped after {result.steps} steps; the model is saved. Resume with: {command}")
        raise typer.Exit(INTERRUPTED)
    name = output.stem if output.parent == models_dir() else str(output)
    if result.model:
        from amsnet_cli.cli.fit_page import write_page

        write_page(page, result, folder)
    if not quiet:
        _say_result(result, name, page)
    _print_done(result, page, as_json=as_json)
    export_fitted(result.model, exported, quiet=quiet)
    if denoise:
        from amsnet_cli.cli.denoise import denoise as denoise_photos

        denoise_photos(
            [str(folder)], output=str(denoise), weights=name if result.model else weights,
            raw="mosaic" if kind.mosaics else "developed", recursive=True, device=device, seed=seed,
            force=force, quiet=quiet, as_json=as_json,
        )  # fmt: skip


def _model_file(folder: Path, chosen: Path | None) -> Path:
    """Return where the model goes: as chosen, or named like the folder in the data folder."""
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


def _print_done(result: FitResult, page: Path | None, *, as_json: bool) -> None:
    """Print the model's path, or the event "done", on stdout."""
    if as_json:
        from amsnet_cli.cli.fit_progress import print_object

        best = result.best
        print_object(
            "done",
            model=str(result.model) if result.model else None, reason=result.reason or None,
            report=str(page) if page and result.model else None,
            steps=result.steps, photos=result.photos, skipped=len(result.skipped),
            seconds=round(result.seconds, 1), improvement=best.improvement if best else None,
            standard_error=best.standard_error if best else None, interrupted=result.interrupted,
        )  # fmt: skip
    elif result.model:
        print_result(result.model)


def _say_result(result: FitResult, name: str, page: Path) -> None:
    from amsnet_cli.cli.fit_progress import loss_change

    if result.model is None or result.best is None:
        say(f"no model written: {result.reason}; keep using the current weights")
        return
    say(
        f"{result.steps} steps on {result.photos} photos, {len(result.skipped)} skipped, in "
        f"{result.seconds:.0f} s; validation loss {result.curve[0].loss:.4f} -> "
        f"{result.best.loss:.4f} ({loss_change(result.best)})"
    )
    say(f"before and after: {page}")
    say(f"use it with: amsnet denoise PHOTO -o CLEAN -w {shlex.quote(name)}")
    if result.profile and result.profile.cameras:
        say(f"or -w auto, for photos of {', '.join(result.profile.cameras)}")

"""`amsnet fit`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from amsnet_cli.cli import options
from amsnet_cli.cli.console import INTERRUPTED, imports_whole, say, stop_requests
from amsnet_cli.cli.export import export_fitted, plan_export
from amsnet_cli.cli.fit_checks import check_model_file, model_file, page_of, resumes
from amsnet_cli.core.network_names import NetworkName
from amsnet_cli.errors import UsageError


def fit(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Noisy photos, searched recursively; only read."),
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            "-w",
            "--weights",
            metavar="NAME|FILE",
            help="Start from these. (default: photo or a model fitted to the camera, "
            "whichever validates best on these photos; raw for RAW files)",
        ),
    ] = None,
    continue_from: Annotated[
        str | None,
        typer.Option(
            "--continue-from",
            metavar="NAME|FILE",
            help="Add these photos to a fitted model without forgetting its earlier ones; the "
            "model is replaced, or written to -o.",
        ),
    ] = None,
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
            help="Train so long. (default: until validation shows that more would hardly pay, at "
            "most 10; masked: 10; paper: 25,000 steps)",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimizer steps; reproducible, unlike minutes."),
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
        from amsnet_cli.batch.destination import make_output_folder
        from amsnet_cli.fitting.kind import kind_of_fit
        from amsnet_cli.weights.store import MOSAIC_WEIGHTS, find_weights, models_dir

    options.exclude_each_other(
        {"--weights": weights, "--continue-from": continue_from, "--from-scratch": from_scratch}
    )
    if network and weights:
        raise UsageError("--weights bring their network", "leave --network out")
    kind = kind_of_fit(folder, include, raw)  # An empty folder is an error before all else.
    grown = find_weights(continue_from) if continue_from else None
    weights = weights or continue_from
    output = model_file(folder, output or grown)
    check_model_file(output, replaced=force or resume or output == grown)
    page = page_of(output, report, force=force)
    by_masks = from_scratch or smooth or preset in ("masked", "paper")
    exported = plan_export(output, export_to, kind.mosaics, by_masks, force=force)
    if denoise:
        make_output_folder(folder, denoise, force=force)
    fresh = from_scratch or (preset == "paper" and weights is None)
    if not fresh:  # Weights that are not there are an error before torch is loaded.
        find_weights(weights or (MOSAIC_WEIGHTS if kind.mosaics else None))

    with imports_whole():
        from amsnet_cli.cli.fit_progress import FitDisplay
        from amsnet_cli.cli.fit_result import print_done, say_result
        from amsnet_cli.device import choose_device
        from amsnet_cli.fitting.distributed import distributed_context
        from amsnet_cli.fitting.fit import fit as run_fit
        from amsnet_cli.fitting.options import FitOptions
        from amsnet_cli.fitting.start import no_rivals, start_and_rivals

    resume = resumes(output, asked=resume, force=force)
    start, rivals = (
        (None, no_rivals) if fresh
        else start_and_rivals(weights, output, mosaics=kind.mosaics, resume=resume)
    )  # fmt: skip
    fit_options = FitOptions(
        preset=preset,
        network=network or ("restormer" if preset == "paper" and fresh else "compact"),
        include=include, raw=raw, smooth=smooth, minutes=minutes, steps=steps, pd_stride=pd_stride,
        pd_stride_test=pd_stride_test, mask_ratio=mask_ratio, patch_size=patch_size, batch=batch,
        learning_rate=learning_rate, grow=grown is not None, refine=refine, precision=precision,
        seed=seed,
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
            start=start, rivals=rivals, resume=resume, device=distributed.device,
            distributed=distributed, on_event=display.show, stopped=stopped,
        )  # fmt: skip

    if not distributed.is_main:
        raise typer.Exit(INTERRUPTED if result.interrupted else 0)
    name = output.stem if output.parent == models_dir() else str(output)
    if result.interrupted:
        print_done(result, None, as_json=as_json)
        command = shlex.join(["amsnet", *(a for a in sys.argv[1:] if a != "--resume"), "--resume"])
        saved = "the model is saved" if result.model else f"{name} is as it was"
        say(f"stopped after {result.steps} steps; {saved}. Resume with: {command}")
        raise typer.Exit(INTERRUPTED)
    if result.model:
        from amsnet_cli.cli.fit_page import write_page

        write_page(page, result, folder)
    if not quiet:
        say_result(result, name, page)
    print_done(result, page, as_json=as_json)
    export_fitted(result.model, exported, quiet=quiet)
    if denoise:
        from amsnet_cli.cli.denoise import denoise as denoise_photos

        denoise_photos(
            [str(folder)], output=str(denoise),
            weights=name if result.model else result.started_from,
            raw="mosaic" if kind.mosaics else "developed", recursive=True, device=device, seed=seed,
            force=force, quiet=quiet, as_json=as_json,
        )  # fmt: skip

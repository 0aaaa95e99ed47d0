"""`amsnet denoise`."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import complain, imports_whole, say, stop_requests
from amsnet_cli.cli.denoise_checks import (
    check_pipes,
    check_report,
    check_urls,
    check_watch,
    naming_of,
)
from amsnet_cli.cli.gpus import several_gpus
from amsnet_cli.cli.pipes import open_pipes

if TYPE_CHECKING:
    from amsnet_cli.report.html import ReportEntry

_MANY = "Many photos"


def denoise(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Photos, also RAW; folders; - for stdin."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="A file; a folder if it has no suffix or there are several photos; - for stdout.",
        ),
    ] = None,
    weights: options.WeightsOrAuto = None,
    masks: options.Masks = None,
    pd_stride: options.PdStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    ensemble: options.Ensemble = None,
    strength: options.Strength = None,
    noise: options.Noise = None,
    luma: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Strength for luminance noise. (default: --strength)"),
    ] = None,
    chroma: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Strength for chroma noise. (default: --strength)"),
    ] = None,
    detail: Annotated[
        float, typer.Option(min=0, max=1, help="Restore fine detail removed with the noise.")
    ] = 0.0,
    keep_hot_pixels: Annotated[
        bool,
        typer.Option(
            "--keep-hot-pixels",
            help="Keep hot pixels: single bright pixels that noise does not explain.",
        ),
    ] = False,
    raw: options.RawStage = "mosaic",
    develop: options.Development = "auto",
    highlights: options.Highlights = "clip",
    crop: Annotated[
        options.Region | None,
        typer.Option(
            parser=options.parse_crop,
            metavar="X,Y,W,H",
            help="Denoise only this region, in pixels; --strength auto measures it alone, so the "
            "result may differ slightly from that of the whole photo.",
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            parser=options.parse_depth,
            metavar="8|16|32",
            help="Bits per channel to write; 32 is float. (default: as the photo)",
        ),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="SUFFIX",
            help="Format of the results, such as png or tif. (default: as the photo)",
        ),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option(help="Append to the names; without OUT, results go beside the photos."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Names of the results, made of {stem}, {name}, {folder} and {ext}. "
            "(default: {stem}{ext})",
        ),
    ] = None,
    strip_metadata: Annotated[
        bool,
        typer.Option(
            "--strip-metadata", help="Write no EXIF, XMP and IPTC; the colour profile is kept."
        ),
    ] = False,
    sidecar: options.Sidecar = False,
    keep_time: Annotated[
        bool, typer.Option("--keep-time", help="Keep the photo's time of modification.")
    ] = False,
    force: options.Force = False,
    seed: options.Seed = 0,
    recursive: Annotated[
        bool,
        typer.Option(
            "-r",
            "--recursive",
            rich_help_panel=_MANY,
            help="Search folders recursively; their tree is kept below OUT.",
        ),
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            rich_help_panel=_MANY,
            help="Skip photos whose result exists; resumes after an interruption.",
        ),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", rich_help_panel=_MANY, help="Stop at the first failure.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "-n", "--dry-run", rich_help_panel=_MANY, help="Print what would be done, and stop."
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.html",
            rich_help_panel=_MANY,
            help="Also write an HTML page with the photos before and after.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=_MANY, help="Print a JSON object for each photo."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            rich_help_panel=_MANY,
            help="Wait for photos in the folders, and denoise each once it has stopped growing, "
            "until Ctrl-C or SIGTERM.",
        ),
    ] = False,
    shard: options.Shard = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local[:N]",
            rich_help_panel="Many machines",
            help="Denoise on the workers of a Dask cluster, or by N processes here. Needs "
            'the extra "cluster".',
        ),
    ] = None,
    pages: options.Pages = None,
    gain: options.Gain = None,
    read_noise: options.ReadNoise = None,
    dark: options.Dark = None,
    keep_flux: options.KeepFlux = None,
    tile: options.Tile = None,
    max_memory: options.MaxMemory = None,
    jobs: options.Jobs = None,
    device: options.Devices = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Denoise photos, and the stacks of instruments.

    Depth, colour profile, EXIF, XMP, orientation and transparency are kept. The suffix of OUT sets
    the format; in a folder photos keep theirs, but RAW and HEIC files become TIFF.
    """
    options.exclude_each_other({"--force": force, "--skip-existing": skip_existing})
    options.exclude_each_other({"--quiet": quiet, "--verbose": verbose})
    options.exclude_each_other({"--sidecar": sidecar, "--strip-metadata": strip_metadata})
    for option, given in (("--force", force), ("--report", report), ("--dry-run", dry_run)):
        options.exclude_each_other({"--watch": watch, option: given})
    if watch:
        check_watch(inputs, output)
    needing_files = {"--watch": watch, "--dask": dask, "--report": report, "--sidecar": sidecar,
                     "--keep-time": keep_time}  # fmt: skip
    check_urls(inputs, output, [option for option, given in needing_files.items() if given])
    check_pipes(inputs, output, paths_needed=dask is not None, prints=as_json or dry_run)

    with imports_whole():
        from amsnet_cli.batch.divide import divide_stacks
        from amsnet_cli.batch.job import Outcome
        from amsnet_cli.batch.plan import Plan, plan_jobs
        from amsnet_cli.batch.remote import open_remote
        from amsnet_cli.batch.shard import Shard
        from amsnet_cli.batch.watch import Watch
        from amsnet_cli.cli.outcomes import OutcomePrinter
        from amsnet_cli.cli.run_batch import report_entry, run_batches
        from amsnet_cli.weights.store import AUTO, find_weights

    naming = naming_of(name, suffix, file_format)
    find_weights(None if weights == AUTO else weights)  # A wrong name is reported first.
    started = time.monotonic()
    with (
        open_pipes(inputs, output) as pipes,
        open_remote(inputs, output) as remote,
        remote.named(),
    ):
        sources = [pipes.source(remote.source(argument)) for argument in inputs]
        destination = pipes.destination(sources, remote.output(output), naming)
        planning = partial(
            plan_jobs, sources, destination.path, into_folder=destination.into_folder,
            naming=naming, recursive=recursive, force=force, skip_existing=skip_existing or watch,
            shard=shard or Shard(0, 1), may_be_empty=watch,
        )  # fmt: skip
        plan = Plan(jobs=[], excluded=[], passed_over=[]) if watch else planning()
        many = watch or sum(not job.skip for job in plan.jobs) > 1
        gpus = (
            []
            if dry_run or dask is not None
            else several_gpus(device, [*inputs, output], many=many)
        )
        if gpus or (dask is not None and not dry_run):
            plan = replace(plan, jobs=divide_stacks(plan.jobs))
        printer = OutcomePrinter(plan.jobs, pipes, as_json=as_json, quiet=quiet, text=remote.text)
        printer.excluded(plan.excluded)
        printer.passed_over(plan.passed_over)
        if dry_run:
            raise typer.Exit(printer.plan())
        if report:
            check_report(report, plan.jobs, force=force)
        watcher = Watch(sources, lambda r: planning(refuse=r), complain) if watch else None
        if watcher:
            say(f"watching {', '.join(map(str, sources))}; Ctrl-C ends it")
        destination.make_folder()
        if not watcher and all(job.skip for job in plan.jobs):
            for job in plan.jobs:
                printer.outcome(Outcome(job=job, status="skipped"))
            raise typer.Exit(printer.summary(time.monotonic() - started))

        with imports_whole():
            from amsnet_cli.cli.engines import choose_engine
            from amsnet_cli.cli.photo_settings import PhotoSettings
            from amsnet_cli.cli.stack_options import make_detector, parse_pages
            from amsnet_cli.inference.denoise import DenoiseOptions
            from amsnet_cli.photos.formats.raw import RawOptions
            from amsnet_cli.report.html import MAX_SHOWN, write_report
            from amsnet_cli.report.settings import settings_section

        denoising = DenoiseOptions(
            n_masks=masks, stride=pd_stride, repeats=repeats, refine=refine, ensemble=ensemble,
            strength=strength, noise=noise, luma=luma, chroma=chroma, detail=detail,
            keep_hot_pixels=keep_hot_pixels,
            tile=tile or 0, max_memory=max_memory, crop=crop, seed=seed,
        )  # fmt: skip
        pictured = [job.target for job in plan.jobs if report and not job.skip][:MAX_SHOWN]
        settings = PhotoSettings(
            weights=weights, options=denoising, device=device,
            raw=RawOptions(development=develop, highlights=highlights),
            before_development=raw == "mosaic",
            pages=parse_pages(pages), keep_flux=keep_flux,
            detector=make_detector(gain, read_noise, dark),
            destination=destination, depth=depth, strip_metadata=strip_metadata,
            sidecar=sidecar, keep_time=keep_time, force=force,
            report=report is not None, pictured=frozenset(pictured),
            measure_noise=as_json or verbose, verbose=verbose,
        )  # fmt: skip
        threads = 0 if jobs is None and max_memory else jobs
        entries: list[ReportEntry] = []
        with (
            choose_engine(
                settings,
                dask,
                gpus,
                threads=threads,
                label=printer.label,
                quiet=quiet,
                many=many,
                remote=remote,
            ) as engine,
            stop_requests() if watcher else nullcontext(lambda: False) as stop,
        ):
            batches = watcher.batches(stop) if watcher else [plan.jobs]
            finished = watcher.finished if watcher else lambda outcome: None
            for outcome in run_batches(engine, batches, printer, fail_fast=fail_fast, stop=stop):
                finished(outcome)
                if report and outcome.status in ("done", "failed"):
                    entries.append(report_entry(outcome))
        if report:
            used = weights or find_weights(None).stem
            write_report(
                report, entries, f"amsnet {__version__}, weights {used}.",
                settings_section(used, denoising),
            )  # fmt: skip
            say(f"before and after: {report}")
        raise typer.Exit(printer.summary(time.monotonic() - started))

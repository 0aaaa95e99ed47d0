"""`amsnet denoise`."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import imports_whole, say
from amsnet_cli.cli.pipes import PIPE, open_pipes
from amsnet_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from amsnet_cli.batch.plan import Job, Naming
    from amsnet_cli.batch.run import Outcome
    from amsnet_cli.cli.photo_steps import PhotoInfo
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
    strength: options.Strength = None,
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
    pages: options.Pages = None,
    gain: options.Gain = None,
    read_noise: options.ReadNoise = None,
    dark: options.Dark = None,
    keep_flux: options.KeepFlux = None,
    tile: options.Tile = None,
    max_memory: options.MaxMemory = None,
    jobs: options.Jobs = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Denoise photos, and the stacks of instruments.

    Depth, colour profile, EXIF, XMP, orientation and transparency are kept. The suffix of OUT sets
    the format; in a folder photos keep theirs, but RAW and HEIC files become TIFF.
    """
    if force and skip_existing:
        raise UsageError("--force and --skip-existing exclude each other", "give one of them")
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other", "give one of them")
    if sidecar and strip_metadata:
        raise UsageError("--sidecar and --strip-metadata exclude each other", "give one of them")
    if output == PIPE and (as_json or dry_run):
        raise UsageError("--json and --dry-run cannot be used with '-o -'", "choose a file with -o")

    with imports_whole():
        from amsnet_cli.batch.plan import plan_jobs
        from amsnet_cli.batch.run import Outcome, run_jobs
        from amsnet_cli.cli.outcomes import OutcomePrinter
        from amsnet_cli.weights.store import AUTO, find_weights

    naming = _naming(name, suffix, file_format)
    find_weights(None if weights == AUTO else weights)  # A wrong name is reported first.
    started = time.monotonic()
    with open_pipes(inputs, output) as pipes:
        sources = [pipes.source(argument) for argument in inputs]
        destination = pipes.destination(sources, output, naming)
        plan = plan_jobs(
            sources, destination.path, into_folder=destination.into_folder, naming=naming,
            recursive=recursive, force=force, skip_existing=skip_existing,
        )  # fmt: skip
        printer = OutcomePrinter(plan.jobs, pipes, as_json=as_json, quiet=quiet)
        printer.excluded(plan.excluded)
        printer.passed_over(plan.passed_over)
        if dry_run:
            raise typer.Exit(printer.plan())
        if report:
            _check_report(report, plan.jobs, force=force)
        destination.make_folder()
        if all(job.skip for job in plan.jobs):
            for job in plan.jobs:
                printer.outcome(Outcome(job=job, status="skipped"))
            raise typer.Exit(printer.summary(time.monotonic() - started))

        with imports_whole():
            from amsnet_cli.cli.model_choice import ModelChooser
            from amsnet_cli.cli.mosaic_denoiser import MosaicDenoiser
            from amsnet_cli.cli.photo_steps import PhotoSteps
            from amsnet_cli.cli.stack_denoiser import StackDenoiser, make_detector, parse_pages
            from amsnet_cli.device import choose_device
            from amsnet_cli.inference.denoise import DenoiseOptions
            from amsnet_cli.photos.formats.raw import RawOptions
            from amsnet_cli.report.html import write_report
            from amsnet_cli.report.settings import settings_section

        where = choose_device(device)
        denoising = DenoiseOptions(
            n_masks=masks, stride=pd_stride, repeats=repeats, refine=refine,
            strength=strength, luma=luma, chroma=chroma, detail=detail,
            keep_hot_pixels=keep_hot_pixels,
            tile=tile or 0, max_memory=max_memory, crop=crop, seed=seed,
        )  # fmt: skip
        raw_options = RawOptions(development=develop, highlights=highlights)
        mosaics = MosaicDenoiser(weights, denoising, raw_options, device=where)
        models = ModelChooser(mosaics.for_developed)
        stacks = StackDenoiser(
            denoising, where, chosen=parse_pages(pages), keep_flux=keep_flux,
            detector=make_detector(gain, read_noise, dark),
        )  # fmt: skip
        steps = PhotoSteps(
            models=models, options=denoising, device=where, raw=raw_options,
            mosaics=mosaics, stacks=stacks, before_development=raw == "mosaic",
            destination=destination, depth=depth, strip_metadata=strip_metadata,
            sidecar=sidecar,
            keep_time=keep_time, force=force, report=report is not None,
            measure_noise=as_json or verbose, label=printer.label, quiet=quiet, verbose=verbose,
        )  # fmt: skip
        threads = jobs if jobs is not None else 0 if max_memory else 1
        entries: list[ReportEntry] = []
        outcomes = run_jobs(
            plan.jobs, read=steps.read, work=steps.denoise, write=steps.write,
            threads=threads, fail_fast=fail_fast,
        )  # fmt: skip
        with closing(outcomes):
            try:
                for outcome in outcomes:
                    printer.outcome(outcome)
                    if report and outcome.status in ("done", "failed"):
                        entries.append(_report_entry(outcome))
            except KeyboardInterrupt:
                printer.interrupted()
                raise
        if report:
            write_report(
                report, entries, f"amsnet {__version__}, weights {models.name}.",
                settings_section(models.name, steps.options),
            )  # fmt: skip
            say(f"before and after: {report}")
        raise typer.Exit(printer.summary(time.monotonic() - started))


def _naming(name: str | None, suffix: str | None, file_format: str | None) -> Naming:
    from amsnet_cli.batch.plan import Naming

    if name is not None and suffix is not None:
        raise UsageError(
            "--name and --suffix exclude each other", "put the suffix into the template"
        )
    if suffix is not None:
        name = f"{{stem}}{suffix.replace('{', '{{').replace('}', '}}')}{{ext}}"
    file_format = file_format and file_format.lower().removeprefix(".")
    return Naming(template=name or Naming.template, format=file_format)


def _check_report(report: Path, jobs: list[Job], *, force: bool) -> None:
    from amsnet_cli.report.html import check_report

    check_report(report, force=force)
    if report.resolve() in {path.resolve() for job in jobs for path in (job.source, job.target)}:
        raise OutputError(f"{report}: is the name of a photo", "choose another for the page")


def _report_entry(outcome: Outcome[PhotoInfo]) -> ReportEntry:
    from amsnet_cli.cli.outcomes import describe_weights
    from amsnet_cli.report.html import ReportEntry

    info, done = outcome.info, outcome.status == "done"
    return ReportEntry(
        source=outcome.job.source, target=outcome.job.target,
        comparison=info.comparison if info and done else None,
        weights=describe_weights(info) if info else "",
        error=str(outcome.error or ""), seconds=outcome.seconds,
    )  # fmt: skip

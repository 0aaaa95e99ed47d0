"""`amsnet denoise`."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import sys
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import (
    SOME_FAILED,
    camera_and_speeds,
    complain,
    print_result,
    progress_bar,
    reports_errors,
    say,
)
from amsnet_cli.errors import OutputError, PhotoError, UsageError

if TYPE_CHECKING:
    from amsnet_cli.batch.batch import Job, Naming, Outcome
    from amsnet_cli.model import Model
    from amsnet_cli.photos.photo import Photo
    from amsnet_cli.report.report import Entry, Look

PIPE = "-"
_MANY = "Many photos"
_MEMORY = "Memory and speed"


@reports_errors
def denoise(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Photos, RAW included; folders; - for stdin."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="OUT",
            help="A file; a folder, if it has no suffix or there are several photos; - for stdout.",
        ),
    ] = None,
    weights: options.WeightsOrAuto = None,
    masks: options.Masks = None,
    stride: options.InferStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    strength: options.Strength = "auto",
    luma: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Strength for brightness noise. (default: --strength)"),
    ] = None,
    chroma: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Strength for colour noise. (default: --strength)"),
    ] = None,
    detail: Annotated[
        float, typer.Option(min=0, max=1, help="Give texture back, where there is some.")
    ] = 0.0,
    raw: Annotated[
        Literal["auto", "camera", "linear"],
        typer.Option(
            help="RAW files: camera develops with the camera's white balance, auto also estimates "
            "one where the file has none; linear stays in linear light, for further editing."
        ),
    ] = "auto",
    highlights: Annotated[
        Literal["clip", "blend", "rebuild"],
        typer.Option(help="RAW files: clip blown highlights to white, blend or rebuild them."),
    ] = "clip",
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="Only this region, in pixels, for a quick look; --strength auto judges by it "
            "alone, so the whole photo's result may differ a little there.",
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Write 8, 16 or 32 (float) bits a channel. (default: as the photo)"),
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="SUFFIX", help="As png or tif. (default: as the photo)"),
    ] = None,
    suffix: Annotated[
        str | None,
        typer.Option(help="Put after the name; without OUT, results go beside the photos."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="How results are named, of {stem}, {name}, {folder}, {ext}. "
            "(default: {stem}{ext})",
        ),
    ] = None,
    strip_metadata: Annotated[
        bool,
        typer.Option("--strip-metadata", help="Write no EXIF, XMP and IPTC; colours stay right."),
    ] = False,
    keep_time: Annotated[
        bool, typer.Option("--keep-time", help="Give the output the photo's time of modification.")
    ] = False,
    force: options.Force = False,
    seed: options.Seed = 0,
    recursive: Annotated[
        bool,
        typer.Option(
            "-r",
            "--recursive",
            rich_help_panel=_MANY,
            help="Look below folders too; their tree is kept below OUT.",
        ),
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing",
            rich_help_panel=_MANY,
            help="Pass over photos that are done; goes on after an interruption.",
        ),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", rich_help_panel=_MANY, help="Stop at the first failure.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "-n", "--dry-run", rich_help_panel=_MANY, help="Only print what would be done."
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE.html",
            rich_help_panel=_MANY,
            help="Also write a page that shows the photos before and after.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", rich_help_panel=_MANY, help="Print a JSON object for each photo."),
    ] = False,
    tile: options.Tile = "auto",
    max_memory: options.MaxMemory = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=0,
            rich_help_panel=_MEMORY,
            help="Photos read and written beside the denoising. (default: 1; 0 with --max-memory)",
        ),
    ] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Denoise photos.

    Depth, colour profile, EXIF, XMP, orientation and transparency come through. The suffix of
    OUT names the format; in a folder photos keep theirs, but RAW and HEIC files become TIFF.
    """
    from amsnet_cli.batch.batch import Outcome, plan_jobs, run_jobs
    from amsnet_cli.photos.formats.raw import RawOptions
    from amsnet_cli.photos.read import read_photo
    from amsnet_cli.photos.write import check_depth, check_output, not_kept, write_photo

    if depth not in (None, 8, 16, 32):
        raise UsageError(f"--depth {depth}: no such depth", "use --depth 8, 16 or 32")
    if force and skip_existing:
        raise UsageError("--force and --skip-existing exclude each other", "give one of them")
    if output == PIPE and (as_json or dry_run):
        raise UsageError("stdout is for the photo", "choose a file with -o")
    tile_size, memory, region = parse_tile(tile), parse_memory(max_memory), parse_crop(crop)
    share = parse_strength(strength)
    naming = _naming(name, suffix, file_format)
    choice = _Choice(weights)
    started = time.monotonic()
    with ExitStack() as stack:
        pipe = None
        if PIPE in (*inputs, output):
            pipe = Path(stack.enter_context(TemporaryDirectory(prefix="amsnet-")))
        sources = [_from_stdin(pipe) if pipe and t == PIPE else Path(t) for t in inputs]
        target, into_folder = _target(sources, output, naming, pipe)
        plan = plan_jobs(
            sources, target,
            into_folder=into_folder, naming=naming, recursive=recursive,
            force=force, skip_existing=skip_existing,
        )  # fmt: skip
        show = _Show(
            plan.jobs, pipe, as_json=as_json, quiet=quiet, for_report=report is not None
        )  # fmt: skip
        show.left_out(plan.left_out)
        if dry_run:
            raise typer.Exit(show.plan())
        if report:
            _check_page(report, plan.jobs, force=force)
        if into_folder and target is not None:
            _make_folder(target)
        if all(job.skip for job in plan.jobs):
            for job in plan.jobs:
                show.outcome(Outcome(job=job, status="skipped"))
            raise typer.Exit(show.summary(time.monotonic() - started))

        from amsnet_cli.device import choose_device
        from amsnet_cli.inference.denoise import DenoiseOptions, select_model
        from amsnet_cli.inference.denoise import denoise as denoise_photo
        from amsnet_cli.photos.exif import camera_of, with_software
        from amsnet_cli.photos.geometry import cropped, stored_box
        from amsnet_cli.photos.photo import without_metadata
        from amsnet_cli.report.report import MOST_SHOWN, look_at, write_report

        where = choose_device(device)
        choice.load(choice.default)  # Where it is damaged, no photo need be read.
        wishes = DenoiseOptions(
            n_masks=masks, stride=stride, repeats=repeats, refine=refine,
            strength=share, luma=luma, chroma=chroma, detail=detail,
            tile=tile_size, max_memory=memory, crop=region, seed=seed,
        )  # fmt: skip
        settings = {"strength": share, "luma": luma, "chroma": chroma, "detail": detail or None}
        said = [f"{key} {value:g}" for key, value in settings.items() if value is not None]
        development = RawOptions(development=raw, highlights=highlights)
        modified: dict[Job, int] = {}
        cameras: dict[Job, tuple[str | None, int | None]] = {}

        def read(job: Job) -> Photo:
            if into_folder and target is not None:
                _make_folder(job.target.parent, below=target)
            try:
                check_output(job.target, force=force)
            except OSError as error:
                raise OutputError(
                    f"{job.target}: {error.strerror}", "choose another OUT"
                ) from error
            photo = read_photo(job.source, development)
            if keep_time:
                modified[job] = job.source.stat().st_mtime_ns
            cameras[job] = camera_of(photo.exif)
            if depth:
                photo = replace(photo, bits=depth)
            if strip_metadata:
                photo = without_metadata(photo)
            check_depth(photo, job.target)
            return photo

        def work(job: Job, photo: Photo) -> Photo:
            if not quiet:
                for change in (*photo.notes, *not_kept(photo, job.target)):
                    say(f"{job.source}: {change}")
            weights_file, reason = choice.of(*cameras.pop(job))
            chosen, used = choice.load(weights_file), weights_file.stem
            model = select_model(photo, chosen, wishes)
            if model is not chosen:
                used, reason = model.name, "(its noise is white)"
            show.weights[job] = model.name, reason
            with progress_bar(f"{show.place(job)}{job.source.name}", quiet=quiet) as progress:
                clean = denoise_photo(photo, model, wishes, device=where, progress=progress)
            if report or as_json:
                before = cropped(photo, stored_box(photo, region)) if region else photo
                pictures = report is not None and len(show.entries) < MOST_SHOWN
                show.looks[job] = look_at(before, clean, pictures=pictures)
            if not strip_metadata:
                note = f"amsnet {__version__} ({', '.join([used, *said])})"
                clean = replace(clean, exif=with_software(clean.exif, note))
            return clean

        def write(job: Job, photo: Photo) -> None:
            write_photo(photo, job.target, modified_ns=modified.get(job))

        threads = jobs if jobs is not None else 0 if memory else 1
        outcomes = run_jobs(
            plan.jobs, read=read, work=work, write=write, threads=threads, fail_fast=fail_fast
        )
        with closing(outcomes):
            try:
                for outcome in outcomes:
                    show.outcome(outcome)
            except KeyboardInterrupt:
                show.interrupted()
                raise
        if report:
            write_report(report, show.entries, f"amsnet {__version__}, weights {choice.name}.")
            say(f"before and after: {report}")
        raise typer.Exit(show.summary(time.monotonic() - started))


class _Choice:
    """Which weights denoise a photo: those asked for, or with auto those of its camera."""

    def __init__(self, weights: str | None) -> None:
        from amsnet_cli.weights.store import AUTO, find_weights, fitted_models

        self.auto = weights == AUTO
        self.default = find_weights(None if self.auto else weights)
        self.name = weights or self.default.stem
        self.loaded: dict[Path, Model] = {}
        if self.auto:
            fitted_models()  # Where they cannot be read, no photo need be.

    def of(self, camera: str | None, iso: int | None) -> tuple[Path, str]:
        """Find the weights of a photo, and why it is these, if there was a choice."""
        from amsnet_cli.weights.store import model_for

        if not self.auto:
            return self.default, ""
        if camera is None:
            return self.default, "(the photo names no camera)"
        path = model_for(camera, iso)
        if path is None:
            wanted = camera_and_speeds(camera, [iso] if iso else [])
            return self.default, f"(no model is fitted to {wanted})"
        speeds = self.load(path).config.cameras.get(camera, [])
        return path, f"(fitted to {camera_and_speeds(camera, speeds)})"

    def load(self, path: Path) -> Model:
        """Load a model, once."""
        from amsnet_cli.model import load_model

        if path not in self.loaded:
            self.loaded[path] = load_model(path, path.stem if self.auto else self.name)
        return self.loaded[path]


class _Show:
    """Tells what becomes of the photos: results on stdout, the rest on stderr."""

    def __init__(
        self, jobs: list[Job], pipe: Path | None, *, as_json: bool, quiet: bool, for_report: bool
    ) -> None:
        self.jobs, self.total, self.pipe = jobs, len(jobs), pipe
        self.numbers = {job: number for number, job in enumerate(jobs, 1)}
        self.as_json, self.quiet = as_json, quiet
        self.for_report = for_report
        self.entries: list[Entry] = []
        self.counts: Counter[str] = Counter()
        self.codes: set[int] = set()
        self.looks: dict[Job, Look] = {}
        self.weights: dict[Job, tuple[str, str]] = {}

    def left_out(self, photos: list[Path]) -> None:
        """Say which photos are none to denoise."""
        if photos:
            many = f" and {len(photos) - 1} more" if len(photos) > 1 else ""
            say(f"{photos[0]}{many}: left out, as the result of another photo")

    def plan(self) -> int:
        """Print what would be done; returns the exit code."""
        missing = 0
        for job in self.jobs:
            if not os.access(job.source, os.R_OK):
                missing += 1
                complain(PhotoError(f"{job.source}: cannot be read", "check the path"))
            elif self.as_json:
                self._print_object(job, "skipped" if job.skip else "planned")
            else:
                print_result(f"{job.source} -> {job.target}{', done already' * job.skip}")
        return 0 if not missing else SOME_FAILED if missing < self.total else 1

    def place(self, job: Job) -> str:
        """Say which of several photos this is."""
        return f"{self.numbers[job]}/{self.total} " if self.total > 1 else ""

    def outcome(self, outcome: Outcome) -> None:
        """Print what became of a photo."""
        self.counts[outcome.status] += 1
        job = outcome.job
        if outcome.error:
            self.codes.add(outcome.error.exit_code)
            complain(outcome.error)
        if self.as_json:
            self._print_object(job, outcome.status, outcome)
        elif outcome.status == "done":
            self._give(job)
        if outcome.size and not self.quiet:
            width, height = outcome.size
            seconds = f"{outcome.seconds:.1f} s"
            name = job.source.name if job.source.parent == self.pipe else job.source
            say(f"{name}: {width}x{height}, {outcome.depth} bit, {self._weights(job)}, {seconds}")
        look = self.looks.pop(job, None)
        if self.for_report and outcome.status in ("done", "failed"):
            from amsnet_cli.report.report import Entry

            entry = Entry(
                source=job.source, target=job.target, look=look, weights=self._weights(job),
                error=str(outcome.error or ""), seconds=outcome.seconds,
            )  # fmt: skip
            self.entries.append(entry)

    def interrupted(self) -> None:
        """Say how far it came and how to go on."""
        done = self.counts["done"] + self.counts["skipped"]
        if self.total > 1:
            say(f"{done} of {self.total} photos done; --skip-existing goes on from there")

    def summary(self, seconds: float) -> int:
        """Say how it went; returns the exit code."""
        counts, failed = self.counts, self.counts["failed"]
        if self.total != 1 and (failed or not self.quiet):
            parts = [f"{counts['done']} of {self.total} photos denoised"]
            parts += [f"{counts['skipped']} done before"] * bool(counts["skipped"])
            parts += [f"{failed} failed"] * bool(failed)
            parts += [f"{counts['left']} not tried"] * bool(counts["left"])
            say(f"{', '.join(parts)}, in {seconds:.0f} s")
        if failed and counts["done"] + counts["skipped"]:
            return SOME_FAILED
        return self.codes.pop() if len(self.codes) == 1 else int(failed > 0)

    def _weights(self, job: Job) -> str:
        return " ".join(self.weights.get(job, ())).strip()

    def _give(self, job: Job) -> None:
        if job.target.parent == self.pipe:
            sys.stdout.buffer.write(job.target.read_bytes())
            sys.stdout.buffer.flush()
        else:
            print_result(job.target)

    def _print_object(self, job: Job, status: str, outcome: Outcome | None = None) -> None:
        size = outcome.size if outcome and outcome.size else (None, None)
        noise = self.looks[job].noise if job in self.looks else (math.nan, math.nan)
        before, after = (None if math.isnan(level) else round(level, 2) for level in noise)
        row = {
            "input": PIPE if job.source.parent == self.pipe else str(job.source),
            "output": str(job.target),
            "status": status,
            "error": str(outcome.error) if outcome and outcome.error else None,
            "width": size[0],
            "height": size[1],
            "weights": self.weights[job][0] if job in self.weights else None,
            "seconds": round(outcome.seconds, 3) if outcome and outcome.size else None,
            "noise_before": before,
            "noise_after": after,
        }
        print_result(json.dumps(row))


def parse_tile(tile: str) -> int:
    """Read the value of --tile; 0 stands for auto."""
    if tile == "auto":
        return 0
    if not tile.isdecimal():
        raise UsageError(f"--tile {tile}: neither auto nor a number of pixels", "use --tile auto")
    return int(tile)


def parse_strength(strength: str) -> float | None:
    """Read the value of --strength; None for auto."""
    if strength == "auto":
        return None
    try:
        share = float(strength)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise UsageError(f"--strength {strength}: not between 0 and 1", "use --strength auto")
    return share


def parse_memory(size: str | None) -> int | None:
    """Read the value of --max-memory, in bytes."""
    if size is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", size.strip(), re.IGNORECASE | re.ASCII)
    if not match:
        raise UsageError(f"--max-memory {size}: not a size", "use for example 2G or 500M")
    return int(float(match[1]) * 1000 ** " KMGT".index(match[2].upper() or " "))


def parse_crop(crop: str | None) -> tuple[int, int, int, int] | None:
    """Read the value of --crop."""
    if crop is None:
        return None
    match = re.fullmatch(r"(\d+),(\d+),(\d+),(\d+)", crop, re.ASCII)
    if not match:
        raise UsageError(f"--crop {crop}: not a region", "use --crop X,Y,WIDTH,HEIGHT in pixels")
    x, y, width, height = map(int, match.groups())
    return x, y, width, height


def _naming(name: str | None, suffix: str | None, file_format: str | None) -> Naming:
    from amsnet_cli.batch.batch import Naming

    if name is not None and suffix is not None:
        raise UsageError("--name and --suffix exclude each other", "write it into the template")
    if suffix is not None:
        name = f"{{stem}}{suffix.replace('{', '{{').replace('}', '}}')}{{ext}}"
    file_format = file_format and file_format.lower().removeprefix(".")
    return Naming(template=name or Naming.template, format=file_format)


def _target(
    sources: list[Path], output: str | None, naming: Naming, pipe: Path | None
) -> tuple[Path | None, bool]:
    """Find out where results go, and whether that is a folder."""
    from amsnet_cli.batch.batch import Naming, is_folder
    from amsnet_cli.photos.formats import WRITABLE

    several = len(sources) > 1 or any(is_folder(source) for source in sources)
    if output is None:
        if naming == Naming() or any(source.parent == pipe for source in sources):
            raise UsageError(
                "nowhere to write to", "say where with -o OUT, or add --suffix _clean to the names"
            )
        return None, True
    if output == PIPE and pipe:
        if several:
            raise UsageError("several photos do not fit into stdout", "choose a folder with -o")
        if sys.stdout.isatty():
            raise UsageError("stdout is a terminal, no place for a photo", "pipe it elsewhere")
        return pipe / f"stdout{Path(naming.name(sources[0])).suffix}", False
    target = Path(output)
    folder = output.endswith(("/", os.sep)) or is_folder(target) or not target.suffix
    if not several and not folder:
        if naming.template != Naming.template:
            raise UsageError(f"{output}: has a name already", "leave out --name and --suffix")
        if naming.format and target.suffix.lower() != f".{naming.format}":
            raise UsageError(f"{output}: is no {naming.format}", "leave out --format")
        return target, False
    named_like_a_photo = target.suffix.lower() in WRITABLE and not output.endswith(("/", os.sep))
    if not is_folder(target) and (named_like_a_photo or target.is_file()):
        raise UsageError(f"{output}: a file, but there may be several photos", "name a folder")
    return target, True


def _from_stdin(pipe: Path) -> Path:
    from amsnet_cli.photos.stream import save_stream

    if sys.stdin.isatty():
        raise UsageError("no photo comes through stdin", "pipe one in, or name a file")
    return save_stream(sys.stdin.buffer, pipe)


def check_results(folder: Path, output: Path, *, force: bool) -> None:
    """Raise the error, if any, with which all photos of a folder would not go into another."""
    from amsnet_cli.batch.batch import Naming, plan_jobs

    target, _ = _target([folder], str(output), Naming(), None)
    assert target is not None
    plan_jobs([folder], target, recursive=True, force=force)
    _make_folder(target)


def _check_page(report: Path, jobs: list[Job], *, force: bool) -> None:
    from amsnet_cli.report.report import check_report

    check_report(report, force=force)
    if report.resolve() in {path.resolve() for job in jobs for path in (job.source, job.target)}:
        raise OutputError(f"{report}: a photo has this name", "choose another for the page")


def _make_folder(folder: Path, below: Path | None = None) -> None:
    """Make the folder of results, or one `below` it, which has to be there still."""
    try:
        if below is not None and not below.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        folder.mkdir(exist_ok=True, parents=below is not None)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make this folder ({error.strerror})") from error

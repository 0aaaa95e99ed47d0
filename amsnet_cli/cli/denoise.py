"""`amsnet denoise`."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import (
    SOME_FAILED,
    complain,
    print_result,
    progress_bar,
    reports_errors,
    say,
)
from amsnet_cli.errors import AmsnetError, OutputError, UsageError


@reports_errors
def denoise(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Photos, RAW included.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", metavar="OUT", help="A file; or a folder, if it has no suffix."
        ),
    ],
    weights: options.Weights = None,
    masks: options.Masks = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    strength: Annotated[
        float, typer.Option(min=0, max=1, help="0 leaves the photo as it is, 1 denoises fully.")
    ] = 1.0,
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
    depth: Annotated[
        int | None,
        typer.Option(help="Write 8, 16 or 32 (float) bits a channel. (default: as the photo)"),
    ] = None,
    strip_metadata: Annotated[
        bool,
        typer.Option("--strip-metadata", help="Write no EXIF, XMP and IPTC; colours stay right."),
    ] = False,
    keep_time: Annotated[
        bool, typer.Option("--keep-time", help="Give the output the photo's time of modification.")
    ] = False,
    tile: options.Tile = "auto",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Denoise photos.

    Depth, colour profile, EXIF, XMP, orientation and transparency come through. The suffix of
    OUT names the format; in a folder photos keep theirs, but RAW and HEIC files become TIFF.
    """
    from amsnet_cli.photos.raw import RawOptions
    from amsnet_cli.photos.read import read_photo
    from amsnet_cli.photos.write import check_depth, check_output, not_kept, write_photo
    from amsnet_cli.weights.store import find_weights

    if depth not in (None, 8, 16, 32):
        raise UsageError(f"--depth {depth}: no such depth", "use --depth 8, 16 or 32")
    plan = _plan(inputs, output, force=force)
    tile_size = parse_tile(tile)
    path = find_weights(weights)

    from amsnet_cli.denoising import DenoiseOptions
    from amsnet_cli.denoising import denoise as denoise_photo
    from amsnet_cli.device import choose_device
    from amsnet_cli.model import load_model
    from amsnet_cli.photos.exif import with_software
    from amsnet_cli.photos.photo import without_metadata

    where = choose_device(device)
    model = load_model(path, weights or path.stem)
    wishes = DenoiseOptions(
        n_masks=masks, repeats=repeats, refine=refine, tile=tile_size, seed=seed,
        strength=strength, luma=luma, chroma=chroma, detail=detail,
    )  # fmt: skip
    settings = {"strength": strength, "luma": luma, "chroma": chroma, "detail": detail or None}
    note = f"amsnet {__version__} ({path.stem}" + "".join(
        f", {name} {value:g}" for name, value in settings.items() if value is not None
    )
    development = RawOptions(development=raw, highlights=highlights)
    errors: list[AmsnetError] = []
    for source, target in plan:
        try:
            started = time.monotonic()
            check_output(target, force=force)
            modified_ns = source.stat().st_mtime_ns if keep_time and source.exists() else None
            photo = read_photo(source, development)
            if depth:
                photo = replace(photo, bits=depth)
            if strip_metadata:
                photo = without_metadata(photo)
            check_depth(photo, target)
            if not quiet:
                for change in (*photo.notes, *not_kept(photo, target)):
                    say(f"{source}: {change}")
            with progress_bar(source.name, quiet=quiet) as progress:
                clean = denoise_photo(photo, model, wishes, device=where, progress=progress)
            if not strip_metadata:
                clean = replace(clean, exif=with_software(clean.exif, f"{note})"))
            write_photo(clean, target, modified_ns=modified_ns)
        except AmsnetError as error:
            if len(plan) == 1 or isinstance(error, UsageError):
                raise
            complain(error)
            errors.append(error)
            continue
        print_result(target)
        if not quiet:
            height, width = photo.pixels.shape[:2]
            say(
                f"{source}: {width}x{height}, {photo.depth} bit, {model.name}, "
                f"{time.monotonic() - started:.1f} s"
            )
    if errors:
        say(f"{len(plan) - len(errors)} of {len(plan)} photos denoised, {len(errors)} failed")
        raise typer.Exit(SOME_FAILED if len(errors) < len(plan) else errors[0].exit_code)


def parse_tile(tile: str) -> int:
    """Read the value of --tile; 0 stands for auto."""
    if tile == "auto":
        return 0
    if not tile.isdecimal():
        raise UsageError(f"--tile {tile}: neither auto nor a number of pixels", "use --tile auto")
    return int(tile)


def _plan(inputs: list[Path], output: Path, *, force: bool) -> list[tuple[Path, Path]]:
    """Decide where each photo goes, and refuse what could overwrite or collide."""
    from amsnet_cli.photos.read import UNWRITABLE_SUFFIXES

    into_folder = len(inputs) > 1 or output.is_dir() or not output.suffix
    if not into_folder:
        plan = [(inputs[0], output)]
    else:
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output}: a file, but there are several photos", "name a folder")
        plan = [
            (p, output / (p.stem + ".tif" if p.suffix.lower() in UNWRITABLE_SUFFIXES else p.name))
            for p in inputs
        ]
    owners: dict[str, Path] = {}
    for source, target in plan:
        # Some file systems do not tell upper from lower case.
        other = owners.setdefault(str(target).casefold(), source)
        if other != source:
            raise UsageError(f"{other} and {source} would both become {target}", "rename one")
        if target.exists() and source.exists() and target.samefile(source) and not force:
            raise OutputError(
                f"{source}: would be overwritten by its denoised version",
                "choose another OUT, or overwrite it with --force",
            )
    if into_folder:
        try:
            output.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{output}: cannot make this folder ({error.strerror})") from error
    return plan

"""`amsnet denoise`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

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
    stride: options.InferStride = None,
    repeats: options.Repeats = None,
    refine: options.Refine = None,
    strength: Annotated[
        float, typer.Option(min=0, max=1, help="0 leaves the photo as it is, 1 denoises fully.")
    ] = 1.0,
    depth: Annotated[
        int | None, typer.Option(help="Write 8 or 16 bits a channel. (default: as the photo)")
    ] = None,
    tile: options.Tile = "auto",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Denoise photos.

    Depth, colour profile, EXIF, XMP, orientation and transparency come through. The suffix of
    OUT names the format; in a folder photos keep theirs, and RAW files become 16-bit TIFF.
    """
    from amsnet_cli.photos.read import read_photo
    from amsnet_cli.photos.write import check_depth, check_output, write_photo
    from amsnet_cli.weights.store import find_weights

    if depth not in (None, 8, 16):
        raise UsageError(f"--depth {depth}: photos have 8 or 16 bits", "use --depth 8 or 16")
    plan = _plan(inputs, output, force=force)
    tile_size = parse_tile(tile)
    path = find_weights(weights)

    from amsnet_cli.denoising import DenoiseOptions
    from amsnet_cli.denoising import denoise as denoise_photo
    from amsnet_cli.device import choose_device
    from amsnet_cli.model import load_model
    from amsnet_cli.photos.photo import with_depth

    where = choose_device(device)
    model = load_model(path, weights or path.stem)
    wishes = DenoiseOptions(
        n_masks=masks,
        stride=stride,
        repeats=repeats,
        refine=refine,
        strength=strength,
        tile=tile_size,
        seed=seed,
    )
    errors: list[AmsnetError] = []
    for source, target in plan:
        try:
            started = time.monotonic()
            check_output(target, force=force)
            photo = read_photo(source)
            check_depth(with_depth(photo, depth) if depth else photo, target)
            with progress_bar(source.name, quiet=quiet) as progress:
                clean = denoise_photo(photo, model, wishes, device=where, progress=progress)
            write_photo(with_depth(clean, depth) if depth else clean, target)
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
    from amsnet_cli.photos.raw import RAW_SUFFIXES

    into_folder = len(inputs) > 1 or output.is_dir() or not output.suffix
    if not into_folder:
        plan = [(inputs[0], output)]
    else:
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output}: a file, but there are several photos", "name a folder")
        plan = [
            (p, output / (p.stem + ".tif" if p.suffix.lower() in RAW_SUFFIXES else p.name))
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

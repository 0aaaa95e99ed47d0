"""`amsnet noise`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from amsnet_cli.cli import options
from amsnet_cli.cli.console import (
    SOME_FAILED,
    complain,
    imports_whole,
    print_json,
    print_result,
    say,
    show_table,
)
from amsnet_cli.errors import AmsnetError, UsageError

_CAMERAS = "Cameras"


def noise(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[INPUT]...", help="Photos, also RAW; stacks; folders.", show_default=False
        ),
    ] = None,
    plot: Annotated[
        bool, typer.Option("--plot", help="Also plot variance against brightness.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("-r", "--recursive", help="Search folders recursively.")
    ] = False,
    remember: Annotated[
        bool,
        typer.Option(
            "--remember",
            rich_help_panel=_CAMERAS,
            help="Remember the noise of these RAW files; denoise then uses it for other photos of "
            "their cameras.",
        ),
    ] = False,
    cameras: Annotated[
        bool,
        typer.Option("--cameras", rich_help_panel=_CAMERAS, help="List what is remembered."),
    ] = False,
    forget: Annotated[
        str | None,
        typer.Option(
            metavar="CAMERA", rich_help_panel=_CAMERAS, help="Forget a camera, named as listed."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each photo or camera.")
    ] = False,
) -> None:
    """Show what noise photos have, and how that is known.

    Of RAW files it is the law of the sensor's noise: from the file's NoiseProfile, else estimated
    from its pixels, ISO, pixel size and masked borders, and what is remembered of the camera. Of
    stacks it is the variance by brightness of each channel, as denoise measures it. Of other photos
    it is what denoise measures: standard deviations by brightness and colour, and how far
    neighbouring pixels share their noise.
    """
    if bool(inputs) + cameras + (forget is not None) != 1 or ((remember or plot) and not inputs):
        raise UsageError("nothing to measure", "name photos, or give --cameras or --forget alone")
    options.exclude_each_other({"--plot": plot, "--json": as_json})
    with imports_whole():
        from amsnet_cli.inference import camera_noise

    if forget is not None:
        camera_noise.forget(forget)
        say(f"{forget}: forgotten")
    elif cameras:
        _list_cameras(as_json=as_json)
    else:
        _show(inputs or [], recursive=recursive, plot=plot, remember=remember, as_json=as_json)


def _show(
    inputs: list[Path], *, recursive: bool, plot: bool, remember: bool, as_json: bool
) -> None:
    from amsnet_cli.cli import noise_text as text
    from amsnet_cli.cli.crash import crash_told
    from amsnet_cli.inference.noise_summary import RawNoise, summarise_noise
    from amsnet_cli.photos.find import list_folder
    from amsnet_cli.photos.suffix import is_zarr

    paths = [
        path
        for item in inputs
        for path in (
            [item]
            if is_zarr(item) or not item.is_dir()
            else list_folder(item, recursive=recursive)[0]
        )
    ]
    failed = 0
    for path in paths:
        try:
            # What is remembered must not confirm itself.
            with crash_told(path):
                summary = summarise_noise(path, use_memory=not remember, with_blocks=plot)
            entry = summary.to_remember() if isinstance(summary, RawNoise) else None
            if as_json:
                print_json({"file": str(path), **text.as_json(summary)})
            else:
                print_result(path)
                for line in text.lines(summary):
                    print_result(f"  {line}")
            if plot and (drawn := text.plot_of(summary)):
                print_result(drawn)
            if remember:
                _remember(path, summary.camera if isinstance(summary, RawNoise) else None, entry)
        except AmsnetError as error:
            if len(paths) == 1:
                raise
            complain(error)
            failed += 1
    if failed:
        raise typer.Exit(SOME_FAILED if failed < len(paths) else 1)


def _remember(path: Path, camera: str | None, entry: object) -> None:
    from amsnet_cli.inference.camera_noise import RememberedPhoto
    from amsnet_cli.inference.camera_noise import remember as remember_photo

    if camera and isinstance(entry, RememberedPhoto):
        remember_photo(camera, entry)
        say(f"{path}: remembered for {camera}")
    else:
        say(f"{path}: not remembered, as it is no RAW file that names its camera and ISO")


def _list_cameras(*, as_json: bool) -> None:
    from amsnet_cli.inference.camera_noise import gain_from, remembered_cameras

    table = Table("camera", "photos", "ISO", "electrons at white, ISO 100", box=None,
                  header_style="bold")  # fmt: skip
    found = remembered_cameras()
    for camera, photos in found.items():
        speeds = sorted({photo.iso for photo in photos})
        gain = gain_from(photos, 100)
        if as_json:
            print_json({
                "camera": camera, "photos": len(photos), "iso": speeds,
                "a_at_iso_100": gain.median, "spread": gain.spread,
            })  # fmt: skip
        range_of = f"{speeds[0]} to {speeds[-1]}" if len(speeds) > 1 else str(speeds[0])
        table.add_row(escape(camera), str(len(photos)), range_of, f"{1 / gain.median:.0f}")
    if not as_json:
        if found:
            show_table(table)
        else:
            say("no camera is remembered; amsnet noise --remember PHOTOS does it")

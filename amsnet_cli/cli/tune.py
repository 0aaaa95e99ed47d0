"""`amsnet tune`."""

from __future__ import annotations

import os
import shlex
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from amsnet_cli.cli import options
from amsnet_cli.cli.console import imports_whole, print_result, progress_bar, stderr
from amsnet_cli.errors import OutputError


def tune(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photo, also RAW; only read.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PAGE.html",
            help="The page to write. (default: PHOTO-tune.html in this folder)",
        ),
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "-w",
            "--weights",
            metavar="NAME|FILE",
            help="Weights to choose from; repeat it for more. (default: photo, fine, and a model "
            "fitted to the photo's camera; for RAW files raw and such a model)",
        ),
    ] = None,
    serve: Annotated[
        Path | None,
        typer.Option(
            "--serve",
            metavar="OUT",
            help="Then serve the page on this computer alone until Ctrl-C; a button in it writes "
            "the result to OUT.",
        ),
    ] = None,
    show: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open the page in the browser. (default: on a terminal)"
        ),
    ] = None,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a page on which to choose weights and strengths by looking, and open it.

    The network runs beforehand; the page blends what it gave, at once and at 100 %, and shows the
    command line of the choice. It is one file that needs nothing else, about as exact as JPEG.
    """
    with imports_whole():
        from amsnet_cli.cli.tune_server import serve_page
        from amsnet_cli.photos.write import check_output
        from amsnet_cli.report.html import check_report
        from amsnet_cli.weights.store import find_weights

    page = output or Path(f"{photo.stem or 'photo'}-tune.html")
    check_report(page, force=force)
    for name in weights or ():
        find_weights(name)
    if serve:
        check_output(serve, force=force)
    if photo.exists() and any(p.exists() and p.samefile(photo) for p in (page, serve) if p):
        raise OutputError(f"{photo}: is the photo itself", "choose another place for the result")

    with imports_whole():
        from amsnet_cli.atomic import write_output
        from amsnet_cli.cli.tune_layers import prepare_photo
        from amsnet_cli.device import choose_device
        from amsnet_cli.report.tune_page import tune_page

    with progress_bar(photo.name, quiet=quiet) as progress:
        tuned, choices = prepare_photo(
            photo, weights, choose_device(device), command=_command(photo, serve),
            serve=str(serve or ""), progress=progress,
        )  # fmt: skip
    html = tune_page(tuned, choices).encode()
    write_output(page, html)
    print_result(page)
    show = stderr.is_terminal if show is None else show
    if serve:
        names = [choice.weights or None for choice in choices]
        serve_page(html, photo, serve, names, device=device, show=show, quiet=quiet)
    elif show:
        webbrowser.open(page.resolve().as_uri())


def _command(photo: Path, serve: Path | None) -> str:
    """Return the command line that denoises the photo, up to its options."""
    from amsnet_cli.batch.naming import Naming

    clean = serve or Path(Naming(template="{stem}_clean{ext}").name(photo))
    # A name may look like an option.
    names = [f"./{p}" if str(p).startswith("-") else str(p) for p in (photo, clean)]
    source, target = (shlex.quote(os.fsencode(n).decode("utf-8", "replace")) for n in names)
    return f"amsnet denoise {source} -o {target}"

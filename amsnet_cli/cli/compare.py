"""`amsnet compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import print_result, progress_bar, reports_errors, say
from amsnet_cli.errors import OutputError, PhotoError, UsageError


@reports_errors
def compare(
    noisy: Annotated[Path, typer.Argument(metavar="NOISY", help="A photo, or a folder of them.")],
    clean: Annotated[
        Path, typer.Argument(metavar="CLEAN", help="Its denoised version, or a folder of them.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PAGE.html", help="The page to write.")
    ],
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Show photos before and after on a page: a slider, crops at 100 %, the removed noise.

    The page is one file that needs nothing else. Photos in folders are matched by their names.
    """
    if noisy.is_dir() != clean.is_dir():
        raise UsageError(f"{noisy} and {clean}: a folder and a photo", "name two of a kind")

    from amsnet_cli.photos.read import read_photo
    from amsnet_cli.report.report import MOST_SHOWN, Entry, check_report, look_at, write_report
    from amsnet_cli.research.datasets import pair_photos

    check_report(output, force=force)
    pairs = pair_photos(noisy, clean) if noisy.is_dir() else [(noisy, clean)]
    if any(output.resolve() == path.resolve() for pair in pairs for path in pair):
        raise OutputError(f"{output}: a photo has this name", "choose another for the page")
    entries: list[Entry] = []
    with progress_bar(output.name, quiet=quiet) as progress:
        for before, after in pairs:
            photos = read_photo(before), read_photo(after)
            try:
                look = look_at(*photos, pictures=len(entries) < MOST_SHOWN)
            except PhotoError as error:
                raise PhotoError(f"{before} and {after}: {error}") from error
            entries.append(Entry(source=before, target=after, look=look))
            progress(len(entries) / len(pairs))
    write_report(output, entries, f"amsnet {__version__}.")
    print_result(output)
    if not quiet and len(pairs) == 1 and entries[0].look:
        levels = "noise {:.1f} before, {:.1f} after, on a scale of 255"
        say(levels.format(*entries[0].look.noise))

"""`amsnet compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import imports_whole, print_result, progress_bar, say
from amsnet_cli.errors import OutputError, PhotoError, UsageError


def compare(
    noisy: Annotated[Path, typer.Argument(metavar="NOISY", help="A photo, or a folder of them.")],
    clean: Annotated[
        Path, typer.Argument(metavar="CLEAN", help="Its denoised version, or a folder of them.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PAGE.html", help="The HTML page to write.")
    ],
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write an HTML page with photos before and after: a slider, crops, the residual.

    The page is one file that needs nothing else. Photos in folders are matched by name.
    """
    if noisy.is_dir() != clean.is_dir():
        raise UsageError(f"{noisy} and {clean}: a folder and a photo", "name two photos or folders")

    with imports_whole():
        from amsnet_cli.cli.crash import decode_told
        from amsnet_cli.photos.read import read_photo
        from amsnet_cli.report.comparison import compare as compare_photos
        from amsnet_cli.report.html import MAX_SHOWN, ReportEntry, check_report, write_report
        from amsnet_cli.research.datasets import pair_photos

    check_report(output, force=force)
    pairs = pair_photos(noisy, clean) if noisy.is_dir() else [(noisy, clean)]
    if any(output.resolve() == path.resolve() for pair in pairs for path in pair):
        raise OutputError(f"{output}: is the name of a photo", "choose another for the page")
    entries: list[ReportEntry] = []
    with progress_bar(output.name, quiet=quiet) as progress:
        for before, after in pairs:
            photos = [read_photo(path, decode=decode_told) for path in (before, after)]
            pictures = len(entries) < MAX_SHOWN
            try:
                comparison = compare_photos(*photos, pictures=pictures)
            except PhotoError as error:
                raise PhotoError(f"{before} and {after}: {error}") from error
            entries.append(ReportEntry(source=before, target=after, comparison=comparison))
            progress(len(entries) / len(pairs))
    write_report(output, entries, f"amsnet {__version__}.")
    print_result(output)
    if not quiet and len(pairs) == 1:
        levels = "noise {:.1f} before, {:.1f} after, on a scale of 255"
        say(levels.format(*comparison.noise))

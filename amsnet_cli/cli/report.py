"""`amsnet report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from amsnet_cli import __version__
from amsnet_cli.cli import options
from amsnet_cli.cli.console import imports_whole, print_result, progress_bar, say
from amsnet_cli.errors import OutputError, PhotoError


def report(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS.jsonl", help="What amsnet denoise --json printed, of all shards."
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="PAGE.html", help="The HTML page to write.")
    ],
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write one HTML page of the photos that several machines denoised.

    The last word on a photo counts, so the results of a second run can be appended. The first 40
    photos are shown before and after, if they and their results are still where they were.
    """
    with imports_whole():
        from amsnet_cli.report.html import MAX_SHOWN, check_report, write_report
        from amsnet_cli.report.results import compared, read_results

    check_report(output, force=force)
    entries = read_results(results)
    if output.resolve() in {path.resolve() for e in entries for path in (e.source, e.target)}:
        raise OutputError(f"{output}: is the name of a photo", "choose another for the page")
    shown = [i for i, entry in enumerate(entries) if entry.comparison][:MAX_SHOWN]
    with progress_bar(output.name, quiet=quiet) as progress:
        for count, index in enumerate(shown, 1):
            try:
                entries[index] = compared(entries[index])
            except PhotoError as error:
                say(f"shown without pictures: {error}")
            progress(count / len(shown))
    write_report(output, entries, f"amsnet {__version__}.")
    print_result(output)

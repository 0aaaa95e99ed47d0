"""Options of `amsnet denoise` that do not fit together, or into what is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amsnet_cli.batch.url import is_url
from amsnet_cli.cli.pipes import PIPE
from amsnet_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from amsnet_cli.batch.job import Job
    from amsnet_cli.batch.naming import Naming


def check_pipes(
    inputs: Sequence[str], output: str | None, *, paths_needed: bool, prints: bool
) -> None:
    """Refuse stdin and stdout where they do not do.

    Args:
        inputs: of the command.
        output: of the command.
        paths_needed: whether photos are sent to workers as paths.
        prints: whether something else is printed on stdout.

    Raises:
        UsageError: they do not.
    """
    if paths_needed and PIPE in (*inputs, output):
        raise UsageError("--dask sends paths to workers, and - has none", "name files")
    if output == PIPE and prints:
        raise UsageError("--json and --dry-run cannot be used with '-o -'", "choose a file with -o")


def check_urls(inputs: Sequence[str], output: str | None, options: Sequence[str]) -> None:
    """Refuse URLs together with options that need files.

    Raises:
        UsageError: they are given together.
    """
    for argument in (*inputs, output):
        if options and is_url(argument):
            raise UsageError(f"{argument}: {options[0]} needs files, not URLs", "mount the store")


def check_watch(inputs: Sequence[str], output: str | None) -> None:
    """Refuse to watch what is no folder, or to write into a folder that is watched.

    Raises:
        UsageError: so it is.
    """
    if output is None or PIPE in (*inputs, output):
        raise UsageError("--watch needs folders, and a folder for the results", "use -o OUT")
    for folder in inputs:
        if Path(folder).resolve() == Path(output).resolve():
            raise UsageError(
                f"--watch: {output} is the folder that is watched", "choose another OUT"
            )


def naming_of(name: str | None, suffix: str | None, file_format: str | None) -> Naming:
    """Return how results are named.

    Raises:
        UsageError: the options exclude each other, or cannot be used.
    """
    from amsnet_cli.batch.naming import Naming

    if name is not None and suffix is not None:
        raise UsageError(
            "--name and --suffix exclude each other", "put the suffix into the template"
        )
    if suffix is not None:
        name = f"{{stem}}{suffix.replace('{', '{{').replace('}', '}}')}{{ext}}"
    file_format = file_format and file_format.lower().removeprefix(".")
    return Naming(template=name or Naming.template, format=file_format)


def check_report(report: Path, jobs: list[Job], *, force: bool) -> None:
    """Check before any work that the page of a batch can be written.

    Raises:
        OutputError: it cannot, or its name is that of a photo.
    """
    from amsnet_cli.report import html

    html.check_report(report, force=force)
    if report.resolve() in {path.resolve() for job in jobs for path in (job.source, job.target)}:
        raise OutputError(f"{report}: is the name of a photo", "choose another for the page")

"""Run the batches of `amsnet denoise` and show what becomes of each photo."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from amsnet_cli.cli.outcomes import OutcomePrinter, describe_weights

if TYPE_CHECKING:
    from amsnet_cli.batch.engine import Engine
    from amsnet_cli.batch.job import Job, Outcome
    from amsnet_cli.cli.photo_info import PhotoInfo
    from amsnet_cli.report.html import ReportEntry


def run_batches(
    engine: Engine[PhotoInfo],
    batches: Iterable[Sequence[Job]],
    printer: OutcomePrinter,
    *,
    fail_fast: bool,
    stop: Callable[[], bool],
) -> Iterator[Outcome[PhotoInfo]]:
    """Run all photos and yield each outcome once it is printed."""
    for batch in batches:
        with closing(engine.run(batch, fail_fast=fail_fast, stop=stop)) as outcomes:
            try:
                for outcome in outcomes:
                    printer.outcome(outcome)
                    yield outcome
            except KeyboardInterrupt:
                printer.interrupted()
                raise


def report_entry(outcome: Outcome[PhotoInfo]) -> ReportEntry:
    """Return what the page shows of a photo."""
    from amsnet_cli.report.html import ReportEntry

    info, done = outcome.info, outcome.status == "done"
    return ReportEntry(
        source=outcome.job.source, target=outcome.job.target,
        comparison=info.comparison if info and done else None,
        weights=describe_weights(info) if info else "",
        error=str(outcome.error or ""), seconds=outcome.seconds,
    )  # fmt: skip

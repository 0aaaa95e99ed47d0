"""Show the outcomes of a batch: results on stdout, as lines or JSON, the rest on stderr."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amsnet_cli.batch.job import Job, Outcome
from amsnet_cli.cli.console import SOME_FAILED, complain, print_json, print_result, say
from amsnet_cli.cli.pipes import PIPE, Pipes, write_stdout
from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.find import PassedOver, describe_passed_over

if TYPE_CHECKING:
    from amsnet_cli.cli.photo_info import PhotoInfo


class OutcomePrinter:
    """Prints what becomes of the photos and counts it.

    Args:
        jobs: of the batch; none where they are not known beforehand.
        pipes: stdin and stdout.
        as_json: print a JSON object for each photo.
        quiet: print only errors on stderr.
        text: puts names that people know in the place of paths.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        pipes: Pipes,
        *,
        as_json: bool,
        quiet: bool,
        text: Callable[[str], str] = str,
    ) -> None:
        self._numbers = {job: number for number, job in enumerate(jobs, 1)}
        self._pipes, self._as_json, self._quiet = pipes, as_json, quiet
        self._text = text
        self._counts: Counter[str] = Counter()
        self._exit_codes: set[int] = set()

    def excluded(self, photos: Sequence[Path]) -> None:
        """Print which photos are left out, as they are results of others."""
        if photos:
            more = f" and {len(photos) - 1} more" if len(photos) > 1 else ""
            say(f"{self._text(str(photos[0]))}{more}: left out, as the result of another photo")

    def passed_over(self, files: Sequence[PassedOver]) -> None:
        """Print how many files of folders are no photos, and of which kinds."""
        if self._as_json:
            for file in files:
                print_json({
                    "input": self._text(str(file.path)), "output": None, "status": "passed_over",
                    "reason": file.reason,
                })  # fmt: skip
        if files and not self._quiet:
            say(f"{_count(len(files), 'file')} passed over: {describe_passed_over(files)}")

    def plan(self) -> int:
        """Print what would be done; returns the exit code."""
        unreadable = 0
        for job in self._numbers:
            if not os.access(job.source, os.R_OK):
                unreadable += 1
                complain(PhotoError(f"{job.source}: cannot be read", "check the path"))
            elif self._as_json:
                self._print_object(job, "skipped" if job.skip else "planned")
            else:
                line = f"{job.source} -> {job.target}{' (exists, skipped)' * job.skip}"
                print_result(self._text(line))
        return 0 if not unreadable else SOME_FAILED if unreadable < len(self._numbers) else 1

    def label(self, job: Job) -> str:
        """Return a photo's name, with its number if there are several."""
        total = len(self._numbers)
        number = f"{self._numbers[job]}/{total} " if total > 1 else ""
        return number + job.source.name

    def outcome(self, outcome: Outcome[PhotoInfo]) -> None:
        """Print what became of a photo."""
        self._counts[outcome.status] += 1
        job = outcome.job
        if outcome.error:
            self._exit_codes.add(outcome.error.exit_code)
            complain(outcome.error)
        if outcome.info and not self._quiet:
            for note in outcome.info.notes:
                say(self._text(f"{job.source}: {note}"))
        waits = outcome.status == "done" and bool(outcome.info and outcome.info.waits)
        if self._as_json:
            self._print_object(job, "waits" if waits else outcome.status, outcome)
        elif waits:
            pass
        elif outcome.status == "done" and self._pipes.holds(job.target):
            write_stdout(job.target)
        elif outcome.status == "done":
            print_result(self._text(str(job.target)))
        if outcome.size and outcome.info and not self._quiet:
            width, height = outcome.size
            name = job.source.name if self._pipes.holds(job.source) else self._text(str(job.source))
            say(
                f"{name}: {width}x{height}, {outcome.depth} bit, {describe_weights(outcome.info)}, "
                f"{outcome.seconds:.1f} s"
            )

    def interrupted(self) -> None:
        """Print how far the batch came and how to resume it."""
        total = len(self._numbers)
        if total > 1:
            done = self._counts["done"] + self._counts["skipped"]
            say(f"{done} of {total} photos done; resume with --skip-existing")

    def summary(self, seconds: float) -> int:
        """Print the counts; returns the exit code."""
        counts, total = self._counts, len(self._numbers) or self._counts.total()
        done, skipped, failed = counts["done"], counts["skipped"], counts["failed"]
        if total != 1 and (failed or not self._quiet):
            parts = [f"{done} of {total} photos denoised"]
            parts += [f"{skipped} skipped"] * bool(skipped)
            parts += [f"{failed} failed"] * bool(failed)
            parts += [f"{counts['not_run']} not run"] * bool(counts["not_run"])
            say(f"{', '.join(parts)}, in {seconds:.0f} s")
        if failed and done + skipped:
            return SOME_FAILED
        return self._exit_codes.pop() if len(self._exit_codes) == 1 else int(failed > 0)

    def _print_object(
        self, job: Job, status: str, outcome: Outcome[PhotoInfo] | None = None
    ) -> None:
        info = outcome.info if outcome else None
        width, height = (outcome.size if outcome else None) or (None, None)
        before, after = (info.noise if info else None) or (math.nan, math.nan)
        print_json({
            "input": PIPE if self._pipes.holds(job.source) else self._text(str(job.source)),
            "output": self._text(str(job.target)),
            "status": status,
            "error": str(outcome.error) if outcome and outcome.error else None,
            "width": width,
            "height": height,
            "weights": info.weights if info else None,
            "seconds": round(outcome.seconds, 3) if outcome and outcome.size else None,
            "noise_before": None if math.isnan(before) else round(before, 2),
            "hot_pixels": info.hot_pixels if info else None,
            "noise_after": None if math.isnan(after) else round(after, 2),
        })  # fmt: skip


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def describe_weights(info: PhotoInfo) -> str:
    """Return the model's name, and in brackets why it was chosen."""
    return f"{info.weights} ({info.reason})" if info.reason else info.weights

"""Watch folders: denoise what arrives there, once it has stopped growing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.batch.conflicts import Refuse
from amsnet_cli.batch.job import Info, Job, Outcome
from amsnet_cli.batch.plan import Plan, is_folder
from amsnet_cli.batch.run import stops_batch
from amsnet_cli.errors import AmsnetError, PhotoError, UsageError
from amsnet_cli.photos.suffix import size_and_time


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """How folders are watched.

    They are listed again and again: that works on network drives and memory cards, where the
    system tells nothing of what others write, and only a second look shows that a file has stopped
    growing.
    """

    settled_after: float = 2.0
    """Seconds for which a photo must not have changed."""
    interval: float = 1.0
    """Seconds between two looks, at least."""
    share: float = 0.1
    """Share of the time that looking may take, so large folders are looked at less often."""


@dataclass(frozen=True)
class _Version:
    """What changes when a file is written to or replaced."""

    inode: int
    size: int
    modified_ns: int


class Watch:
    """Finds photos as they arrive.

    Args:
        folders: to watch.
        plan: plans all photos that are there, those with a result as skipped; gets what to do with
            photos that cannot be planned.
        report: called with an error once, until it has another message.
        options: see `WatchOptions`.

    Raises:
        PhotoError: a folder is missing.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        plan: Callable[[Refuse], Plan],
        report: Callable[[AmsnetError], None],
        options: WatchOptions = WatchOptions(),
    ) -> None:
        self._folders, self._plan, self._report, self._options = folders, plan, report, options
        for folder in folders:
            if not is_folder(folder):
                raise PhotoError(f"{folder}: not a folder to watch", "name a folder")
        self._seen: dict[Path, tuple[_Version, float]] = {}
        self._tried: dict[Path, _Version] = {}
        self._reported: set[str] = set()
        self._broken = False

    def batches(self, stop: Callable[[], bool]) -> Iterator[list[Job]]:
        """Yield photos that have settled, until `stop`, or until a result could not be written."""
        while not (stop() or self._broken):
            started = time.monotonic()
            ready = [job for job in self._jobs() if self._has_settled(job.source)]
            took = time.monotonic() - started
            if ready:
                yield ready
            pause = max(self._options.interval, took / self._options.share)
            until = time.monotonic() + pause
            while time.monotonic() < until and not (stop() or self._broken):
                time.sleep(min(0.1, pause))

    def finished(self, outcome: Outcome[Info]) -> None:
        """Take note of what became of a photo, so that it is tried again only when it changes."""
        source = outcome.job.source
        if outcome.status == "not_run" or _version(source) is None:
            return
        self._tried[source] = self._seen[source][0]
        self._broken = self._broken or stops_batch(outcome, fail_fast=False)

    def _jobs(self) -> list[Job]:
        """List all photos without a result. What cannot be listed or planned is reported."""
        errors = self._gone()
        jobs: list[Job] = []
        if not errors:
            try:
                jobs = self._plan(lambda job, error: errors.append(error)).jobs
            except (PhotoError, UsageError) as error:
                errors.append(error)
            if errors:  # A card may go while it is listed.
                errors = self._gone() or errors
        for said in errors:
            if str(said) not in self._reported:
                self._report(said)
        self._reported = {str(said) for said in errors}
        return [job for job in jobs if not job.skip]

    def _gone(self) -> list[AmsnetError]:
        return [
            PhotoError(f"{folder}: is gone", "waiting for it")
            for folder in self._folders
            if not is_folder(folder)
        ]

    def _has_settled(self, photo: Path) -> bool:
        version, now = _version(photo), time.monotonic()
        if version is None or version == self._tried.get(photo):
            return False
        known, since = self._seen.get(photo, (None, now))
        if known != version:
            self._seen[photo] = version, now
            return False
        return version.size > 0 and now - since >= self._options.settled_after


def _version(photo: Path) -> _Version | None:
    try:
        status = photo.stat()
        if not photo.is_dir():
            return _Version(status.st_ino, status.st_size, status.st_mtime_ns)
        size, modified_ns = size_and_time(photo)
    except OSError:
        return None
    return _Version(status.st_ino, size, modified_ns)

"""Conflicts of a plan: results under one name, on a photo, or on a file that exists."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

from amsnet_cli.batch.job import Job
from amsnet_cli.errors import AmsnetError, OutputError, UsageError
from amsnet_cli.photos.suffix import is_zarr

Refuse: TypeAlias = Callable[[Job, AmsnetError], None]
"""Called with a photo whose result has no place, which is left out then, or raises."""


def raise_refusal(job: Job, error: AmsnetError) -> None:
    """Refuse a photo by raising the error."""
    raise error


@dataclass(frozen=True, slots=True)
class Planned:
    """A job, and what its planning needs.

    Attributes:
        job: the photo and its result.
        source: path of the photo with its folder resolved; a link in its place is not followed.
        target: path of the result, likewise.
        key: path of the photo below the input folder, which decides its shard.
    """

    job: Job
    source: str
    target: str
    key: str


def exclude_results(
    planned: list[Planned], refuse: Refuse, *, skip_existing: bool
) -> tuple[list[Planned], list[Planned]]:
    """Take out the photos that are the result of another job, as an earlier run leaves them."""
    by_target = {item.target: item for item in planned}
    kept, excluded = [], []
    for item in planned:
        producer = by_target.get(item.source, item)
        if producer.source == item.source:
            kept.append(item)
        elif skip_existing:
            excluded.append(item)
        else:
            error = UsageError(
                f"{item.job.source}: both a photo to denoise and the result of "
                f"{producer.job.source}",
                "choose another OUT, or skip existing results with --skip-existing",
            )
            refuse(item.job, error)
    return kept, excluded


def without_collisions(planned: list[Planned], refuse: Refuse) -> list[Planned]:
    """Refuse photos whose result would have the name of another, on any file system."""
    kept: dict[str, Planned] = {}
    for item in planned:
        other = kept.setdefault(_folded(item.target), item)
        if other.source != item.source:
            error = UsageError(
                f"{other.job.source} and {item.job.source} would both become {item.job.target}",
                "rename one, denoise them separately, or give distinct names with --name",
            )
            refuse(item.job, error)
    return list(kept.values())


def _folded(path: str) -> str:
    """Return what is equal for names that are the same on any file system.

    Some ignore case, or the Unicode normalisation of names.
    """
    if path.isascii():
        return path.lower()
    folded = unicodedata.normalize("NFD", path).casefold()
    return unicodedata.normalize("NFD", folded)


def check_existing(
    planned: list[Planned],
    photos: list[Planned],
    refuse: Refuse,
    *,
    force: bool,
    skip_existing: bool,
) -> list[Job]:
    """Check the files that exist under the targets: refuse, skip or allow to replace them.

    Args:
        planned: the jobs.
        photos: of all jobs, which no result may replace.
        refuse: see `Refuse`.
        force: whether results may replace files.
        skip_existing: whether those that exist are kept.
    """
    statuses = {}
    absent = cache(_is_absent)
    for item in planned:
        if not absent(item.target.rpartition(os.sep)[0]):
            status = _stat_if_exists(item.job.target)
            if status is not None:
                statuses[item.target] = status
    by_file = _by_file(photos) if statuses else {}
    checked, existing = [], []
    for item in planned:
        job, status = item.job, statuses.get(item.target)
        if status is None:
            checked.append(job)
            continue
        photo = by_file.get((status.st_dev, status.st_ino))
        error = _why_not_replaced(item, photo, status, force=force)
        if error is not None:
            refuse(job, error)
            continue
        existing.append(job.target)
        checked.append(replace(job, skip=skip_existing))
    if existing and not (force or skip_existing):
        more = f" (and {len(existing) - 1} more results)" if len(existing) > 1 else ""
        raise OutputError(
            f"{existing[0]}{more}: already exists",
            "overwrite with --force" + ", or skip with --skip-existing" * (len(planned) > 1),
        )
    return checked


def _by_file(photos: list[Planned]) -> dict[tuple[int, int], Planned]:
    """Return the photos by device and inode, which all links to a file share."""
    found = {}
    for item in photos:
        with suppress(OSError):  # Reading the photo will report what is wrong.
            status = os.stat(item.source)  # noqa: PTH116
            found[status.st_dev, status.st_ino] = item
    return found


def _why_not_replaced(
    item: Planned, photo: Planned | None, status: os.stat_result, *, force: bool
) -> OutputError | None:
    """Return why a file must not be replaced; None if it may.

    Args:
        item: the job whose result it would be.
        photo: that is this file.
        status: of the file.
        force: whether a photo may be replaced by its own result.
    """
    target = item.job.target
    if photo is not None and photo.source != item.target:
        return OutputError(
            f"{target}: is a link to the photo {photo.job.source}", "choose another OUT"
        )
    if photo is not None and not force:
        return OutputError(
            f"{photo.job.source}: would be overwritten by its denoised version",
            "choose another OUT, or overwrite it with --force",
        )
    if not (stat.S_ISREG(status.st_mode) or target.is_symlink() or is_zarr(target)):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        return OutputError(f"{target}: is {kind}", "choose another name")
    return None


def _is_absent(folder: str) -> bool:
    """Return whether there is surely no such folder."""
    try:
        os.stat(folder or ".")  # noqa: PTH116
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _stat_if_exists(target: Path) -> os.stat_result | None:
    """Return the status of a file, or of a link that leads nowhere; None if there is neither."""
    try:
        status = os.lstat(target)
        if not stat.S_ISLNK(status.st_mode):
            return status
        with suppress(FileNotFoundError):
            return os.stat(target)  # noqa: PTH116
        return status
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror})", "choose another OUT"
        ) from error

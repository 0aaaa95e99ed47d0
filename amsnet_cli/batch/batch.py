"""Many photos: which file becomes which, and how they are worked through."""

from __future__ import annotations

import errno
import os
import stat
import string
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from amsnet_cli.atomic import clear_leftovers
from amsnet_cli.errors import AmsnetError, DeviceError, OutputError, UsageError
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.formats import WRITABLE
from amsnet_cli.photos.photo import Photo

P = ParamSpec("P")
T = TypeVar("T")

_HOPELESS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOENT})
"""Why writing fails so that it will for the next photo as well: the disk is full or gone."""


@dataclass(frozen=True, kw_only=True)
class Naming:
    """How results are named.

    Attributes:
        template: may hold {stem} and {name}, the photo's name without and with its suffix,
            {folder}, the name of the folder it lies in, and {ext}, the result's suffix.
        format: the result's suffix without the dot; None keeps the photo's, or is TIFF where
            that cannot be written.

    Raises:
        UsageError: the template or the format cannot be used.
    """

    template: str = "{stem}{ext}"
    format: str | None = None

    def __post_init__(self) -> None:
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(self.template)} - {None}
            trial = self.template.format(stem="x", name="x.png", folder="x", ext=".png")
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            raise UsageError(f"--name {self.template}: not a template", _HINT) from error
        if not fields <= {"stem", "name", "folder", "ext"} or not fields & {"stem", "name"}:
            raise UsageError(f"--name {self.template}: names no photo", _HINT)
        if Path(trial).name != trial or Path(trial).suffix.lower() not in WRITABLE:
            raise UsageError(f"--name {self.template}: is no name of a picture", _HINT)
        if self.format is not None and f".{self.format}" not in WRITABLE:
            known = ", ".join(sorted(suffix[1:] for suffix in WRITABLE))
            raise UsageError(f"--format {self.format}: cannot be written", f"use {known}")

    def name(self, source: Path) -> str:
        """Name the result of a photo."""
        suffix = source.suffix if source.suffix.lower() in WRITABLE else ".tif"
        ext = f".{self.format}" if self.format else suffix
        folder = source.parent.absolute().name
        return self.template.format(stem=source.stem, name=source.name, folder=folder, ext=ext)


_HINT = "use {stem} or {name}, and {folder} and {ext}, as in {stem}_clean{ext}"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One photo and its result.

    Attributes:
        source: the photo.
        target: where the result goes.
        skip: the result is there already and shall stay.
    """

    source: Path
    target: Path
    skip: bool = False


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done.

    Attributes:
        jobs: in the order of the inputs, folders in the order of their parts.
        left_out: photos that are results of others, as an earlier run leaves them.
    """

    jobs: list[Job]
    left_out: list[Path]


def plan_jobs(
    inputs: Sequence[Path],
    output: Path | None,
    *,
    into_folder: bool = True,
    naming: Naming = Naming(),
    recursive: bool = False,
    force: bool = False,
    skip_existing: bool = False,
) -> Plan:
    """Decide where each photo goes; reads folders and changes nothing.

    Args:
        inputs: photos, and folders of photos.
        output: None to put results beside the photos.
        into_folder: whether `output` is a folder; if not, it is the result of the only photo.
        naming: of results in folders.
        recursive: whether to look for photos below folders; the tree is kept below `output`.
        force: whether results may replace files, the photo itself included if the path is its own.
        skip_existing: whether photos whose results are there already are passed over.

    Raises:
        PhotoError: there is no photo in a folder, or it cannot be read.
        UsageError: two photos would become one file, whether or not this system tells upper from
            lower case and composed from decomposed letters.
        OutputError: a result would replace a photo, or another file.
    """
    resolved: Callable[[Path], Path] = cache(Path.resolve)

    def place(path: Path) -> Path:
        """Tell where a file is, without following a link in its own place."""
        return resolved(path.parent) / path.name

    jobs: list[Job] = []
    for given in inputs:
        if is_folder(given):
            photos = find_photos(given, recursive=recursive)
            if output is not None and (done := resolved(output)) != resolved(given):
                photos = [p for p in photos if not resolved(p.parent).is_relative_to(done)]
            for source in photos:
                folder = output / source.relative_to(given).parent if output else source.parent
                jobs.append(Job(source=source, target=folder / naming.name(source)))
        elif output is not None and not into_folder:
            jobs.append(Job(source=given, target=output))
        else:
            jobs.append(Job(source=given, target=(output or given.parent) / naming.name(given)))
    jobs = list({(place(job.source), place(job.target)): job for job in jobs}.values())
    jobs, left_out = _without_results(jobs, place, skip_existing=skip_existing)
    _refuse_clashes(jobs, place)
    settled = _settle(jobs, place, force=force, skip_existing=skip_existing)
    return Plan(jobs=settled, left_out=left_out)


def is_folder(path: Path) -> bool:
    """Tell whether a path that can be looked at is a folder."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _without_results(
    jobs: list[Job], place: Callable[[Path], Path], *, skip_existing: bool
) -> tuple[list[Job], list[Path]]:
    """Take out photos that are the result of another."""
    makers = {place(job.target): job for job in jobs}
    kept, left_out = [], []
    for job in jobs:
        maker = makers.get(place(job.source), job)
        if place(maker.source) == place(job.source):
            kept.append(job)
        elif skip_existing:
            left_out.append(job.source)
        else:
            raise UsageError(
                f"{job.source}: a photo to denoise, and the result of {maker.source}",
                "choose another OUT, or pass over what is done with --skip-existing",
            )
    return kept, left_out


def _refuse_clashes(jobs: list[Job], place: Callable[[Path], Path]) -> None:
    owners: dict[str, Path] = {}
    for job in jobs:
        # Some file systems do not tell upper from lower case, or composed from decomposed letters.
        plain = unicodedata.normalize("NFD", str(place(job.target))).casefold()
        other = owners.setdefault(unicodedata.normalize("NFD", plain), job.source)
        if other != job.source:
            raise UsageError(
                f"{other} and {job.source} would both become {job.target}",
                "rename one, denoise them apart, or tell them apart with --name",
            )


def _settle(
    jobs: list[Job], place: Callable[[Path], Path], *, force: bool, skip_existing: bool
) -> list[Job]:
    """Look at what is there already: refuse to replace it, pass over it, or replace it."""
    sources = {}
    for job in jobs:
        with suppress(OSError):  # Reading it will say what is wrong.
            entry = job.source.stat()
            sources[entry.st_dev, entry.st_ino] = job.source
    settled, existing = [], []
    for job in jobs:
        found = _look(job.target)
        if found is None:
            settled.append(job)
            continue
        photo = sources.get((found.st_dev, found.st_ino))
        if photo is not None and place(photo) != place(job.target):
            raise OutputError(f"{job.target}: is a link to the photo {photo}", "choose another OUT")
        if photo is not None and not force:
            raise OutputError(
                f"{photo}: would be overwritten by its denoised version",
                "choose another OUT, or overwrite it with --force",
            )
        if not stat.S_ISREG(found.st_mode) and not job.target.is_symlink():
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "something that is no file"
            raise OutputError(f"{job.target}: {kind} has this name", "choose another name")
        existing.append(job.target)
        settled.append(Job(source=job.source, target=job.target, skip=skip_existing))
    if existing and not (force or skip_existing):
        many = f" (and {len(existing) - 1} more results)" if len(existing) > 1 else ""
        raise OutputError(
            f"{existing[0]}{many}: exists already",
            "overwrite with --force" + ", or pass over with --skip-existing" * (len(jobs) > 1),
        )
    return settled


def _look(target: Path) -> os.stat_result | None:
    """Find out what is at a path, behind a link if it leads somewhere."""
    try:
        try:
            return target.stat()
        except FileNotFoundError:
            return target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written ({error.strerror})", "choose another OUT"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a photo.

    Attributes:
        job: the photo and its result.
        status: "left" if the run was stopped before it.
        error: why it failed.
        size: width and height of what was written, in pixels.
        depth: bits of a channel of the photo.
        seconds: reading, denoising and writing together.
    """

    job: Job
    status: Literal["done", "skipped", "failed", "left"]
    error: AmsnetError | None = None
    size: tuple[int, int] | None = None
    depth: int | None = None
    seconds: float = 0.0


def run_jobs(
    jobs: Sequence[Job],
    *,
    read: Callable[[Job], Photo],
    work: Callable[[Job, Photo], Photo],
    write: Callable[[Job, Photo], None],
    threads: int = 1,
    fail_fast: bool = False,
) -> Generator[Outcome, None, None]:
    """Work through photos; a bad one does not stop the others.

    Photos are read ahead and written by threads, beside `work` in this one, at most `threads`
    either way, so that memory is bounded.

    Args:
        jobs: as from `plan_jobs`.
        read: reads a photo; in a thread.
        work: denoises it; in this thread, one at a time, in order.
        write: writes it; in a thread.
        threads: photos read ahead, and photos being written; 0 for one thing after another.
        fail_fast: whether to leave the rest after a failure, as is done in any case where the
            disk is full or gone.

    Yields:
        An outcome for each job, in order.

    Raises:
        UsageError: from `read` or `work`, since it would be the same for all.
    """
    for folder in sorted({job.target.parent for job in jobs}):
        clear_leftovers(folder)
    todo = iter([job for job in jobs if not job.skip])
    readers, writers = (ThreadPoolExecutor(max(1, threads)) for _ in range(2))
    reads: deque[Future[tuple[Photo, float]]] = deque()
    writes: deque[Future[Outcome]] = deque()
    stopped = False

    def read_ahead(most: int) -> None:
        for job in islice(todo, most - len(reads)):
            reads.append(readers.submit(_timed, read, job))

    def write_timed(job: Job, photo: Photo, depth: int, seconds: float) -> Outcome:
        try:
            _, spent = _timed(write, job, photo)
        except AmsnetError as error:
            return Outcome(job=job, status="failed", error=error)
        height, width = photo.pixels.shape[:2]
        return Outcome(
            job=job, status="done", size=(width, height), depth=depth, seconds=seconds + spent
        )

    def begin(job: Job) -> Future[Outcome]:
        """Denoise a photo and begin to write it."""
        known: Future[Outcome] = Future()
        if job.skip or stopped:
            known.set_result(Outcome(job=job, status="skipped" if job.skip else "left"))
            return known
        read_ahead(max(1, threads))
        future = reads.popleft()
        read_ahead(threads)
        try:
            noisy, reading = future.result()
            clean, working = _timed(work, job, noisy)
        except UsageError:
            raise
        except AmsnetError as error:
            known.set_result(Outcome(job=job, status="failed", error=error))
            return known
        return writers.submit(write_timed, job, clean, noisy.depth, reading + working)

    try:
        for job in jobs:
            writes.append(begin(job))
            while writes and (len(writes) > threads or writes[0].done()):
                outcome = writes.popleft().result()
                stopped = stopped or _stops(outcome, fail_fast=fail_fast)
                yield outcome
        while writes:
            yield writes.popleft().result()
    finally:
        readers.shutdown(cancel_futures=True)
        writers.shutdown(cancel_futures=True)


def _timed(stage: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, float]:
    started = time.monotonic()
    try:
        result = stage(*args, **kwargs)
    except MemoryError as error:
        raise DeviceError("out of memory", "try --jobs 0, or a smaller photo") from error
    return result, time.monotonic() - started


def _stops(outcome: Outcome, *, fail_fast: bool) -> bool:
    error = outcome.error
    if fail_fast or error is None:
        return error is not None
    cause = error.__cause__
    return (
        isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in _HOPELESS
    )

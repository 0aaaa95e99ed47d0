"""Run a batch: photos are read ahead and written behind, beside the denoising."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import islice
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from amsnet_cli.atomic import clear_leftovers
from amsnet_cli.batch.job import Job, Outcome
from amsnet_cli.errors import AmsnetError, DeviceError, OutputError, UsageError, bugs_named
from amsnet_cli.photos.photo import Photo

P = ParamSpec("P")
T = TypeVar("T")
Info = TypeVar("Info")

_FATAL = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOENT, errno.ECONNREFUSED,
})  # fmt: skip
"""Write errors that the next photo would meet as well: the disk is full or gone, or the store."""


_MOST_AHEAD = 4
_PHOTO_BYTES = 1_000_000_000
"""Of memory that must be free for each photo ahead: one of 24 megapixels in 16 bits takes a third
while it is decoded, as much while it is encoded, and its result waits."""

Info_co = TypeVar("Info_co", covariant=True)


class Steps(Protocol[Info_co]):
    """What is done with each photo, see `run_jobs`."""

    def read(self, job: Job) -> Photo:
        """Read the photo."""

    def denoise(self, job: Job, photo: Photo) -> tuple[Photo, Info_co]:
        """Return the result, and what the outcome shall hold of it."""

    def write(self, job: Job, photo: Photo) -> None:
        """Write the result."""


def photos_ahead(device: str, *, cores: int, free: int) -> int:
    """Return how many photos to read ahead, and to write at a time; for `run_jobs`.

    A CPU has its cores for the network, which takes many times as long as reading and writing: one.
    A GPU leaves the cores to them, and a photo takes about two while it is decoded and encoded.

    Args:
        device: its type.
        cores: of the CPU.
        free: bytes of RAM.
    """
    if device == "cpu":
        return 1
    return max(1, min(_MOST_AHEAD, cores // 2, free // _PHOTO_BYTES))


def run_jobs(
    jobs: Sequence[Job],
    *,
    read: Callable[[Job], Photo],
    work: Callable[[Job, Photo], tuple[Photo, Info]],
    write: Callable[[Job, Photo], None],
    threads: int = 1,
    fail_fast: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Outcome[Info], None, None]:
    """Run jobs in order; one that fails, by a bug as well, does not stop the others.

    Threads read and write photos while `work` runs in the calling thread. At most `threads` photos
    wait on either side, so memory is bounded.

    Args:
        jobs: as from `plan_jobs`.
        read: reads the photo; in a thread.
        work: denoises it and returns the result, with whatever the outcome shall hold of it; in
            the calling thread, one photo at a time.
        write: writes the result; in a thread.
        threads: photos read ahead, and photos being written; 0 for one step after another.
        fail_fast: stop after the first failure. A full or missing disk stops the batch in any case.
        stop: whether to start no more.

    Yields:
        An outcome for each job, in order.

    Raises:
        UsageError: from `read` or `work`, since it would be the same for all.
    """
    for folder in sorted({job.target.parent for job in jobs}):
        clear_leftovers(folder)
    to_read = iter([job for job in jobs if not job.skip])
    readers, writers = (ThreadPoolExecutor(max(1, threads)) for _ in range(2))
    reads: deque[Future[tuple[Photo, float]]] = deque()
    writes: deque[Future[Outcome[Info]]] = deque()
    stopped = False

    def read_ahead(count: int) -> None:
        for job in islice(to_read, count - len(reads)):
            reads.append(readers.submit(_timed, read, job))

    def start(job: Job) -> Future[Outcome[Info]]:
        """Denoise a photo and start to write it."""
        finished: Future[Outcome[Info]] = Future()
        if job.skip or stopped or stop():
            finished.set_result(Outcome(job=job, status="skipped" if job.skip else "not_run"))
            return finished
        read_ahead(max(1, threads))
        reading = reads.popleft()
        read_ahead(threads)
        try:
            noisy, read_seconds = reading.result()
            (denoised, info), work_seconds = _timed(work, job, noisy)
        except UsageError:
            raise
        except AmsnetError as error:
            finished.set_result(Outcome(job=job, status="failed", error=error))
            return finished
        seconds = read_seconds + work_seconds
        return writers.submit(_written, write, job, denoised, info, noisy.depth, seconds)

    try:
        for job in jobs:
            writes.append(start(job))
            while writes and (len(writes) > threads or writes[0].done()):
                outcome = writes.popleft().result()
                stopped = stopped or stops_batch(outcome, fail_fast=fail_fast)
                yield outcome
        while writes:
            yield writes.popleft().result()
    finally:
        readers.shutdown(cancel_futures=True)
        writers.shutdown(cancel_futures=True)


def run_one(job: Job, steps: Steps[Info], turn: AbstractContextManager[object]) -> Outcome[Info]:
    """Run one job in the calling thread.

    Args:
        job: the photo and its result.
        steps: read, denoise, write.
        turn: entered while the photo is denoised.

    Raises:
        UsageError: from the steps, since it would be the same for all.
    """
    try:
        noisy, read_seconds = _timed(steps.read, job)
        with turn:
            (denoised, info), work_seconds = _timed(steps.denoise, job, noisy)
    except UsageError:
        raise
    except AmsnetError as error:
        return Outcome(job=job, status="failed", error=error)
    seconds = read_seconds + work_seconds
    return _written(steps.write, job, denoised, info, noisy.depth, seconds)


def _written(
    write: Callable[[Job, Photo], None],
    job: Job,
    photo: Photo,
    info: Info,
    depth: int,
    seconds: float,
) -> Outcome[Info]:
    try:
        _, write_seconds = _timed(write, job, photo)
    except AmsnetError as error:
        return Outcome(job=job, status="failed", error=error, info=info)
    height, width = photo.pixels.shape[:2]
    return Outcome(
        job=job, status="done", size=(width, height), depth=depth,
        seconds=seconds + write_seconds, info=info,
    )  # fmt: skip


def _timed(
    step: Callable[Concatenate[Job, P], T], job: Job, *args: P.args, **kwargs: P.kwargs
) -> tuple[T, float]:
    """Return a step's result and its seconds; whatever it raises becomes an `AmsnetError`."""
    started = time.monotonic()
    with bugs_named(job.source):
        try:
            result = step(job, *args, **kwargs)
        except MemoryError as error:
            raise DeviceError("out of memory", "try --jobs 0, or a smaller photo") from error
    return result, time.monotonic() - started


def stops_batch(outcome: Outcome[Info], *, fail_fast: bool) -> bool:
    """Return whether no more photos are to be started after one with this outcome."""
    error = outcome.error
    if fail_fast or error is None:
        return error is not None
    cause = error.__cause__
    return isinstance(error, OutputError) and isinstance(cause, OSError) and cause.errno in _FATAL

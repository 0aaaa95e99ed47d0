"""A batch on its way through a Dask cluster: photos go out in chunks, outcomes come back."""

from __future__ import annotations

import math
import queue
import stat
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeAlias

from amsnet_cli.batch.dask_cluster import (
    SCHEDULER_ERRORS,
    ClusterOptions,
    scheduler_asked,
    scheduler_gone,
)
from amsnet_cli.batch.dask_worker import STOPPED, Chunk, Recipe, run_chunk
from amsnet_cli.batch.job import Info, Job, Outcome
from amsnet_cli.batch.run import stops_batch
from amsnet_cli.errors import AmsnetError, BugError, DeviceError

if TYPE_CHECKING:
    from distributed import Client, Future

_ALLOWED_FAILURES = "distributed.scheduler.allowed-failures"
"""Setting of the scheduler: workers that a photo may kill before it is passed over, mostly 3."""
_Message: TypeAlias = tuple[str, int | None, bytes | None] | None
"""A chunk, a photo of it and its outcome; without an outcome as it begins, without a photo as the
chunk ends. None if there is no scheduler to hear from."""


@dataclass
class _Underway:
    """A chunk on the way.

    Attributes:
        future: of the task.
        left: numbers of its photos that have no outcome yet.
        has_begun: whether a worker has the first of them in hand.
    """

    future: Future
    left: list[int]
    has_begun: bool = False


class Batch(Generic[Info]):
    """The photos of a batch, of which few are under way at once, so that all workers stay busy.

    Args:
        client: of the cluster.
        recipe: of the run.
        jobs: as from `plan_jobs`.
        count_workers: counts the workers that take photos.
        resources: that each chunk asks for.
        options: see `ClusterOptions`.
    """

    def __init__(
        self,
        client: Client,
        recipe: Recipe[Info],
        jobs: Sequence[Job],
        count_workers: Callable[[], int],
        resources: dict[str, float] | None,
        options: ClusterOptions,
    ) -> None:
        import dask

        self._client, self._recipe, self._jobs, self._options = client, recipe, jobs, options
        self._count_workers, self._resources = count_workers, resources
        self._looked = self._saw_worker = time.monotonic()
        self._underway: dict[str, _Underway] = {}
        self._outcomes: dict[int, Outcome[Info]] = {}
        self._deaths: Counter[int] = Counter()
        self._idle_deaths, self._stopped = 0, False
        with scheduler_asked():
            self._workers = count_workers()
            self._most_deaths = client.run_on_scheduler(dask.config.get, _ALLOWED_FAILURES)
            self._heard = _Listener(client)

    def run(
        self, *, fail_fast: bool, stop: Callable[[], bool]
    ) -> Generator[Outcome[Info], None, None]:
        """Yield an outcome for each job, in order; see `DaskEngine.run`."""
        following = 0
        for number, job in enumerate(self._jobs):
            while number not in self._outcomes:
                if stop():
                    self._stop()
                while following < len(self._jobs) and (self._stopped or self._has_room()):
                    following = self._start(following)
                if number not in self._outcomes:
                    self._hear(fail_fast=fail_fast)
            yield replace(self._outcomes.pop(number), job=job)

    def close(self) -> None:
        """Take back what has not begun."""
        with suppress(*SCHEDULER_ERRORS, DeviceError):
            if self._underway:
                self._stop()
            self._heard.close()
            self._client.cancel([chunk.future for chunk in self._underway.values()])

    def _stop(self) -> None:
        """Let workers begin no more photos."""
        if not self._stopped:
            self._stopped = True
            with scheduler_asked():
                self._client.set_metadata([self._heard.name, STOPPED], True)

    def _start(self, first: int) -> int:
        """Send the next chunk, if it is to be done; returns the number of the job behind it."""
        job = self._jobs[first]
        if job.skip or self._stopped:
            self._outcomes[first] = Outcome(job=job, status="skipped" if job.skip else "not_run")
            return first + 1
        places = max(1, self._workers) * (1 + self._options.ahead)
        most = (len(self._jobs) - first) // (places * self._options.rounds)
        numbers = chunk_from(self._jobs, first, max(1, most), self._options.chunk_bytes)
        self._submit(numbers)
        for number in range(first, numbers[-1]):
            if self._jobs[number].skip:
                self._outcomes[number] = Outcome(job=self._jobs[number], status="skipped")
        return numbers[-1] + 1

    def _submit(self, numbers: list[int]) -> None:
        jobs = [(number, _absolute(self._jobs[number])) for number in numbers]
        key = f"amsnet-{self._recipe.key}-{uuid.uuid4().hex}"
        chunk = Chunk(key=key, batch=self._heard.name, jobs=jobs, alone=numbers[0] in self._deaths)
        future = self._client.submit(
            run_chunk, self._recipe, chunk, key=key, pure=False, resources=self._resources
        )
        self._underway[key] = _Underway(future, numbers)
        future.add_done_callback(lambda _: self._heard.say_ended(key))

    def _has_room(self) -> bool:
        self._look()
        return len(self._underway) < max(1, self._workers) * (1 + self._options.ahead)

    def _hear(self, *, fail_fast: bool) -> None:
        """Take in what comes next from the workers, or nothing after a moment.

        Raises:
            AmsnetError: what would be the same for all photos.
        """
        try:
            message = self._heard.messages.get(timeout=0.5)
        except queue.Empty:
            self._look()
            return
        if message is None:
            raise scheduler_gone()
        key, number, outcome = message
        chunk = self._underway.get(key)
        if chunk is None:  # What a worker says that was thought to be dead.
            return
        if number is None:
            del self._underway[key]
            self._ended(chunk)
        elif outcome is None:
            chunk.has_begun, self._idle_deaths = True, 0
        elif number in chunk.left:
            from distributed.protocol.pickle import loads

            chunk.left.remove(number)
            chunk.has_begun = False
            if not chunk.left:
                del self._underway[key]
            self._outcomes[number] = done = loads(outcome)
            if stops_batch(done, fail_fast=fail_fast):
                self._stop()

    def _ended(self, chunk: _Underway) -> None:
        """See to the photos of a chunk that have no outcome: their worker died, or was to stop.

        Raises:
            AmsnetError: what would be the same for all photos.
        """
        from distributed.scheduler import KilledWorker

        error = chunk.future.exception() if chunk.future.status == "error" else None
        if isinstance(error, AmsnetError):
            raise error
        if chunk.future.status == "cancelled":
            raise scheduler_gone()
        if self._stopped:
            for number in chunk.left:
                self._outcomes[number] = Outcome(job=self._jobs[number], status="not_run")
        elif chunk.left:
            first, *rest = chunk.left
            if isinstance(error, Exception) and not isinstance(error, KilledWorker):
                self._fail(first, BugError(self._jobs[first].source, error))
            elif chunk.has_begun:
                self._charge(first)
            else:
                self._count_idle_death()
                rest = chunk.left
            if rest:
                self._submit(rest)

    def _charge(self, number: int) -> None:
        """Try a photo whose worker died once more, or pass it over."""
        self._deaths[number] += 1
        if self._deaths[number] < self._most_deaths:
            self._submit([number])
            return
        what = f"{self._jobs[number].source}: passed over, as each worker that had it died"
        self._fail(number, DeviceError(what, "denoise it alone, with --max-memory"))

    def _fail(self, number: int, error: AmsnetError) -> None:
        self._outcomes[number] = Outcome(job=self._jobs[number], status="failed", error=error)

    def _count_idle_death(self) -> None:
        self._idle_deaths += 1
        if self._idle_deaths >= self._options.idle_deaths:
            raise DeviceError(
                f"{self._idle_deaths} Dask workers died before they had begun a photo",
                "look into their logs, and resume with --skip-existing",
            )

    def _look(self) -> None:
        """Count the workers, once a second.

        Raises:
            DeviceError: there is none for too long, or no scheduler.
        """
        now = time.monotonic()
        if now - self._looked < 1:
            return
        self._looked = now
        with scheduler_asked():
            self._workers = self._count_workers()
        if self._workers:
            self._saw_worker = now
        elif now - self._saw_worker > self._options.worker_timeout:
            kind = " with the resource GPU" * bool(self._resources)
            raise DeviceError(
                f"all Dask workers{kind} are gone", "start others, and resume with --skip-existing"
            )


class _Listener:
    """Hears what workers say by a queue of the scheduler, which outlives them."""

    def __init__(self, client: Client) -> None:
        from distributed import Queue

        self.name = f"amsnet-{uuid.uuid4().hex}"
        self.messages: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._queue, self._closed = Queue(self.name, client=client), False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with suppress(*SCHEDULER_ERRORS):
            while message := self._queue.get():
                self.messages.put(message)
        self.messages.put(None)

    def say_ended(self, key: str) -> None:
        """Say that a chunk has ended, behind what its worker has said."""
        if not self._closed:
            with suppress(*SCHEDULER_ERRORS):
                self._queue.put((key, None, None))

    def close(self) -> None:
        """Listen no more."""
        self._closed = True
        self._queue.put(())
        self._thread.join(1)
        self._queue.close()


def chunk_from(jobs: Sequence[Job], first: int, most: int, most_bytes: int) -> list[int]:
    """Return the numbers of the photos that go to a worker together.

    Args:
        jobs: of the batch.
        first: number of the first photo, which is to be done.
        most: photos at most.
        most_bytes: of their files, at most, unless it is a single one. A folder is always alone.
    """
    numbers, size = [first], _size(jobs[first])
    for number in range(first + 1, len(jobs)):
        if len(numbers) == most or size >= most_bytes:
            break
        if not jobs[number].skip:
            size += _size(jobs[number])
            if size <= most_bytes:
                numbers.append(number)
    return numbers


def _size(job: Job) -> float:
    """Return the bytes of a photo; those of a folder are without end."""
    try:
        status = job.source.stat()
    except OSError:  # The worker will say what is wrong.
        return 0
    return math.inf if stat.S_ISDIR(status.st_mode) else status.st_size


def _absolute(job: Job) -> Job:
    return replace(job, source=job.source.absolute(), target=job.target.absolute())

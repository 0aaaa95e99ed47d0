"""The engine that runs photos on the workers of a Dask cluster. Paths travel, not pixels."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic

from amsnet_cli.atomic import clear_leftovers
from amsnet_cli.batch.dask_worker import Recipe, prepare, run_photo
from amsnet_cli.batch.job import Info, Job, Outcome
from amsnet_cli.batch.run import Steps, stops_batch
from amsnet_cli.errors import AmsnetError, BugError, DeviceError, UsageError

if TYPE_CHECKING:
    from distributed import Client, Future

_TIMEOUTS = (TimeoutError, asyncio.TimeoutError)  # one since Python 3.11
LOCAL = "local"
"""Address of a cluster of processes on this machine."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """How a cluster is used."""

    connect_timeout: float = 20.0
    """Seconds to wait for the scheduler."""
    worker_timeout: float = 60.0
    """Seconds to wait for a worker where there is none, at the beginning or later."""
    ahead: int = 1
    """Photos a worker reads ahead or still writes while it denoises another."""
    deaths: int = 3
    """Workers that a photo may kill before it is passed over, in a cluster of one's own; in
    others the scheduler's `allowed-failures` decides."""


class DaskEngine(Generic[Info]):
    """A Dask cluster. Use it as a context manager.

    Args:
        address: of the scheduler, or `local` or `local:N` for N processes on this machine.
        make: makes the steps on a worker; it and what it makes can be pickled.
        describe: returns what must be the same on all machines, by name.
        use_gpu: whether photos may ask for the resource `GPU`, where workers have it.
        progress: shows the fraction of photos done.
        options: see `ClusterOptions`.
    """

    def __init__(
        self,
        address: str,
        make: Callable[[], Steps[Info]],
        describe: Callable[[], Mapping[str, str]],
        *,
        use_gpu: bool,
        progress: Callable[[], AbstractContextManager[Callable[[float], None]]],
        options: ClusterOptions = ClusterOptions(),
    ) -> None:
        self._address, self._options, self._progress = address, options, progress
        self._use_gpu, self._open = use_gpu, ExitStack()
        self._recipe = Recipe(
            make=make, describe=describe, expected=describe(), ahead=options.ahead
        )  # fmt: skip

    def __enter__(self) -> DaskEngine[Info]:
        """Connect, and compare the workers with this machine.

        Raises:
            UsageError: the address is none, or Dask is not installed.
            DeviceError: nobody answers there, or there is no worker.
            WeightsError: a worker has other versions or weights.
        """
        with self._open:
            self._client = _connect(self._address, self._options, self._open)
            try:
                self._client.wait_for_workers(1, timeout=self._options.worker_timeout)
            except _TIMEOUTS as error:
                raise DeviceError(
                    f"--dask {self._address}: no worker", "start one with: dask worker ADDRESS"
                ) from error
            self._check_workers()
            self._open = self._open.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _check_workers(self) -> None:
        """Let every worker prepare. One that is busy with other work does so before its photos."""
        from distributed import wait

        asked = {
            worker: self._client.submit(prepare, self._recipe, workers=[worker], pure=False)
            for worker in self._client.nthreads()
        }
        with suppress(*_TIMEOUTS):
            wait(list(asked.values()), timeout=self._options.worker_timeout)
        for worker, future in asked.items():
            error = future.exception() if future.status == "error" else None
            if isinstance(error, AmsnetError):
                raise type(error)(f"worker {worker}: {error.what}", error.hint)
            if isinstance(error, Exception):
                said = " ".join(str(error).split())[:200]
                raise DeviceError(
                    f"worker {worker}: amsnet does not run there ({said})",
                    "install the same version there",
                )

    def run(
        self,
        jobs: Sequence[Job],
        *,
        fail_fast: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[Outcome[Info], None, None]:
        """Run photos on all workers, some on each at once, and yield outcomes in order.

        A photo whose worker dies is done by another. Its result may be there already then, and is
        written anew: so workers replace results, which `plan_jobs` has looked for before.

        Raises:
            UsageError: what would be the same for all photos.
            WeightsError: a worker that came later has other versions or weights.
            DeviceError: the scheduler is gone, or all workers for too long.
        """
        for folder in sorted({job.target.parent for job in jobs}):
            clear_leftovers(folder)
        with self._progress() as show:
            batch = _Batch(self._client, self._recipe, self._resources(), self._options)
            try:
                for count, outcome in enumerate(batch.run(jobs, fail_fast, stop), 1):
                    show(count / len(jobs))
                    yield outcome
            finally:
                batch.cancel()

    def _resources(self) -> dict[str, float] | None:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        has_gpu = any(worker.get("resources", {}).get("GPU") for worker in workers)
        return {"GPU": 1} if self._use_gpu and has_gpu else None


class _Batch(Generic[Info]):
    """Jobs on the way to the workers and back. Few are under way at once, so that all is even."""

    def __init__(
        self,
        client: Client,
        recipe: Recipe[Info],
        resources: dict[str, float] | None,
        options: ClusterOptions,
    ) -> None:
        self._client, self._recipe, self._options = client, recipe, options
        self._resources = resources
        self._running: dict[Future, int] = {}
        self._finished: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self._looked = self._saw_worker = time.monotonic()
        self._workers = 1

    def run(
        self, jobs: Sequence[Job], fail_fast: bool, stop: Callable[[], bool]
    ) -> Generator[Outcome[Info], None, None]:
        outcomes: dict[int, Outcome[Info]] = {}
        following = stopped = 0
        for number, job in enumerate(jobs):
            while number not in outcomes:
                stopped = stopped or stop()
                while following < len(jobs) and (stopped or self._has_room()):
                    self._start(following, jobs[following], outcomes, stopped=bool(stopped))
                    following += 1
                if number not in outcomes and (future := self._next()):
                    done = self._running[future]
                    outcomes[done] = self._outcome(future, jobs[done])
                    del self._running[future]
                    stopped = stopped or stops_batch(outcomes[done], fail_fast=fail_fast)
            yield replace(outcomes.pop(number), job=job)

    def cancel(self) -> None:
        """Take back what has not begun."""
        if self._running:
            self._client.cancel(list(self._running))

    def _start(
        self, number: int, job: Job, outcomes: dict[int, Outcome[Info]], *, stopped: bool
    ) -> None:
        if job.skip or stopped:
            outcomes[number] = Outcome(job=job, status="skipped" if job.skip else "not_run")
            return
        absolute = replace(job, source=job.source.absolute(), target=job.target.absolute())
        future = self._client.submit(
            run_photo, self._recipe, absolute, key=f"amsnet-{self._recipe.key}-{uuid.uuid4().hex}",
            pure=False, resources=self._resources,
        )  # fmt: skip
        self._running[future] = number
        future.add_done_callback(self._finished.put)

    def _has_room(self) -> bool:
        self._look()
        return len(self._running) < max(1, self._workers) * (1 + self._options.ahead)

    def _next(self) -> Future | None:
        """Return a future that is done, or None after a moment."""
        try:
            future = self._finished.get(timeout=0.5)
        except queue.Empty:
            self._look()
            return None
        if future.status in ("pending", "lost"):  # Its worker died with the result in hand.
            future.add_done_callback(self._finished.put)
            return None
        return future

    def _outcome(self, future: Future, job: Job) -> Outcome[Info]:
        """Return what became of a photo.

        Raises:
            AmsnetError: what would be the same for all.
        """
        from distributed.scheduler import KilledWorker

        try:
            outcome: Outcome[Info] = future.result()
            return outcome
        except AmsnetError:
            raise
        except CancelledError as error:
            raise DeviceError(
                "the Dask scheduler is gone", "resume with --skip-existing"
            ) from error
        except KilledWorker:
            dead = DeviceError(
                f"{job.source}: passed over, as each worker that had it died",
                "denoise it alone, with --max-memory",
            )
            return Outcome(job=job, status="failed", error=dead)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong on a worker
            return Outcome(job=job, status="failed", error=BugError(job.source, error))

    def _look(self) -> None:
        """Count the workers, once a second.

        Raises:
            DeviceError: there is none for too long, or no scheduler.
        """
        now = time.monotonic()
        if now - self._looked < 1:
            return
        self._looked = now
        try:
            self._workers = len(self._client.nthreads())
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise DeviceError(
                "the Dask scheduler is gone", "resume with --skip-existing"
            ) from error
        if self._workers:
            self._saw_worker = now
        elif now - self._saw_worker > self._options.worker_timeout:
            raise DeviceError(
                "all Dask workers are gone", "start others, and resume with --skip-existing"
            )


def _connect(address: str, options: ClusterOptions, stack: ExitStack) -> Client:
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise UsageError(
            f"--dask {address}: Dask is not installed", "run: pip install 'amsnet[cluster]'"
        ) from error
    _silence_logs()
    cluster: Any = address
    if address.partition(":")[0] == LOCAL:
        count = _processes(address)
        dask.config.set({"distributed.scheduler.allowed-failures": options.deaths - 1})
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=count, threads_per_worker=max(1, (os.cpu_count() or 1) // count),
                processes=True, dashboard_address=None, memory_limit=None,
                silence_logs=logging.CRITICAL, preload=["amsnet_cli.batch.dask_worker"],
            )
        )  # fmt: skip
    try:
        client = Client(cluster, timeout=options.connect_timeout)
    except (OSError, *_TIMEOUTS) as error:
        raise DeviceError(
            f"--dask {address}: no scheduler answers", "start one with: dask scheduler"
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"--dask {address}: not an address", "use tcp://HOST:8786, or local:2"
        ) from error
    return stack.enter_context(client)


def _silence_logs() -> None:
    """Silence what Dask logs on stderr, with tracebacks: some of its loggers have own levels."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _processes(address: str) -> int:
    """Return the number of processes of `local[:N]`; one for four cores if it is not given."""
    _, colon, text = address.partition(":")
    if not colon:
        return max(1, (os.cpu_count() or 1) // 4)
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 1024):
        raise UsageError(f"--dask {address}: not a number of processes", "use local:2")
    return int(text)

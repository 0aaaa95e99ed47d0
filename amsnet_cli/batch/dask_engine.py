"""The engine that runs photos on the workers of a Dask cluster. Paths travel, not pixels."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from typing import Generic

from amsnet_cli.atomic import clear_leftovers
from amsnet_cli.batch.dask_batch import Batch
from amsnet_cli.batch.dask_cluster import TIMEOUTS, ClusterOptions, connect, scheduler_asked
from amsnet_cli.batch.dask_worker import Recipe, prepare
from amsnet_cli.batch.job import Info, Job, Outcome
from amsnet_cli.batch.run import Steps
from amsnet_cli.errors import AmsnetError, DeviceError


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
            DeviceError: nobody answers there, there is no worker, or one has other versions or
                weights.
            WeightsError: a worker has no such weights.
        """
        with self._open:
            self._client = connect(self._address, self._options, self._open)
            try:
                self._client.wait_for_workers(1, timeout=self._options.worker_timeout)
            except TIMEOUTS as error:
                raise DeviceError(
                    f"--dask {self._address}: no worker", "start one with: dask worker ADDRESS"
                ) from error
            self._check_workers()
            self._open = self._open.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _check_workers(self) -> None:
        """Let the workers that get photos prepare; one that is busy does so before its photos."""
        from distributed import wait

        asked = {
            worker: self._client.submit(prepare, self._recipe, workers=[worker], pure=False)
            for worker in (self._use_gpu and self._with_gpu()) or self._all()
        }
        with suppress(*TIMEOUTS):
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
            DeviceError: the scheduler is gone, or all workers for too long, or one that came later
                has other versions or weights.
        """
        for folder in sorted({job.target.parent for job in jobs}):
            clear_leftovers(folder)
        with scheduler_asked():
            needed = {"GPU": 1.0} if self._use_gpu and self._with_gpu() else None
        count = (lambda: len(self._with_gpu())) if needed else (lambda: len(self._all()))
        with self._progress() as show:
            batch = Batch(self._client, self._recipe, jobs, count, needed, self._options)
            with closing(batch):
                for done, outcome in enumerate(batch.run(fail_fast=fail_fast, stop=stop), 1):
                    show(done / len(jobs))
                    yield outcome

    def _all(self) -> list[str]:
        return list(self._client.nthreads())

    def _with_gpu(self) -> list[str]:
        """Return the workers that were started with the resource `GPU`."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        return [name for name, about in workers.items() if about.get("resources", {}).get("GPU")]

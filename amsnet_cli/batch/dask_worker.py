"""What runs on the workers of a Dask cluster."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic

from amsnet_cli.batch.job import Info, Job
from amsnet_cli.batch.run import Steps, run_one
from amsnet_cli.errors import DeviceError


@dataclass(frozen=True, kw_only=True)
class Recipe(Generic[Info]):
    """What a worker needs, sent with each chunk of photos.

    Attributes:
        make: makes the steps; once on each worker.
        describe: returns what must be the same on all machines, by name.
        expected: what it returns here.
        ahead: see `ClusterOptions`.
        key: of this run.
    """

    make: Callable[[], Steps[Info]]
    describe: Callable[[], Mapping[str, str]]
    expected: Mapping[str, str]
    ahead: int
    key: str = field(default_factory=lambda: uuid.uuid4().hex)


STOPPED = "stopped"
"""In the scheduler's metadata of a batch: no more photos are to be begun."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Photos that are one task.

    Attributes:
        key: of the task.
        batch: names the queue in which the client hears of them.
        jobs: with their numbers in the batch.
        alone: whether the worker has no other photo in hand meanwhile, so that it is known which
            one killed it.
    """

    key: str
    batch: str
    jobs: Sequence[tuple[int, Job]]
    alone: bool = False


class _Workplace(Generic[Info]):
    """What a worker keeps for a run: the steps with their models, and whose turn it is."""

    def __init__(self, recipe: Recipe[Info]) -> None:
        found = recipe.describe()
        for name, expected in recipe.expected.items():
            if found.get(name) != expected:
                raise DeviceError(
                    f"{name} is {found.get(name, 'missing')} there and {expected} here",
                    "make them the same",
                )
        self.steps = recipe.make()
        self.turn = threading.Lock()
        self._count = 1 + recipe.ahead
        self._places = threading.Semaphore(self._count)
        self._taking_all = threading.Lock()

    @contextmanager
    def place(self, *, alone: bool) -> Iterator[None]:
        """Wait for a place among the photos in hand, or until no other photo is."""
        taken = 0
        try:
            with self._taking_all if alone else nullcontext():
                while taken < (self._count if alone else 1):
                    self._places.acquire()
                    taken += 1
            yield
        finally:
            for _ in range(taken):
                self._places.release()


_workplace: tuple[str, _Workplace[Any]] | None = None
_making = threading.Lock()


def prepare(recipe: Recipe[Any]) -> None:
    """Make the steps of a run, unless they are there; those of the run before are dropped.

    Raises:
        DeviceError: something is not the same here as where the run was started.
        AmsnetError: the steps cannot be made.
    """
    _find_workplace(recipe)


def _find_workplace(recipe: Recipe[Info]) -> _Workplace[Info]:
    global _workplace  # noqa: PLW0603 - what a process of the cluster keeps between two photos
    with _making:
        if _workplace is None or _workplace[0] != recipe.key:
            _compute_with_all_threads()
            _workplace = recipe.key, _Workplace(recipe)
        return _workplace[1]


def _compute_with_all_threads() -> None:
    """Compute a photo with all threads of the worker, as only one photo is computed at a time."""
    import torch
    from distributed import get_worker

    torch.set_num_threads(max(1, get_worker().state.nthreads))


def run_chunk(recipe: Recipe[Any], chunk: Chunk) -> None:
    """Run photos one after another, and tell the client of each as it begins and ends.

    A chunk that another worker had begun is left to the client, which knows what that worker had in
    hand. So is the rest once the client has set `STOPPED`.

    Raises:
        AmsnetError: what would be the same for all photos.
    """
    from distributed.protocol.pickle import dumps

    place, scheduler = _find_workplace(recipe), _Scheduler()
    if scheduler.ask("get_metadata", keys=[chunk.key], default=None):
        return
    scheduler.ask("set_metadata", keys=[chunk.key], value=True)

    def say(number: int, outcome: bytes | None = None) -> None:
        scheduler.ask("queue_put", name=chunk.batch, data=[chunk.key, number, outcome])

    for number, job in chunk.jobs:
        with place.place(alone=chunk.alone):
            if scheduler.ask("get_metadata", keys=[chunk.batch, STOPPED], default=False):
                return
            say(number)
            say(number, dumps(run_one(job, place.steps, place.turn)))


class _Scheduler:
    """The scheduler, asked from the thread of a task."""

    def __init__(self) -> None:
        from distributed import get_worker

        self._worker = get_worker()

    def ask(self, name: str, /, **arguments: object) -> Any:
        """Return its answer."""
        from distributed.utils import sync

        return sync(self._worker.loop, getattr(self._worker.scheduler, name), **arguments)


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C to the process that started the cluster; Dask calls this in each worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

"""What runs on the workers of a Dask cluster."""

from __future__ import annotations

import signal
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

from amsnet_cli.batch.job import Info, Job, Outcome
from amsnet_cli.batch.run import Steps, run_one
from amsnet_cli.errors import DeviceError


@dataclass(frozen=True, kw_only=True)
class Recipe(Generic[Info]):
    """What a worker needs, sent with each photo.

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
        self.places = threading.BoundedSemaphore(1 + recipe.ahead)
        self.turn = threading.Lock()


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


def run_photo(recipe: Recipe[Info], job: Job) -> Outcome[Info]:
    """Run a photo; few at once, and only one of them computes.

    Raises:
        AmsnetError: what would be the same for all photos.
    """
    place = _find_workplace(recipe)
    with place.places:
        return run_one(job, place.steps, place.turn)


def dask_setup(worker: object) -> None:
    """Leave Ctrl-C to the process that started the cluster; Dask calls this in each worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

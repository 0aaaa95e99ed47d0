"""Engines: where the jobs of a batch run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol

from amsnet_cli.batch.job import Info, Job, Outcome
from amsnet_cli.batch.run import Steps, run_jobs


class Engine(Protocol[Info]):
    """Runs the jobs of a batch. It may be used for several batches, one after another."""

    def __enter__(self) -> Engine[Info]:
        """Get ready."""

    def __exit__(self, *error: object) -> None:
        """Release what was needed."""

    def run(
        self, jobs: Sequence[Job], *, fail_fast: bool = False, stop: Callable[[], bool] = ...
    ) -> Generator[Outcome[Info], None, None]:
        """Yield an outcome for each job, in order.

        Args:
            jobs: as from `plan_jobs`.
            fail_fast: stop after the first failure.
            stop: whether to start no more.

        Raises:
            UsageError: what would be the same for all photos.
        """


@dataclass(frozen=True)
class LocalEngine(Generic[Info]):
    """This process.

    Attributes:
        steps: of each photo.
        threads: see `run_jobs`.
    """

    steps: Steps[Info]
    threads: int

    def __enter__(self) -> LocalEngine[Info]:
        """Do nothing: all is there."""
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(
        self,
        jobs: Sequence[Job],
        *,
        fail_fast: bool = False,
        stop: Callable[[], bool] = lambda: False,
    ) -> Generator[Outcome[Info], None, None]:
        """Run photos one after another; others are read and written meanwhile."""
        steps = self.steps
        yield from run_jobs(
            jobs, read=steps.read, work=steps.denoise, write=steps.write,
            threads=self.threads, fail_fast=fail_fast, stop=stop,
        )  # fmt: skip

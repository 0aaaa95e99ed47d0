"""A connection to a Dask cluster, or a cluster of processes on this machine."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amsnet_cli.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from distributed import Client

TIMEOUTS = (TimeoutError, asyncio.TimeoutError)  # one since Python 3.11
SCHEDULER_ERRORS = (OSError, RuntimeError, ValueError, TypeError, KeyError)
"""What Dask raises where the scheduler is gone."""
LOCAL = "local"
"""Address of a cluster of processes on this machine."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """How a cluster is used."""

    connect_timeout: float = 20.0
    """Seconds to wait for the scheduler."""
    worker_timeout: float = 120.0
    """Seconds to wait for a worker where there is none, at the beginning or later."""
    ahead: int = 1
    """Photos a worker reads ahead or still writes while it denoises another."""
    idle_deaths: int = 10
    """Workers that may die one after another before one has begun a photo."""
    chunk_bytes: int = 4_000_000
    """Small photos go to a worker together, until they have as many bytes; larger ones alone."""
    rounds: int = 2
    """Chunks are also that small that each place of a worker gets as many of them, or more, so
    that all are busy to the end."""


def connect(address: str, options: ClusterOptions, stack: ExitStack) -> Client:
    """Connect to a scheduler, or start a cluster here; `stack` closes what is opened.

    Raises:
        UsageError: the address is none, or Dask is not installed.
        DeviceError: nobody answers there.
    """
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
        # By default, a process that takes longer to start again is given up for good.
        dask.config.set({"distributed.deploy.lost-worker-timeout": options.worker_timeout})
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=count, threads_per_worker=max(1, (os.cpu_count() or 1) // count),
                processes=True, memory_limit=None,
                dashboard_address=None,  # And no warning if the default port is taken.
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                silence_logs=logging.CRITICAL, preload=["amsnet_cli.batch.dask_worker"],
            )
        )  # fmt: skip
    try:
        client = Client(cluster, timeout=options.connect_timeout)
    except (OSError, *TIMEOUTS) as error:
        raise DeviceError(
            f"--dask {address}: no scheduler answers", "start one with: dask scheduler"
        ) from error
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"--dask {address}: not an address", "use tcp://HOST:8786, or local:2"
        ) from error
    return stack.enter_context(client)


@contextmanager
def scheduler_asked() -> Iterator[None]:
    """Turn what Dask raises within, where the scheduler is gone, into an error of one line.

    Raises:
        DeviceError: it is gone.
    """
    try:
        yield
    except SCHEDULER_ERRORS as error:
        raise scheduler_gone() from error


def scheduler_gone() -> DeviceError:
    """Return the error that says so."""
    return DeviceError("the Dask scheduler is gone", "resume with --skip-existing")


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

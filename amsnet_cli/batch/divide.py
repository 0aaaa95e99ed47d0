"""Divide Zarr folders among the workers of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from amsnet_cli.batch.job import Job
from amsnet_cli.errors import AmsnetError
from amsnet_cli.photos.suffix import is_zarr
from amsnet_cli.stacks.block import blocks_of
from amsnet_cli.stacks.find import open_stack

PARTS = 16
"""Shares of a Zarr folder at most. Each measures the noise anew, so they are few."""


def divide_stacks(jobs: Sequence[Job], parts: int = PARTS) -> list[Job]:
    """Return jobs of which those on Zarr folders are divided into shares of their blocks."""
    return [one for job in jobs for one in _divided(job, parts)]


def _divided(job: Job, parts: int) -> list[Job]:
    if job.skip or not is_zarr(job.source):
        return [job]
    try:
        stack = open_stack(job.source)
    except AmsnetError:  # The worker will say what is wrong.
        return [job]
    pages = enumerate(stack.pages) if stack else ()
    count = min(parts, sum(len(blocks_of(index, kind)) for index, kind in pages)) or 1
    return [replace(job, part=part) for part in job.part.split(count)]

"""A photo of a batch, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from amsnet_cli.batch.shard import WHOLE, Shard
from amsnet_cli.errors import AmsnetError

Info = TypeVar("Info")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One photo and its result.

    Attributes:
        source: the photo.
        target: the file of the result.
        skip: the result exists already and is kept.
        part: the share of the pages that is denoised, of a stack that several processes share.
    """

    source: Path
    target: Path
    skip: bool = False
    part: Shard = WHOLE


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Info]):
    """What became of a photo.

    Attributes:
        job: the photo and its result.
        status: "not_run" if the batch was stopped before it.
        error: why it failed.
        size: width and height of the written photo, in pixels.
        depth: bits per channel of the photo.
        seconds: reading, denoising and writing together.
        info: what `work` returned beside the photo; None if it did not come so far.
    """

    job: Job
    status: Literal["done", "skipped", "failed", "not_run"]
    error: AmsnetError | None = None
    size: tuple[int, int] | None = None
    depth: int | None = None
    seconds: float = 0.0
    info: Info | None = None

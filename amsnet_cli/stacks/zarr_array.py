"""Arrays of a Zarr folder: opened, read and divided."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.stacks.stack import Page

Region = tuple[slice, ...]


def unit_of(array: Any) -> tuple[int, ...]:
    """Return the shape of what is written at once: a shard, or a chunk where there are none."""
    return tuple(array.shards or array.chunks)


def regions_of(
    shape: Sequence[int], unit: Sequence[int], start: Sequence[int] | None = None
) -> Iterator[Region]:
    """Yield the parts of an array, or of a part of it that has this start, unit by unit."""
    origin = start or (0,) * len(shape)
    starts = (range(0, n, k) for n, k in zip(shape, unit, strict=True))
    for corner in product(*starts):
        yield tuple(
            slice(o + c, o + min(c + k, n))
            for o, c, k, n in zip(origin, corner, unit, shape, strict=True)
        )


def open_array(folder: Path, level: str, mode: Any = "r") -> Any:
    """Open an array of a folder.

    Raises:
        PhotoError: it is damaged, or coded in a way that is unknown here.
    """
    import zarr

    try:
        with warnings.catch_warnings():  # On what a later version may do otherwise.
            warnings.simplefilter("ignore")
            array = zarr.open_array(str(folder / level), mode=mode)
        unit_of(array)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PhotoError(
            f"{folder / level}: cannot be decoded ({type(error).__name__}: {reason})",
            "save it with other codecs",
        ) from error
    return array


def read_region(folder: Path, level: str, array: Any, region: Any) -> Page:
    """Read a part of an array.

    Raises:
        PhotoError: a chunk is damaged.
    """
    try:
        return np.asarray(array[region])
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PhotoError(
            f"{folder / level}: a chunk is damaged ({type(error).__name__}: {reason})",
            "copy it again from its source",
        ) from error

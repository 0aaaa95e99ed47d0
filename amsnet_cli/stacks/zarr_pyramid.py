"""The smaller copies of a picture of OME-Zarr, made anew from the full size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError
from amsnet_cli.stacks.stack import Page
from amsnet_cli.stacks.zarr_array import Region, read_region, regions_of, unit_of
from amsnet_cli.stacks.zarr_layout import ZarrPicture

Reduce = Callable[[Page, Sequence["NDArray[np.int64]"]], NDArray[Any]]
"""Gets values, and for each axis where the blocks begin."""


def check_levels(folder: Path, picture: ZarrPicture, levels: Sequence[Any]) -> None:
    """Refuse copies that are none.

    Raises:
        PhotoError: one is larger than the one before it, or has other axes.
    """
    for number in range(1, len(levels)):
        fine, coarse = levels[number - 1].shape, levels[number].shape
        if len(fine) != len(coarse) or any(m > n for n, m in zip(fine, coarse, strict=True)):
            raise PhotoError(
                f"{folder / picture.levels[number]}: larger than {picture.levels[number - 1]}",
                "order its multiscales from the full size down",
            )


def factors_of(
    picture: ZarrPicture, number: int, fine: Sequence[int], coarse: Sequence[int]
) -> tuple[float, ...]:
    """Return by what a level is smaller than the one before it, along each axis.

    The scales of the file say it, or else the shapes.

    Args:
        picture: what the file says.
        number: of the level, from 1.
        fine: shape of the level before it.
        coarse: of the level.
    """
    before, scales = picture.scales[number - 1], picture.scales[number]
    factors = []
    for axis, (n, m) in enumerate(zip(fine, coarse, strict=True)):
        factor = n / m
        if before and scales and len(before) == len(scales) == len(fine) and before[axis] > 0:
            said = scales[axis] / before[axis]
            factor = said if said >= 1 and abs(said * m - n) <= said else factor
        factors.append(factor)
    return tuple(factors)


def write_levels(
    folder: Path, target: Path, picture: ZarrPicture, old: Sequence[Any], new: Sequence[Any]
) -> None:
    """Write the smaller copies, chunk by chunk, each from the one before it.

    They are the means of blocks, or each block's first pixel, as they were in the file itself.

    Args:
        folder: of the old picture.
        target: of the new one.
        picture: what its file says.
        old: its arrays.
        new: those of the result; the full size is written.

    Raises:
        PhotoError: a chunk cannot be read.
    """
    for number in range(1, len(new)):
        factors = factors_of(picture, number, old[number - 1].shape, old[number].shape)
        reduce = _way(folder, picture, number, old, factors)
        fine, coarse = new[number - 1], new[number]
        read = partial(read_region, target, picture.levels[number - 1], fine)
        for region in regions_of(coarse.shape, unit_of(coarse)):
            size = [part.stop - part.start for part in region]
            values = np.empty(size, coarse.dtype)
            for inner in regions_of(size, coarse.chunks):
                there = tuple(
                    slice(a.start + b.start, a.start + b.stop)
                    for a, b in zip(region, inner, strict=True)
                )
                values[inner] = _reduced(read, fine.shape, coarse.dtype, there, factors, reduce)
            coarse[region] = values


def _reduced(
    read: Callable[[Region], Page],
    shape: Sequence[int],
    dtype: np.dtype[Any],
    region: Region,
    factors: Sequence[float],
    reduce: Reduce,
) -> NDArray[Any]:
    """Return a part of the smaller copy of an array of some shape."""
    parts, starts = [], []
    for part, factor, length in zip(region, factors, shape, strict=True):
        edges = np.floor(np.arange(part.start, part.stop + 1) * factor + 1e-9).astype(np.int64)
        edges = np.minimum(edges, length)
        first = np.minimum(edges[:-1], length - 1)
        parts.append(slice(int(first[0]), max(int(edges[-1]), int(first[-1]) + 1)))
        starts.append(first - first[0])
    values = reduce(read(tuple(parts)), starts)
    return np.rint(values) if dtype.kind in "iu" else values


def means(values: Page, starts: Sequence[NDArray[np.int64]]) -> NDArray[Any]:
    """Return the means of blocks."""
    result: NDArray[Any] = values.astype(np.float64)
    for axis, first in enumerate(starts):
        counts = np.diff([*first, values.shape[axis]])
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        result = np.add.reduceat(result, first, axis) / counts.reshape(shape)
    return result


def firsts(values: Page, starts: Sequence[NDArray[np.int64]]) -> NDArray[Any]:
    """Return the first pixel of each block."""
    return values[np.ix_(*starts)]


def _way(
    folder: Path, picture: ZarrPicture, number: int, old: Sequence[Any], factors: Sequence[float]
) -> Reduce:
    """Find out how the file's own copy was made: which of both is nearer to its middle chunk."""
    fine, coarse = old[number - 1], old[number]
    middle = tuple(
        slice(n // 2 // k * k, min(n // 2 // k * k + k, n))
        for n, k in zip(coarse.shape, coarse.chunks, strict=True)
    )
    try:
        own = read_region(folder, picture.levels[number], coarse, middle).astype(np.float64)
        read = partial(read_region, folder, picture.levels[number - 1], fine)
        away = [
            np.abs(_reduced(read, fine.shape, coarse.dtype, middle, factors, way) - own)
            for way in (means, firsts)
        ]
    except PhotoError:  # It is made anew anyway.
        return means
    known = np.isfinite(away[0]) & np.isfinite(away[1])
    return firsts if away[1][known].sum() < away[0][known].sum() else means

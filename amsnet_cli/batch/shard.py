"""Shards: the part of a batch that one of several machines takes, without a word between them.

Photos are divided by their names. A Zarr folder belongs to all parts, which divide its
blocks: its pages, or parts of large ones.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from amsnet_cli.errors import UsageError

_AUTO_HINT = "give it as --shard 3/16"


@dataclass(frozen=True)
class Shard:
    """One of `count` disjoint parts that together hold every photo.

    A photo's shard follows from its path below the input folder alone, by a hash. So shards agree
    although each lists the folders by itself, at another time, and a photo that is added moves no
    other. That is worth more than equal sizes: bytes are balanced by chance, as `benchmarks.plan`
    prints.

    Attributes:
        index: of this part, from 0.
        count: of all parts.

    Raises:
        UsageError: there is no such part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"--shard {self}: not one of {self.count} shards",
                f"use 1/{self.count} to {self.count}/{self.count}" if self.count else _AUTO_HINT,
            )

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def share(self, count: int) -> range:
        """Return this part of `count` things, one after another and as many as of the others."""
        return range(self.index * count // self.count, (self.index + 1) * count // self.count)

    def split(self, count: int) -> list[Shard]:
        """Return this part in `count` parts of its own."""
        return [Shard(self.index * count + i, self.count * count) for i in range(count)]

    def holds(self, key: str) -> bool:
        """Return whether a photo belongs to this part.

        Args:
            key: path of the photo below the input folder, with forward slashes.
        """
        if self.count == 1:
            return True
        digest = hashlib.blake2b(os.fsencode(key), digest_size=8).digest()
        return int.from_bytes(digest, "big") * self.count >> 64 == self.index


WHOLE = Shard(0, 1)
"""The only part of what is not divided."""


def parse_shard(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """Parse --shard: K/N, or auto for what the scheduler of the cluster says.

    auto understands Slurm's job arrays, the arrays of Grid Engine, and the `RANK` and `WORLD_SIZE`
    of torchrun and of many others.

    Args:
        text: as given.
        environment: variables, for auto.

    Raises:
        UsageError: it is not a shard, or the environment does not name one, or several.
    """
    if text != "auto":
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text, re.ASCII)
        if not match:
            raise UsageError(f"--shard {text}: not a shard", "use K/N as in 3/16, or auto")
        return Shard(int(match[1]) - 1, int(match[2]))
    found = {
        name: shard
        for name, read in (
            ("SLURM_ARRAY_TASK_ID", _of_slurm), ("SGE_TASK_ID", _of_grid_engine),
            ("RANK", _of_rank),
        )
        if environment.get(name, "undefined") != "undefined"
        and (shard := read(environment))
    }  # fmt: skip
    if not found:
        raise UsageError(
            "--shard auto: neither SLURM_ARRAY_TASK_ID, SGE_TASK_ID nor RANK is set", _AUTO_HINT
        )
    if len(set(found.values())) > 1:
        said = " and ".join(f"{name} says {shard}" for name, shard in found.items())
        raise UsageError(f"--shard auto: {said}", _AUTO_HINT)
    return next(iter(found.values()))


def _of_slurm(environment: Mapping[str, str]) -> Shard:
    names = [f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "STEP", "COUNT")]
    task, first, last, step, count = _numbers(environment, names, {names[3]: "1"})
    return _of_array(names[0], task, first, last, step, count)


def _of_grid_engine(environment: Mapping[str, str]) -> Shard:
    names = ["SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE"]
    task, first, last, step = _numbers(environment, names, {names[3]: "1"})
    return _of_array(names[0], task, first, last, step, (last - first) // max(1, step) + 1)


def _of_rank(environment: Mapping[str, str]) -> Shard:
    rank, size = _numbers(environment, ["RANK", "WORLD_SIZE"], {})
    if not 0 <= rank < size:
        raise UsageError(f"--shard auto: RANK is {rank} and WORLD_SIZE {size}", _AUTO_HINT)
    return Shard(rank, size)


def _of_array(name: str, task: int, first: int, last: int, step: int, count: int) -> Shard:
    """Return the shard of a task; an array with gaps names none, as 1,5,9-12 does."""
    index, rest = divmod(task - first, max(1, step))
    if rest or (last - first) // max(1, step) + 1 != count or not 0 <= index < count:
        raise UsageError(
            f"--shard auto: {name} is {task}, of {count} tasks from {first} to {last} in an array "
            "with gaps",
            _AUTO_HINT,
        )
    return Shard(index, count)


def _numbers(
    environment: Mapping[str, str], names: list[str], defaults: Mapping[str, str]
) -> list[int]:
    numbers = []
    for name in names:
        text = environment.get(name, defaults.get(name, ""))
        if not (text.isascii() and text.isdecimal()):
            said = f"is {text!r}, no number" if text else f"is not set, though {names[0]} is"
            raise UsageError(f"--shard auto: {name} {said}", _AUTO_HINT)
        numbers.append(int(text))
    return numbers

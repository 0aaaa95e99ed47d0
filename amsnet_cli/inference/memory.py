"""Memory of a device: how much is free, how much a computation takes, out-of-memory errors."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from amsnet_cli.errors import DeviceError

_libc = ctypes.CDLL(None) if os.name == "posix" else None
_malloc_trim = getattr(_libc, "malloc_trim", None)
_mallopt = getattr(_libc, "mallopt", None)
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_madvise = getattr(_libc, "madvise", None) if sys.platform == "linux" else None
_MADV_DONTNEED = 4

RELEASES_VALUES = _madvise is not None
"""Whether `release_values` does anything."""


@contextmanager
def memory_errors(device: torch.device) -> Iterator[None]:
    """Translate "out of memory" into a `DeviceError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceError(
            f"out of memory on {device}", "try a smaller --tile, or --device cpu"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch or numpy means "out of memory"."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def reuse_memory() -> None:
    """Let the C library keep the memory of large tensors for the next ones.

    By default glibc returns it to the system at once, and the system clears every page again. With
    large, short-lived tensors that takes a good part of a network's time (mallopt(3)). The setting
    stays for the whole process. `release_memory` returns what is free.
    """
    if _mallopt:
        _mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        _mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def release_memory(device: torch.device) -> None:
    """Return memory that torch or glibc keeps for reuse to the device (malloc_trim(3))."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
    elif _malloc_trim:
        _malloc_trim(0)


def release_values(values: Tensor) -> None:
    """Return the memory of values that are done with to the system (madvise(2)).

    Args:
        values: contiguous; a part of a tensor that is freed later. Whole pages of it become 0.
            Nothing happens on a GPU, nor on other systems than Linux.
    """
    if _madvise is None or values.device.type != "cpu":
        return
    page, start = mmap.PAGESIZE, values.data_ptr()
    first, end = -(-start // page) * page, (start + values.nbytes) // page * page
    if first < end:
        _madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _MADV_DONTNEED)


def free_memory(device: torch.device, limit: int | None = None) -> int:
    """Return how many more bytes of memory this process may use.

    Args:
        device: its own memory for a GPU; else RAM, within the limits of the process's cgroups.
        limit: memory budget of this process on the device, in bytes; None for no limit.

    Returns:
        Bytes; less than 0 where the process already uses more than the limit.
    """
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device)
        used = torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + reserved - used
    else:
        used = psutil.Process().memory_info().rss
        free = min([psutil.virtual_memory().available, *cgroup_headrooms()])
    return free if limit is None else min(free, limit - used)


def cgroup_headrooms(root: Path = Path("/")) -> list[int]:
    """Return how far the control groups of this process are from their memory limits, in bytes.

    Memory that the kernel can reclaim from its file cache counts as free (Linux, cgroup v1 and v2,
    "memory" controller documentation).

    Args:
        root: where `proc` and `sys` are.

    Returns:
        One number for each group with a limit; none on other systems.
    """
    headrooms = []
    membership = root / "proc/self/cgroup"
    for line in membership.read_text().splitlines() if membership.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            mount, limit, usage = root / "sys/fs/cgroup/memory", "limit_in_bytes", "usage_in_bytes"
        elif not controllers:
            mount, limit, usage = root / "sys/fs/cgroup", "max", "current"
        else:
            continue
        group = mount / path.lstrip("/")
        for place in (group, *group.parents):
            try:
                most = int((place / f"memory.{limit}").read_text())
                used = int((place / f"memory.{usage}").read_text())
                stat = (place / "memory.stat").read_text().split()
            except (OSError, ValueError):  # The root has no limit, others say "max".
                pass
            else:
                cached = dict(zip(stat[::2], map(int, stat[1::2]), strict=True))
                # In v1 the plain number excludes the groups below.
                cached_files = cached.get("total_inactive_file", cached["inactive_file"])
                headrooms.append(max(0, most - used + cached_files))
            if place == mount:
                break
    return headrooms


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Measures the most bytes that the tensors made within this context hold at a time.

    Attributes:
        bytes: the most so far; without what operators allocate inside themselves.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        self._living: dict[int, int] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say no, or torch imports its compiler, which takes as long as importing the rest."""
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator and record new storages."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._living:
                    self._living[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self._living.pop, storage._cdata, None)
        self.bytes = max(self.bytes, sum(self._living.values()))
        return result

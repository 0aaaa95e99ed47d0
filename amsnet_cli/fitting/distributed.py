"""Data-parallel training in several processes, started by torchrun.

Each process computes the gradients of its shard of every batch; they are averaged, so all take the
same step (DistributedDataParallel; gloo on CPUs, NCCL on CUDA).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from amsnet_cli.errors import UsageError

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class DistributedContext:
    """The processes that share a fit; a single one by default.

    Attributes:
        rank: of this process, from 0.
        world_size: how many processes there are.
        device: where this one computes.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default=torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that reports and writes."""
        return self.rank == 0

    def shard(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch, (N / world_size, ...) of (N, ...)."""
        return batch.chunk(self.world_size)[self.rank]

    def shard_list(self, batch: list[ItemT]) -> list[ItemT]:
        """Return this process's part of a batch in a list, as `shard` does."""
        size = -(-len(batch) // self.world_size)
        return batch[size * self.rank : size * (self.rank + 1)]

    def broadcast(self, number: float) -> float:
        """Return the main process's number, on all processes."""
        if self.world_size == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return shared.item()

    def mean(self, number: float) -> float:
        """Return the mean of all processes' numbers, on all processes."""
        if self.world_size == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return shared.item() / self.world_size

    def wrap_ddp(self, network: nn.Module) -> nn.Module:
        """Return the network with gradients averaged over all processes."""
        if self.world_size == 1:
            return network
        ours = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ours)

    def unwrap(self, network: nn.Module) -> nn.Module:
        """Undo `wrap_ddp`."""
        return network.module if isinstance(network, DistributedDataParallel) else network


def was_restarted() -> bool:
    """Return whether torchrun has started this process again after one of them died."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


@contextmanager
def distributed_context(device: torch.device) -> Iterator[DistributedContext]:
    """Join the process group that torchrun has set up, if it has.

    Args:
        device: "cuda" without a number becomes this process's own GPU.

    Raises:
        UsageError: several processes for one device that they cannot share.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield DistributedContext(device=device)
        return
    if device.type == "mps" or device.index is not None:
        raise UsageError(
            f"{world_size} processes cannot share {device}", "try --device cuda or cpu"
        )
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield DistributedContext(dist.get_rank(), world_size, device)
    finally:
        dist.destroy_process_group()

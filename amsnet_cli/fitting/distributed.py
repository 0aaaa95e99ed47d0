"""Several processes that share one fit, started by torchrun.

Each computes the gradients of its part of every batch; they are averaged, so all take the same
step (DistributedDataParallel; gloo on CPUs, NCCL on CUDA).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from amsnet_cli.errors import UsageError


class Crew:
    """The processes that share a fit; alone by default.

    Args:
        rank: which of them this is, from 0; the first one alone reports and writes.
        size: how many there are.
        device: where this one computes.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, device: torch.device = torch.device("cpu")
    ) -> None:
        self.rank, self.size, self.device = rank, size, device

    @property
    def first(self) -> bool:
        """Whether this process is the one that reports and writes."""
        return self.rank == 0

    def share_of(self, x: Tensor) -> Tensor:
        """This process's part of a batch, (N / size, ...) of (N, ...)."""
        return x.chunk(self.size)[self.rank]

    def from_first(self, number: float) -> float:
        """The first process's number, on all of them."""
        if self.size == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return shared.item()

    def mean(self, number: float) -> float:
        """The mean of all processes' numbers, on all of them."""
        if self.size == 1:
            return number
        shared = torch.tensor(number, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared)
        return shared.item() / self.size

    def together(self, network: nn.Module) -> nn.Module:
        """Make a network's gradients the mean over all processes."""
        if self.size == 1:
            return network
        ours = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ours)


@contextmanager
def joined_crew(device: torch.device) -> Iterator[Crew]:
    """Join the processes that torchrun has started, if it has.

    Args:
        device: "cuda" without a number becomes this process's own GPU.

    Raises:
        UsageError: several processes for one device that they cannot share.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Crew(device=device)
        return
    if device.type == "mps" or device.index is not None:
        raise UsageError(f"{size} processes cannot share {device}", "try --device cuda or cpu")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Crew(dist.get_rank(), size, device)
    finally:
        dist.destroy_process_group()

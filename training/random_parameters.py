"""Draw the random parameters of a batch of patches."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class RandomParameters:
    """Random parameters, one for each patch, shaped (B, 1, 1, 1) to broadcast.

    Args:
        generator: a CPU generator. Normal noise on another device comes from a second generator
            there, seeded by this one.
        batch: B.
        device: of what is drawn.
    """

    def __init__(self, generator: torch.Generator, batch: int, device: torch.device) -> None:
        self.generator, self.batch, self.device = generator, batch, device
        self.normal_generator = generator
        if device.type != "cpu":
            seed = int(torch.randint(2**62, (), generator=generator))
            self.normal_generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform numbers in [low, high), (B, 1, 1, 1) or (B, *shape)."""
        size = (self.batch, *(shape or (1, 1, 1)))
        drawn = low + (high - low) * torch.rand(size, generator=self.generator)
        return drawn.to(self.device)

    def log_uniform(self, low: float, high: float) -> Tensor:
        """Numbers in [low, high) whose logarithm is uniform, (B, 1, 1, 1)."""
        return self.uniform(math.log(low), math.log(high)).exp()

    def chance(self, probability: float) -> Tensor:
        """True with this probability, (B, 1, 1, 1) bool."""
        return self.uniform(0, 1) < probability

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers in the shape of `x`."""
        return torch.randn(x.shape, generator=self.normal_generator, device=self.device)

"""Train a network by Muon and AdamW, with a moving average of its weights; for long runs.

Shared by `conditioned` and `raw`. Fits, and `pretrain`, train by `amsnet_cli.fitting.trainer`.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from training.muon import Muon

BETAS = (0.9, 0.99)
"""AdamW's."""

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class Training(Generic[NetworkT]):
    """A network in training.

    Args:
        network: trained in place.
        optimisers: of its parameters.
        grad_clip: maximum norm of the gradient.
        ema_decay: of the moving average of the weights; smaller in the first steps.

    Attributes:
        average: the network with the moving average of the weights.
        step: optimizer steps taken.
    """

    def __init__(
        self, network: NetworkT, optimisers: Sequence[torch.optim.Optimizer], *,
        grad_clip: float, ema_decay: float,
    ) -> None:  # fmt: skip
        self.network, self.average, self.step = network, copy.deepcopy(network), 0
        self._optimisers, self._clip, self._decay = list(optimisers), grad_clip, ema_decay

    def descend(self, loss: Tensor, rate: float) -> None:
        """Take a step at a learning rate, and update the moving average."""
        self.network.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        self.step += 1
        keep = min(self._decay, self.step / (self.step + 20))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), 1 - keep
            )

    def save(self, path: Path) -> None:
        """Write all that `load` needs to continue, whole or not at all."""
        part = path.with_suffix(".part")
        torch.save(
            {"step": self.step, "network": self.network.state_dict(),
             "average": self.average.state_dict(),
             "optimisers": [optimiser.state_dict() for optimiser in self._optimisers]}, part,
        )  # fmt: skip
        os.replace(part, path)

    def load(self, path: Path, device: torch.device) -> None:
        """Restore what `save` wrote."""
        state = torch.load(path, map_location=device, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimiser, kept in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step = state["step"]


def muon_and_adamw(network: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for weights, AdamW for biases, of what is trained."""
    trained = [p for p in network.parameters() if p.requires_grad]
    biases = [p for p in trained if p.ndim == 1]
    return [
        Muon([p for p in trained if p.ndim > 1], lr=rate),
        torch.optim.AdamW(biases, rate, betas=BETAS, weight_decay=0, fused=True),
    ]


def load_smaller(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load the weights of a network of the same shape, or one with fewer residual blocks.

    Blocks that it lacks change nothing at first: the last of their convolutions is zero.

    Raises:
        SystemExit: it has another shape.
    """
    missing, unexpected = network.load_state_dict(state, strict=False)
    if unexpected or any(".first." not in key and ".second." not in key for key in missing):
        raise SystemExit("the model to start from has another shape")
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for key in missing:
            if ".second." in key:
                parameters[key].zero_()


def budget(minutes: float, steps: int, first: int = 0) -> Iterator[tuple[int, float]]:
    """Count steps until the minutes or the steps are used, each with the share that is used."""
    started, step, progress = time.monotonic(), first, 0.0
    while progress < 1:
        yield step, progress
        step += 1
        progress = max((time.monotonic() - started) / 60 / minutes, (step - first) / steps)

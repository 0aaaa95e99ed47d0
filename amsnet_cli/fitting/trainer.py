"""The training step: learning-rate schedule, gradient clipping and an EMA of the weights.

Shared by `fit` and by all training of the shipped weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from amsnet_cli.device import fast_precision
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.muon import Muon

NetworkT = TypeVar("NetworkT", bound=nn.Module)
_Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Hyper-parameters of the optimizer.

    Attributes:
        optimizer: "adamw", or "muon" for all weights with AdamW for biases, at the same rate.
        learning_rate: peak, after the warm-up.
        fall_from: fraction of the training up to which it stays there; then it falls to 0 along
            half a cosine. 1 for never.
        warmup_steps: steps of linear warm-up.
        beta2: AdamW's decay of the mean squared gradient.
        weight_decay: AdamW's.
        grad_clip: maximum norm of the gradient.
        ema_decay: of the exponential moving average of the weights; smaller in the first steps.
        bfloat16: whether convolutions may run in bfloat16 where that is faster.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float
    fall_from: float = 0.0
    warmup_steps: int
    beta2: float
    grad_clip: float
    ema_decay: float
    weight_decay: float = 0.0
    bfloat16: bool = True


class Trainer(Generic[NetworkT]):
    """A network, its optimizers, and the moving average of its weights.

    Args:
        network: moved to `device` and trained in place.
        config: see `TrainerConfig`.
        device: where to train.
        distributed: the processes that share each batch.

    Attributes:
        model: the network in training.
        steps: optimizer steps taken.
    """

    def __init__(
        self,
        network: NetworkT,
        config: TrainerConfig,
        *,
        device: torch.device,
        distributed: DistributedContext = DistributedContext(),
    ) -> None:
        self.config, self.device, self.distributed = config, device, distributed
        self.model = network.to(device).train()
        self.average = AveragedModel(self.model, multi_avg_fn=self._update_ema)
        self.average.eval()
        self.average.update_parameters(self.model)  # its first update copies the weights
        self.ddp_model = distributed.wrap_ddp(self.model)
        self.optimizers = _optimizers(self.model, config, device)
        self.steps = 0

    @property
    def ema(self) -> NetworkT:
        """The network with the moving average of the weights, in evaluation mode."""
        return cast(NetworkT, self.average.module)

    def step(self, loss_of: Callable[[nn.Module], Tensor], progress: float) -> Tensor:
        """Take an optimizer step and return the loss, a scalar.

        Args:
            loss_of: computes this process's part of the loss with the network it is given.
            progress: fraction of the training done, in [0, 1]; sets the learning rate.
        """
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate(progress)
        with fast_precision(self.device, self.config.bfloat16):
            loss = loss_of(self.ddp_model)
        self.model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.steps += 1
        self.average.update_parameters(self.model)
        return loss.detach()

    def learning_rate(self, progress: float) -> float:
        """Linear warm-up, then constant, then falling to 0."""
        warmup = min(1.0, (self.steps + 1) / self.config.warmup_steps)
        past = max(0.0, progress - self.config.fall_from)
        fallen = past / (1 - self.config.fall_from) if past else 0.0
        return self.config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * fallen))

    def _update_ema(self, ema: _Tensors, weights: _Tensors, n_averaged: Tensor | int) -> None:
        decay = min(self.config.ema_decay, (self.steps + 1) / (self.steps + 20))
        torch._foreach_lerp_(ema, weights, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to continue as if never interrupted."""
        return {
            "model": self.model.state_dict(),
            "ema": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["ema"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.steps = state["steps"]


def _optimizers(
    network: nn.Module, config: TrainerConfig, device: torch.device
) -> list[torch.optim.Optimizer]:
    parameters = [p for p in network.parameters() if p.requires_grad]
    weights = [p for p in parameters if p.ndim > 1] if config.optimizer == "muon" else []
    others = [p for p in parameters if p.ndim <= 1] if weights else parameters
    adamw = torch.optim.AdamW(
        others, config.learning_rate, betas=(0.9, config.beta2), weight_decay=config.weight_decay,
        fused=device.type in ("cpu", "cuda") or None,
    )  # fmt: skip
    return [Muon(weights, lr=config.learning_rate), adamw] if weights else [adamw]

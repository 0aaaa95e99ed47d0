"""Muon, an optimizer for matrices: the momentum's step with all its singular values made equal.

K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); the scale is
that of Liu et al., "Muon is scalable for LLM training" (2025), with which it takes AdamW's rates.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from amsnet_cli.device import computes_bfloat16_fast

_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the polynomial that drives singular values to about 1, by Jordan et al."""
_ITERATIONS = 5
_ADAMW_RMS = 0.2
"""Root mean square of AdamW's usual update, by Liu et al."""


class Muon(torch.optim.Optimizer):
    """Momentum with Nesterov's step, orthogonalised; for weights of two and more dimensions."""

    def __init__(
        self, weights: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:  # fmt: skip
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Take a step; a filter of a convolution is a row of its matrix."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["average"] = torch.zeros_like(weight)
                average = state["average"].lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(average, group["momentum"]).flatten(1)
                scale = _ADAMW_RMS * max(update.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                update = orthogonalised(update).reshape(weight.shape)
                weight.add_(update, alpha=-group["lr"] * scale)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Bring the singular values of (M, N) to about 1, by Newton and Schulz's iteration."""
    first, third, fifth = _QUINTIC
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-9)
    if computes_bfloat16_fast(matrix.device):
        x = x.bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        even = torch.addmm(gram, gram, gram, beta=third, alpha=fifth)
        x = torch.addmm(x, even, x, beta=first)
    direction: Tensor = x.to(matrix.dtype)
    return direction if matrix.shape[0] <= matrix.shape[1] else direction.T

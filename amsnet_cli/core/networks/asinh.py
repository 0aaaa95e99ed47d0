"""Inverse hyperbolic sine, fast on CPUs: linear for small values, logarithmic for large ones."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def asinh(x: Tensor) -> Tensor:
    """Inverse hyperbolic sine, to within rounding.

    PyTorch's own computes one element at a time on CPUs.
    """
    if x.device.type != "cpu" or torch.onnx.is_in_onnx_export():
        return torch.asinh(x)
    if not torch.is_grad_enabled():
        return _asinh(x)
    result: Tensor = _Asinh.apply(x)  # type: ignore[no-untyped-call]
    return result


def _asinh(x: Tensor) -> Tensor:
    """Return sign(x) * log1p(|x| + x^2 / (1 + sqrt(1 + x^2)))."""
    square = x.square()
    ratio = square.div_((square + 1).sqrt_().add_(1))
    return ratio.add_(x.abs()).log1p_().copysign_(x)


class _Asinh(torch.autograd.Function):
    """The same with a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _asinh(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        [x] = ctx.saved_tensors
        slope: Tensor = gradient / (x.square() + 1).sqrt()
        return slope

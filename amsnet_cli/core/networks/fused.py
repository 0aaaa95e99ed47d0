"""Convolutions fused with what follows them, which otherwise takes half as long again on CPUs.

PyTorch's compiler uses these operators of oneDNN; calling them needs no C++ compiler.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CONVOLUTION = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
_CONVOLUTION_INTO = getattr(torch.ops.mkldnn, "_convolution_pointwise_", None)


def can_fuse(x: Tensor) -> bool:
    """Return whether these functions apply: in bfloat16 on a CPU, without gradients."""
    return (
        _CONVOLUTION is not None
        and _CONVOLUTION_INTO is not None
        and x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_grad_enabled()
    )


def leaky_relu_of(convolution: nn.Conv2d, x: Tensor, slope: float) -> Tensor:
    """Return leaky_relu(convolution(x)) in bfloat16."""
    assert _CONVOLUTION is not None
    result: Tensor = _CONVOLUTION(
        x, *_arguments(convolution), "leaky_relu", [slope], ""
    )  # fmt: skip
    return result


def add_to(other: Tensor, convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """Add convolution(x) to `other` in bfloat16, in place, and return it."""
    assert _CONVOLUTION_INTO is not None
    result: Tensor = _CONVOLUTION_INTO.binary(
        other, x, *_arguments(convolution), "add", 1.0, None, [], None
    )
    return result


def _arguments(convolution: nn.Conv2d) -> tuple[object, ...]:
    weight, bias = convolution.weight.bfloat16(), convolution.bias
    return (
        weight, None if bias is None else bias.bfloat16(), convolution.padding,
        convolution.stride, convolution.dilation, convolution.groups,
    )  # fmt: skip

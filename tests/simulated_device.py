"""A second device, simulated on the CPU.

Its tensors say that they are on "mps". Each holds one of the CPU, on which every operator is
computed, so results are the same to the last bit. What a GPU refuses is an error here as well: to
mix tensors of two devices, to become an array, and to hold float64, which Apple's GPUs lack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("mps:0")
_SIMULATED = {"mps", "meta"}
"""Inside of torch, the tensors are on "meta"."""


class _There(Tensor):
    """A tensor on the simulated device."""

    here: Tensor
    device = property(lambda self: DEVICE)  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, here: Tensor) -> _There:
        assert here.dtype != torch.float64, "MPS has no float64"
        there: _There = torch.Tensor._make_wrapper_subclass(
            cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(),
            dtype=here.dtype, device="meta",
        )  # fmt: skip
        there.here = here
        return there

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class SimulatedDevice(TorchDispatchMode):
    """Makes `DEVICE` usable.

    Attributes:
        copied: pixels of what was copied to the CPU, without single numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copied: list[int] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch imports its compiler

    def __enter__(self) -> SimulatedDevice:
        # Let `torch.tensor` make its tensors on the CPU first, as for torch's own FakeTensor.
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = _computed(func, args, kwargs or {})
        inputs = tree_leaves((args, kwargs))
        moves = func is torch.ops.aten._to_copy.default and isinstance(inputs[0], _There)
        if moves and not isinstance(result, _There):
            self.copied.append(result.numel())
        return result


def _computed(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU and say that the result is where an accelerator would leave it."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    is_there = any(isinstance(x, _There) for x in tensors)
    if is_there and func not in _MOVES:
        # As everywhere in torch, single numbers may be on the CPU.
        apart = [x.shape for x in tensors if not isinstance(x, _There) and x.dim()]
        assert not apart, f"{func} mixes devices: {apart} are on the CPU"
    target = kwargs.get("device")
    if target is not None:
        is_there = torch.device(target).type in _SIMULATED
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(x.here): x for x in tensors if isinstance(x, _There)}  # in place, or by out=
    args, kwargs = tree_map(lambda x: x.here if isinstance(x, _There) else x, (args, kwargs))
    result = func(*args, **kwargs)

    def placed(x: Any) -> Any:
        if not is_there or not isinstance(x, Tensor):
            return x
        return known[id(x)] if id(x) in known else _There(x)

    return tree_map(placed, result)


_MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}

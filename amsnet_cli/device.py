"""Where to compute, and in which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from amsnet_cli.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: "auto" (CUDA, else Apple's MPS, else the CPU), "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        DeviceError: this machine has no such device.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = name.partition(":")
    available = {"cpu": not number, "cuda": cuda, "mps": mps and not number}
    if number:
        available["cuda"] = cuda and number.isdigit() and int(number) < torch.cuda.device_count()
    if not available.get(kind, False):
        raise DeviceError(f"no device {name} here", "try --device auto or --device cpu")
    return torch.device(name)


def computes_bfloat16_fast(device: torch.device) -> bool:
    """Return whether bfloat16 is faster than float32 on a device.

    CPUs need AVX512-BF16 or AMX; without, bfloat16 is emulated and slower.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # Older versions of torch cannot say; float32 is right in any case.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


@contextmanager
def fast_precision(device: torch.device, allowed: bool = True) -> Iterator[bool]:
    """Run convolutions in bfloat16 if `allowed` and faster; yields whether they do."""
    fast = allowed and computes_bfloat16_fast(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=fast):
        yield fast

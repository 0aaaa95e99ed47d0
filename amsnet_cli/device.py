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
        DeviceError: this machine has no such device, or several are named.
    """
    if "," in name:
        raise DeviceError(
            f"--device {name}: only denoise uses several at once",
            "name one; several processes of torchrun share a fit, see docs/scale.md",
        )
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    names = {"cpu", "mps"} if mps else {"cpu"}
    if cuda:
        names |= {"cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))}
    if name not in names:
        raise DeviceError(f"no device {name} here", "try --device auto or --device cpu")
    return torch.device(name)


def choose_devices(name: str) -> list[str]:
    """Return the names of all devices that share a batch.

    Args:
        name: as for `choose_device`, or several GPUs as in "cuda:0,2". "cuda" and "auto" mean all.

    Raises:
        DeviceError: this machine has no such device.
    """
    kind, _, numbers = name.partition(":")
    if kind in ("auto", "cuda") and not numbers and torch.cuda.device_count() > 1:
        return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    names = [f"{kind}:{number}" for number in numbers.split(",")] if numbers else [name]
    for one in names:
        choose_device(one)
    return list(dict.fromkeys(names))


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

"""Read the tensors of a checkpoint or safetensors file from other programs."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.torch_version import TorchVersion

from amsnet_cli.errors import WeightsError
from amsnet_cli.importing.checkpoint import read_checkpoint

SAFE_TORCH = "2.10"
"""Oldest torch whose `weights_only` is safe (CVE-2025-32434, CVE-2026-24747)."""


def is_safetensors(source: Path) -> bool:
    """Return whether a file begins as safetensors do: eight bytes of length, then a JSON object."""
    with source.open("rb") as file:
        return file.read(9)[8:] == b"{"


def read_safetensors(source: Path) -> tuple[dict[str, Tensor], bool]:
    """Read a safetensors file.

    Returns:
        The tensors by key, and whether the file is a model file of this program.

    Raises:
        WeightsError: it is damaged.
    """
    try:
        with safe_open(source, framework="pt") as file:
            is_model = "amsnet" in (file.metadata() or {})
            return {key: file.get_tensor(key) for key in file.keys()}, is_model  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{source}: refused: damaged safetensors file ({error})", "download it again"
        ) from error


def load_checkpoint(source: Path) -> dict[str, Tensor]:
    """Load the state dict of a checkpoint by PyTorch or Lightning.

    Raises:
        WeightsError: it would run code, is damaged, or has no state dict.
    """
    checked = read_checkpoint(source)
    if TorchVersion(torch.__version__) < TorchVersion(SAFE_TORCH):
        raise WeightsError(
            f"{source}: torch {torch.__version__} does not load checkpoints safely",
            f"install torch {SAFE_TORCH} or newer",
        )
    try:
        content = torch.load(checked, map_location="cpu", weights_only=True)
    except Exception as error:  # A malicious file can make torch raise any exception.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{source}: refused: torch cannot load it ({reason})", "download it again"
        ) from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise WeightsError(
            f"{source}: refused: expected a dictionary of tensors, or one under state_dict",
            "save only the network's state_dict()",
        )
    return {str(key): tensor for key, tensor in tensors.items()}

"""Recognise a network by its structure: the key, shape and dtype of every tensor."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from amsnet_cli.core.network_names import PaperNetwork
from amsnet_cli.core.networks import make_network
from amsnet_cli.errors import WeightsError

PREFIXES = ("module.", "net.dn.branches.0.")
"""Key prefixes of DataParallel, and of the checkpoints of the AMSNet authors."""

Structure = dict[str, tuple[tuple[int, ...], torch.dtype]]
"""Shape and dtype of each tensor by its key."""


def strip_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the known prefixes that all keys share."""
    stripped = dict(tensors)
    while stripped and (
        prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in stripped)), None)
    ):
        stripped = {key.removeprefix(prefix): tensor for key, tensor in stripped.items()}
    return stripped


def recognise(source: Path, tensors: Mapping[str, Tensor]) -> PaperNetwork:
    """Return the network that has exactly these tensors.

    Args:
        source: for the message.
        tensors: by key, without prefix.

    Raises:
        WeightsError: there is none; the message gives the differences from the most similar one.
    """
    found, known = _structure(tensors), _known_structures()
    if matching := [name for name, structure in known.items() if structure == found]:
        return matching[0]
    nearest = max(known, key=lambda name: len(known[name].keys() & found.keys()))
    expected = known[nearest]
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    other = [key for key in expected if key in found and expected[key] != found[key]]
    if len(missing) > len(expected) / 2:
        networks = ", ".join(f"{name} ({len(keys)} tensors)" for name, keys in known.items())
        example = f", such as {min(found)!r}" if found else ""
        raise WeightsError(
            f"{source}: refused: expected exactly the tensors of one of {networks}, found "
            f"{len(found)}{example}",
            "amsnet does not have this network",
        )
    details = [f"{len(missing)} missing, such as {missing[0]}"] if missing else []
    details += [f"{len(extra)} unknown, such as {extra[0]!r}"] if extra else []
    details += [
        f"{len(other)} of another shape or dtype, such as {key}: expected "
        f"{_describe(expected[key])}, found {_describe(found[key])}"
        for key in other[:1]
    ]
    raise WeightsError(
        f"{source}: refused: nearly {nearest} ({len(expected)} tensors), but {'; '.join(details)}",
        "amsnet does not have this network",
    )


def _structure(tensors: Mapping[str, Tensor]) -> Structure:
    return {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in tensors.items()}


@functools.cache
def _known_structures() -> dict[PaperNetwork, Structure]:
    known: dict[PaperNetwork, Structure] = {}
    with torch.device("meta"):
        for name in get_args(PaperNetwork):
            known[name] = _structure(make_network(name).state_dict())  # type: ignore[attr-defined]
    return known


def _describe(form: tuple[tuple[int, ...], torch.dtype]) -> str:
    shape, dtype = form
    return f"{'x'.join(map(str, shape)) or 'a scalar'} {str(dtype).removeprefix('torch.')}"

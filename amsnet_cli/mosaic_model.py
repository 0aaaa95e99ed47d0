"""Models for mosaics: a network and where it comes from, in one safetensors file.

The file's metadata hold one JSON object under the key `amsnet`: `format`, `mosaic`, the shape of
the network, and `provenance`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from amsnet_cli.core.networks.compact import CompactUNetConfig
from amsnet_cli.core.networks.mosaic import MosaicNetwork, MosaicNetworkConfig
from amsnet_cli.errors import WeightsError
from amsnet_cli.model import write_network
from amsnet_cli.weights.header import check_format, is_for_mosaics


@dataclass(frozen=True, kw_only=True)
class MosaicModel:
    """A network for mosaics.

    Attributes:
        network: in evaluation mode; on the CPU after loading.
        name: for messages.
    """

    network: MosaicNetwork
    name: str


def save_mosaic_model(
    path: Path,
    network: MosaicNetwork,
    provenance: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
    *,
    cameras: dict[str, list[int]] | None = None,
) -> None:
    """Write a model file atomically.

    Args:
        path: the file; its folder is made, an existing file is replaced.
        network: its tensors are stored as `dtype`.
        provenance: how it was made, for people; see `model.ModelConfig`.
        dtype: float16, or float32 for twice the size.
        cameras: those of a fit, each with its lowest and highest ISO.

    Raises:
        OutputError: `path` cannot be written.
    """
    header = {
        "mosaic": True, "network": dataclasses.asdict(network.config),
        "provenance": provenance or {}, "cameras": cameras or {},
    }  # fmt: skip
    write_network(path, network, header, dtype)


def load_mosaic_model(path: Path, name: str = "") -> MosaicModel:
    """Load a model.

    Args:
        path: the file.
        name: for messages; the file's stem if empty.

    Raises:
        WeightsError: it is not a model for mosaics of this version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["amsnet"])
            check_format(header, path)
            if not is_for_mosaics(header):
                raise WeightsError(f"{path} is for developed photos", "name weights for mosaics")
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
        shape = {**header["network"]}
        unet: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in shape.pop("unet").items()
        }
        config = MosaicNetworkConfig(unet=CompactUNetConfig(**unet), **shape)
        with torch.device("meta"):
            expected = MosaicNetwork(config).state_dict()
        if {k: t.shape for k, t in expected.items()} != {k: t.shape for k, t in tensors.items()}:
            raise ValueError("the tensors do not fit the network")
        network = MosaicNetwork(config)
        network.load_state_dict(tensors)
    except (
        *(SafetensorError, OSError, KeyError, ValueError),
        *(TypeError, AttributeError, RuntimeError),
    ) as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise WeightsError(
            f"{path} is not an amsnet model that this version can run ({reason})",
            "see: amsnet weights list",
        ) from error
    network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return MosaicModel(network=network, name=name or path.stem)

"""One file a model: safetensors, with everything needed to run it in the header.

The header's metadata hold one JSON string under the key `amsnet`: the network and its shape,
what hidden pixels are filled with, how to run it, and where it comes from.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from amsnet_cli.atomic import write_whole
from amsnet_cli.core.masks import Fill
from amsnet_cli.core.networks import (
    CompactUNetConfig,
    MaskedNetwork,
    PaperNetwork,
    make_network,
)
from amsnet_cli.errors import OutputError, WeightsError
from amsnet_cli.weights.manifest import bundled_path, own_manifest
from amsnet_cli.weights.store import cameras_of

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How a model is run on a picture.

    Attributes:
        passes: "single", nothing hidden, one evaluation; "multi", complementary masks.
        n_masks: k; ignored by the single pass, as are the following.
        stride: of the pixel-shuffle downsampling around the masks.
        repeats: how many independent sets of masks are averaged.
        refine: share of noisy pixels put back by random replacement refinement, 0 for none.
        refine_repeats: rounds of refinement averaged.
    """

    passes: Literal["single", "multi"] = "single"
    n_masks: int = 2
    stride: int = 2
    repeats: int = 1
    refine: float = 0.0
    refine_repeats: int = 8


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """All that a model file says beside its tensors.

    Attributes:
        network: the shape of the default network, or the name of one of the paper's.
        fill: what hidden pixels are replaced by.
        mask_channel: whether the network is given the mask.
        inference: how to run it.
        noise: what its single pass was made for; noise is "white" if neighbouring pixels share
            nothing of it.
        white: name of the bundled weights that take over where a photo's noise is white, or "".
        cameras: those a fit has learned from, each with its lowest and highest ISO; an empty list
            where no photo said.
        provenance: what it was made from, and how; for people, never read by the program.
    """

    network: CompactUNetConfig | PaperNetwork
    fill: Fill = "mean"
    mask_channel: bool = True
    inference: Inference = Inference()
    noise: Literal["any", "white"] = "any"
    white: str = ""
    cameras: dict[str, list[int]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network with how to run it.

    Attributes:
        network: in evaluation mode, on the CPU as loaded.
        config: see `ModelConfig`.
        name: as given by the user, for messages.
        white: the model that takes over where a photo's noise is white, if there is one.
    """

    network: MaskedNetwork
    config: ModelConfig
    name: str
    white: Model | None = None


def build_network(config: ModelConfig) -> MaskedNetwork:
    """Make the network of `config` with fresh weights, drawn from torch's global generator.

    Raises:
        ValueError: the network takes no mask channel, or another number of channels.
    """
    shape = config.network
    channels = shape.in_channels if isinstance(shape, CompactUNetConfig) else 3
    if channels != 3 + config.mask_channel:
        raise ValueError(f"a network of {channels} channels, mask channel: {config.mask_channel}")
    network = MaskedNetwork(
        make_network(config.network), fill=config.fill, mask_channel=config.mask_channel
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def save_model(
    path: Path, network: MaskedNetwork, config: ModelConfig, dtype: torch.dtype = torch.float32
) -> None:
    """Write a model file, whole or not at all.

    Args:
        path: where; its folder is made if need be, a file there is replaced.
        network: its tensors are stored as `dtype`.
        config: stored in the header.
        dtype: float32, or float16 for half the size.

    Raises:
        OutputError: `path` cannot be written.
    """
    tensors = {
        key: tensor.detach().to("cpu", dtype).contiguous()
        for key, tensor in network.state_dict().items()
    }
    header = {"format": FORMAT, **dataclasses.asdict(config)}
    content = to_safetensors(tensors, {"amsnet": json.dumps(header, sort_keys=True)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise OutputError(
            f"cannot write the model {path}: {error.strerror}", "choose another place with -o"
        ) from error


def load_model(path: Path, name: str = "") -> Model:
    """Read a model file.

    Args:
        path: a file written by `save_model`.
        name: for messages; the file's stem if empty.

    Raises:
        WeightsError: there is no such file, or it is not a model of this program.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise WeightsError(f"no model at {path}", "see: amsnet weights list") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is not an amsnet model ({error})", "see: amsnet weights list"
        ) from error
    try:
        config = _parse(json.loads(metadata["amsnet"]))
        _check_shapes(config, tensors)
        network = build_network(config)
        network.load_state_dict(tensors)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{path} is not an amsnet model that this version can run ({reason})",
            "fit or pull it again, or upgrade amsnet",
        ) from error
    network.eval()
    white = load_model(bundled_path(own_manifest().entry(config.white))) if config.white else None
    return Model(network=network, config=config, name=name or path.stem, white=white)


def _check_shapes(config: ModelConfig, tensors: dict[str, Tensor]) -> None:
    """Compare without allocating: a header may ask for more memory than there is."""
    shape = config.network
    if isinstance(shape, CompactUNetConfig) and sum(shape.blocks) > len(tensors):
        raise ValueError("its network has more blocks than tensors")
    with torch.device("meta"):
        expected = build_network(config).state_dict()
    if {k: t.shape for k, t in expected.items()} != {k: t.shape for k, t in tensors.items()}:
        raise ValueError("its tensors are not those of its network")


def _parse(header: dict[str, Any]) -> ModelConfig:
    if header.pop("format") != FORMAT:
        raise ValueError("another file format")
    network = header.pop("network")
    if isinstance(network, dict):
        shape: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in network.items()
        }
        network = CompactUNetConfig(**shape)
    if header.get("noise", "any") not in ("any", "white"):
        raise ValueError("another kind of noise")
    if not isinstance(header.get("white", ""), str):
        raise ValueError("the weights for white noise are not named")
    return ModelConfig(
        network=network,
        inference=Inference(**header.pop("inference")),
        cameras=cameras_of({"cameras": header.pop("cameras", {})}),
        **header,
    )

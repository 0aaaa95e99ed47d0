"""Models: a network and how to run it, in one safetensors file.

The file's metadata have one JSON object under the key `amsnet`: the fields of `ModelConfig` and the
version of the format.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from amsnet_cli.atomic import write_output
from amsnet_cli.core.masks import Fill
from amsnet_cli.core.networks import (
    CompactUNetConfig,
    ConditionedUNetConfig,
    MaskedNetwork,
    NetworkShape,
    make_network,
)
from amsnet_cli.core.networks.conditioned import INPUTS
from amsnet_cli.core.networks.noise_estimator import NoiseEstimatorConfig
from amsnet_cli.errors import WeightsError
from amsnet_cli.known_noise import KnownNoise, take_from, to_tensors
from amsnet_cli.weights.header import FORMAT, cameras_of, check_format
from amsnet_cli.weights.store import find_weights


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How a model is run on an image.

    Attributes:
        passes: "multi" for the multi-mask scheme; "single" for one pass with nothing masked.
        ensemble: single passes over turned and mirrored copies that are averaged, 1 to 8. Only for
            "single"; the other fields only for "multi".
        n_masks: k, the number of complementary masks.
        stride: stride of the pixel-shuffle downsampling around the masks; 1 for none.
        repeats: independent sets of masks to average.
        refine: share of noisy pixels that random replacement refinement puts back, in [0, 1];
            0 for no refinement.
        refine_repeats: rounds of refinement to average.
    """

    passes: Literal["single", "multi"] = "single"
    ensemble: int = 1
    n_masks: int = 2
    stride: int = 2
    repeats: int = 1
    refine: float = 0.0
    refine_repeats: int = 8


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything in a model file but the tensors.

    Attributes:
        network: configuration of a network of our own, or the name of one of the paper's.
        fill: what replaces masked pixels, see `core.masks.fill_masked`.
        mask_channel: whether the network gets the mask as an extra channel.
        inference: how to run it.
        cameras: the cameras of a fit, each with its lowest and highest ISO; an empty list if no
            photo states its ISO.
        provenance: how it was made, for people. The program reads only `fitted_on` and
            `imported_from`, to describe it.
    """

    network: NetworkShape
    fill: Fill = "mean"
    mask_channel: bool = True
    inference: Inference = Inference()
    cameras: dict[str, list[int]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network and how to run it.

    Attributes:
        network: in evaluation mode; on the CPU after loading.
        config: see `ModelConfig`.
        name: for messages.
        known: some of the noise that it was fitted to.
    """

    network: MaskedNetwork
    config: ModelConfig
    name: str
    known: tuple[KnownNoise, ...] = ()


def build_network(config: ModelConfig) -> MaskedNetwork:
    """Make a model's network with fresh weights, drawn from torch's global generator.

    Raises:
        ValueError: the network's input channels do not fit `config.mask_channel`.
    """
    shape = config.network
    if isinstance(shape, ConditionedUNetConfig):
        channels = 3 + (shape.unet.in_channels == INPUTS)
    else:
        channels = shape.in_channels if isinstance(shape, CompactUNetConfig) else 3
    if channels != 3 + config.mask_channel:
        raise ValueError(f"{channels} input channels with mask channel: {config.mask_channel}")
    network = MaskedNetwork(
        make_network(config.network), fill=config.fill, mask_channel=config.mask_channel
    )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def save_model(
    path: Path,
    network: MaskedNetwork,
    config: ModelConfig,
    dtype: torch.dtype = torch.float32,
    known: Sequence[KnownNoise] = (),
) -> None:
    """Write a model file atomically.

    Args:
        path: the file; its folder is made, an existing file is replaced.
        network: its tensors are stored as `dtype`.
        config: stored in the header.
        dtype: float32, or float16 for half the size.
        known: some of the noise that it was fitted to.

    Raises:
        OutputError: `path` cannot be written.
    """
    write_network(path, network, dataclasses.asdict(config), dtype, to_tensors(known))


def write_network(
    path: Path,
    network: torch.nn.Module,
    header: dict[str, Any],
    dtype: torch.dtype,
    further: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a network's tensors and its header atomically.

    Args:
        path: the file; its folder is made, an existing file is replaced.
        network: its tensors are stored as `dtype`.
        header: stored as JSON, with the number of the format.
        dtype: of the stored tensors.
        further: tensors that are none of the network's, stored as they are.

    Raises:
        OutputError: `path` cannot be written.
    """
    tensors = {
        key: tensor.detach().to("cpu", dtype).contiguous()
        for key, tensor in network.state_dict().items()
    }
    tensors.update(further or {})
    text = json.dumps({"format": FORMAT, **header}, sort_keys=True)
    write_output(path, to_safetensors(tensors, {"amsnet": text}), make_folder=True)


def load_model(weights: str | Path | None = None, name: str = "") -> Model:
    """Load a model by name or path, as `load_model("photo")`.

    Args:
        weights: a name or path as for `weights.store.find_weights`, or the `Path` of a model
            file. None for the default weights.
        name: for messages; by default `weights` as given, or the file's stem.

    Raises:
        WeightsError: there are no such weights, or the file is not a model of this version.
    """
    path = weights if isinstance(weights, Path) else find_weights(weights)
    name = name or (weights if isinstance(weights, str) else path.stem)
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
        header = json.loads(metadata["amsnet"])
        check_format(header, path)
        if header.get("mosaic") is True:
            raise WeightsError(f"{path} is for mosaics of RAW files", "use it for RAW files")
        config, known = _parse(header), take_from(tensors)
        _check_shapes(config, tensors)
        network = build_network(config)
        network.load_state_dict(tensors)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{path} is not an amsnet model that this version can run ({reason})",
            "fit or pull it again, or upgrade amsnet",
        ) from error
    network.eval()
    return Model(network=network, config=config, name=name, known=known)


def _check_shapes(config: ModelConfig, tensors: dict[str, Tensor]) -> None:
    """Compare shapes without allocating: a header may ask for more memory than there is."""
    shape = config.network
    unet = shape.unet if isinstance(shape, ConditionedUNetConfig) else shape
    blocks = sum(unet.blocks) if isinstance(unet, CompactUNetConfig) else 0
    if isinstance(shape, ConditionedUNetConfig):
        blocks += shape.estimator.blocks
    if blocks > len(tensors):
        raise ValueError("the network has more blocks than tensors")
    with torch.device("meta"):
        expected = build_network(config).state_dict()
    if {k: t.shape for k, t in expected.items()} != {k: t.shape for k, t in tensors.items()}:
        raise ValueError("the tensors do not fit the network")


def _parse(header: dict[str, Any]) -> ModelConfig:
    header = {key: value for key, value in header.items() if key != "format"}
    network = header.pop("network")
    if isinstance(network, dict) and "unet" in network:
        unet, estimator = network.pop("unet"), network.pop("estimator")
        network = ConditionedUNetConfig(
            unet=_unet_of(unet), estimator=NoiseEstimatorConfig(**estimator), **network
        )
        if not isinstance(network.step, float):
            raise ValueError("the step of the network is no number")
    elif isinstance(network, dict):
        network = _unet_of(network)
    return ModelConfig(
        network=network,
        inference=Inference(**header.pop("inference")),
        cameras=cameras_of({"cameras": header.pop("cameras", {})}),
        **header,
    )


def _unet_of(shape: dict[str, Any]) -> CompactUNetConfig:
    lists: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()}
    return CompactUNetConfig(**lists)

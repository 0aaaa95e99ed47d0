"""Turn the network of a model into an ONNX graph, and compare the two."""

from __future__ import annotations

import io
import json
import warnings
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx import register_custom_op_symbolic  # type: ignore[attr-defined]

from amsnet_cli.core.multi_mask import single_pass
from amsnet_cli.core.networks import CompactUNet, CompactUNetConfig, ConditionedUNet
from amsnet_cli.core.networks.masked import Network
from amsnet_cli.errors import UsageError, WeightsError
from amsnet_cli.model import Model

OPSET = 20
"""Version of ONNX's operators, as darktable 5.6's own models have it."""
TOLERANCE = 1e-4
"""Largest difference between ONNX Runtime and PyTorch, in [0, 1] units."""
TRACED_SIDE = 128
"""Side in pixels, roughly, of what is traced and compared where the graph takes any size."""
LEFT_OUT = (
    "all that follows the network: nothing corrects brightness, limits sharpness, smooths "
    "residual noise or spares graphics",
    "the noise of the whole photo: weights that are told the noise estimate it in each tile",
    "the average over turned copies, by which fine differs from photo",
    "the mending of hot pixels",
)
"""What `amsnet denoise` does and the graph does not."""


def export_graph(model: Model, side: int | None = None, facts: dict[str, str] | None = None) -> Any:
    """Export the single pass of a model: `input` to `output`, both (1, 3, H, W) float32 in [0, 1].

    The mask, with nothing masked, is cut out of the network, and the output is clamped. Exported by
    PyTorch's exporter of traced graphs (`dynamo=False`): it writes this opset directly and needs no
    package but onnx, and the networks have no control flow that depends on pixels.

    Args:
        model: on the CPU.
        side: H and W in pixels, a multiple of the network's; None for any multiple of it.
        facts: the graph's metadata.

    Returns:
        An `onnx.ModelProto`, compared with the model.

    Raises:
        UsageError: the model has no single pass, `side` does not suit it, or a package is missing.
        WeightsError: the graph and the model differ.
    """
    onnx = import_onnx()
    if model.config.inference.passes != "single":
        raise UsageError(
            f"model {model.name} runs by masks, and a graph holds a single pass",
            "export weights with a single pass, or a fit that started from some",
        )
    multiple = model.network.network.multiple
    if side is not None and side % multiple:
        raise UsageError(
            f"model {model.name} takes sides that are multiples of {multiple}, not {side}",
            "export it with --to onnx",
        )
    traced = side or -(-TRACED_SIDE // multiple) * multiple
    sizes = {2: "height", 3: "width"}
    file = io.BytesIO()
    # PyTorch's exporter lacks this one, which ONNX has had since its ninth version.
    register_custom_op_symbolic("aten::asinh", lambda g, x: g.op("Asinh", x), 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # It says that it is the older one of two.
        torch.onnx.export(
            _Graph(_without_mask(model)).eval(), (torch.zeros(1, 3, traced, traced),),
            file,  # type: ignore[arg-type]  # A file in memory will do as well.
            dynamo=False, opset_version=OPSET, input_names=["input"], output_names=["output"],
            dynamic_axes=None if side else {"input": sizes, "output": sizes},
        )  # fmt: skip
    graph = onnx.load_model_from_string(file.getvalue())
    if side is None:
        graph.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    graph.producer_name, graph.producer_version = "amsnet", ""
    for key, value in sorted((facts or {}).items()):
        graph.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(graph, full_check=True)
    noise = np.random.default_rng(0).random((1, 3, traced, traced), np.float32)
    largest = difference(graph.SerializeToString(), model, noise)
    if not largest <= TOLERANCE:
        raise WeightsError(
            f"model {model.name} differs by {largest:.1e} once exported", "report it, please"
        )
    return graph


def difference(graph: bytes, model: Model, image: np.ndarray[Any, Any]) -> float:
    """Largest difference between a graph in ONNX Runtime and its model in PyTorch.

    Args:
        graph: as a file.
        model: that it was made from.
        image: (1, 3, H, W) float32 in [0, 1], of a size that the graph takes.
    """
    session = import_onnx("onnxruntime").InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": image})
    with torch.inference_mode():
        expected = single_pass(model.network, torch.from_numpy(image)).clamp(0, 1)
    return float(np.abs(found - expected.numpy()).max())


def graph_facts(model: Model, about: dict[str, str]) -> dict[str, str]:
    """Metadata of a graph that takes any size: `about`, and what its user has to know."""
    network = model.network.network
    return {
        **about,
        "input": "1 x 3 x height x width, RGB as sRGB codes it, 0 to 1",
        "multiple": str(network.multiple),
        "reach": str(network.reach or "the whole image"),
        "left_out": json.dumps(LEFT_OUT),
    }


def import_onnx(name: str = "onnx") -> Any:
    """Import a package of the extra `amsnet[export]`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"to export a model needs the package {name}",
            "install it with: pip install 'amsnet[export]'",
        ) from error


class _Graph(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).clamp(0, 1)


def _without_mask(model: Model) -> Network:
    """Return the network without its mask channel, which is zero where nothing is masked."""
    network = model.network.network
    if isinstance(network, ConditionedUNet):
        return _EstimatesNoise(network)  # type: ignore[return-value]
    if not (isinstance(network, CompactUNet) and model.config.mask_channel):
        return network
    config: CompactUNetConfig = network.config
    bare = CompactUNet(replace(config, in_channels=config.in_channels - 1))
    tensors = dict(network.state_dict())
    tensors["head.weight"] = tensors["head.weight"][:, : bare.head.in_channels]
    bare.load_state_dict(tensors)
    return bare


class _EstimatesNoise(nn.Module):
    """A network that is told the noise, and its estimate, for a picture without a mask."""

    multiple: int

    def __init__(self, network: ConditionedUNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        noise = self.network.estimator.summarise(self.network.estimator(image))
        denoised: Tensor = self.network(
            torch.cat([image, torch.zeros_like(image[:, :1])], 1), noise
        )
        return denoised

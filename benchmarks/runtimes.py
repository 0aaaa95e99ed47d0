"""Compare ONNX Runtime and OpenVINO with PyTorch on the U-Net of the default weights.

    python -m benchmarks.runtimes DATA/sidd10 --every 4

Needs onnxruntime, and openvino for its rows. The picture, the noise that is told and all that
surrounds the U-Net are the same; PSNR is that of the network's output against the clean pictures.
int8 is static, per channel, calibrated on the same noisy pictures. "Start" is loading the graph.
Times are of the processor, on one thread, the best of three.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from torch import Tensor, nn

from amsnet_cli import Photo, find_weights, load_model
from amsnet_cli.core.networks import CompactUNet, ConditionedUNet
from amsnet_cli.inference.memory import reuse_memory
from amsnet_cli.inference.noise_estimate import estimate_told_noise
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.photos.read import read_photo
from amsnet_cli.research.datasets import pair_photos
from amsnet_cli.research.evaluation import psnr
from benchmarks.quality import Picture, machine

CALIBRATED = 256
"""Side in pixels of what calibration sees of each picture."""

Runtime = Callable[[Tensor], Tensor]


class _Residual(nn.Module):
    def __init__(self, unet: CompactUNet) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, inputs: Tensor) -> Tensor:
        return self.unet.residual(inputs)


class _Inputs(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, inputs: list[Tensor]) -> None:
        self.parts = iter([{"input": _array(x[..., :CALIBRATED, :CALIBRATED])} for x in inputs])

    def get_next(self) -> Any:
        return next(self.parts, None)


class Told:
    """A noisy picture on its way into the U-Net, and what becomes of the U-Net's output."""

    def __init__(self, network: Any, noisy: Picture, clean: Picture) -> None:
        self.network, self.clean = network, clean
        photo = Photo(pixels=noisy)
        self.noise = estimate_told_noise(photo, PixelCodec.of(photo), network)
        self.x = torch.from_numpy(noisy.copy()).permute(2, 0, 1)[None].float() / 255
        self.inputs = torch.empty(0)
        self.denoise(self._keep)

    def _keep(self, inputs: Tensor) -> Tensor:
        self.inputs = inputs
        return torch.zeros_like(inputs[:, :3])

    def denoise(self, runtime: Runtime) -> Picture:
        """Denoise with another runtime for the U-Net."""
        unet = self.network.network.unet
        unet.residual = runtime
        with torch.no_grad():
            unit = self.network(
                self.x, torch.zeros_like(self.x[:, :1], dtype=torch.bool), self.noise
            )
        del unet.residual
        pixels: Picture = (unit[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
        return pixels


def _array(inputs: Tensor) -> Any:
    return np.ascontiguousarray(inputs.numpy())


def in_pytorch(unet: CompactUNet, fast: bool) -> Runtime:
    """PyTorch, in bfloat16 or float32."""

    def run(inputs: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=fast):
            return CompactUNet.residual(unet, inputs)

    return run


def in_onnxruntime(path: Path) -> Runtime:
    """ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda inputs: torch.from_numpy(session.run(None, {"input": _array(inputs)})[0])


def in_openvino(path: Path, precision: str) -> Runtime:
    """OpenVINO."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda inputs: torch.from_numpy(compiled([_array(inputs)])[0].copy())


def runtimes(unet: CompactUNet, inputs: list[Tensor], place: Path) -> Iterator[tuple[str, Any]]:
    """Yield the name of each runtime, and what loads it."""
    graph, small = place / "unet.onnx", place / "int8.onnx"
    sizes = {2: "height", 3: "width"}
    torch.onnx.export(
        _Residual(unet).eval(), (inputs[0][..., :128, :128].contiguous(),), str(graph),
        dynamo=False, opset_version=20, input_names=["input"], output_names=["output"],
        dynamic_axes={"input": sizes, "output": sizes},
    )  # fmt: skip
    quantize_static(graph, small, _Inputs(inputs), per_channel=True)
    yield "PyTorch, float32", lambda: in_pytorch(unet, False)
    yield "PyTorch, bfloat16", lambda: in_pytorch(unet, True)
    yield "ONNX Runtime, float32", lambda: in_onnxruntime(graph)
    yield "ONNX Runtime, int8", lambda: in_onnxruntime(small)
    yield "OpenVINO, float32", lambda: in_openvino(graph, "f32")
    yield "OpenVINO, bfloat16", lambda: in_openvino(graph, "bf16")
    yield "OpenVINO, int8", lambda: in_openvino(small, "f32")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with noisy/ and clean/")
    parser.add_argument("--every", type=int, default=1, help="take each n-th picture")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    reuse_memory()
    network = load_model(find_weights("photo"), "photo").network.requires_grad_(False)
    assert isinstance(network.network, ConditionedUNet)
    paths = pair_photos(args.data / "noisy", args.data / "clean")[:: args.every]
    pictures = [Told(network, *(read_photo(p).pixels for p in pair)) for pair in paths]
    print(f"torch {torch.__version__}, onnxruntime {onnxruntime.__version__}; {machine()}.\n")
    print("| runtime | s/megapixel | PSNR | start |\n|---|---:|---:|---:|")
    with TemporaryDirectory() as place:
        unet = network.network.unet
        for name, load in runtimes(unet, [p.inputs for p in pictures], Path(place)):
            started = time.process_time()
            runtime = load()
            start = time.process_time() - started
            scores = [psnr(p.denoise(runtime), p.clean) for p in pictures]
            inputs, seconds = pictures[0].inputs, []
            for _ in range(3):
                started = time.process_time()
                runtime(inputs)
                seconds.append(time.process_time() - started)
            speed = min(seconds) / inputs[0, 0].numel() * 1e6
            print(f"| {name} | {speed:.2f} | {np.mean(scores):.3f} | {start:.2f} s |", flush=True)


if __name__ == "__main__":
    main()

r"""How well mosaics are denoised, by metric M: PSNR on the mosaic itself.

    python -m benchmarks.raw RAWBENCH --weights raw.safetensors

RAWBENCH holds NAME_ISO.dng and NAME_clean.dng. Rows: the noisy mosaic, the network told the noise
of each ISO, told what is estimated from the file and its ISO, and from the pixels alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rawpy
import torch
from safetensors import safe_open
from torch import Tensor

import amsnet_cli
from amsnet_cli.core.networks.compact import CompactUNetConfig
from amsnet_cli.core.networks.mosaic import MosaicNetwork, MosaicNetworkConfig, denoise_stabilised
from amsnet_cli.device import fast_precision
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.noise.sensor_estimate import estimate_sensor_noise

BORDER = 8
"""Photosites cut at each side before errors are measured."""
WORSE = 0.05
"""Decibels below the noisy mosaic from which a picture counts as made worse."""
LAWS = ("100=1.67e-5,5e-9", "1600=1.78e-4,4.2e-7", "6400=6.9e-4,2.1e-6", "25600=2.6e-3,6.1e-6")
"""ISO=a,b of the files that this was made for."""


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """The mosaic of a RAW file.

    Attributes:
        values: (1, 1, H, W) float32, 0 at black and 1 at white.
        colours: (1, 3, H, W) float32: 1 where a photosite records red, green, blue.
        gains: (1, 1, H, W) float32: the camera's white balance, 1 for green.
    """

    values: Tensor
    colours: Tensor
    gains: Tensor


def read_mosaic(path: Path) -> Mosaic:
    """Read the visible part of a mosaic."""
    with rawpy.imread(str(path)) as raw:
        index = raw.raw_colors_visible
        black = np.array(raw.black_level_per_channel, np.float64)[index]
        values = (raw.raw_image_visible - black) / (raw.white_level - black)
        letters = np.array(list(raw.color_desc.decode()))[index]
        balance = np.array(raw.camera_whitebalance)
        gains = np.select([letters == c for c in "RGB"], list(balance[:3] / balance[1]))
    colours = np.stack([letters == c for c in "RGB"])
    return Mosaic(
        values=torch.from_numpy(values).float()[None, None],
        colours=torch.from_numpy(colours).float()[None],
        gains=torch.from_numpy(gains).float()[None, None],
    )


def load_network(path: Path) -> MosaicNetwork:
    """Load the weights that `training.raw` has saved."""
    with safe_open(path, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
        weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    unet = {k: tuple(v) if isinstance(v, list) else v for k, v in config.pop("unet").items()}
    network = MosaicNetwork(MosaicNetworkConfig(unet=CompactUNetConfig(**unet), **config))
    network.load_state_dict(weights)
    return network.eval().to(memory_format=torch.channels_last)


def denoise_mosaic(network: MosaicNetwork, mosaic: Mosaic, noise: SensorNoise) -> Tensor:
    """Denoise values, (1, 1, H, W), whose noise is known."""
    hidden = torch.zeros_like(mosaic.values, dtype=torch.bool)
    stabilised = noise.stabilise(mosaic.values)
    sigma = noise.sigma.float().reshape(1, 1, 1, 1)
    with fast_precision(torch.device("cpu")):
        denoised = denoise_stabilised(network, stabilised, sigma, mosaic.colours, hidden)
    return noise.unstabilise(denoised)


def psnr(values: Tensor, clean: Mosaic) -> float:
    """PSNR in dB of white-balanced mosaics with gamma 2.2: metric M."""
    a, b = (
        (x * clean.gains).clamp(0, 1).pow(1 / 2.2)[..., BORDER:-BORDER, BORDER:-BORDER]
        for x in (values, clean.values)
    )
    return -10 * math.log10(float((a - b).double().square().mean()))


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="NAME_ISO.dng and NAME_clean.dng")
    parser.add_argument("--weights", type=Path, required=True, help="made by training.raw")
    parser.add_argument("--law", nargs="+", default=LAWS, metavar="ISO=A,B", help="of the noise")
    args = parser.parse_args()
    laws = {int(k): tuple(map(float, v.split(","))) for k, v in (x.split("=") for x in args.law)}
    network = load_network(args.weights)
    digest = hashlib.sha256(args.weights.read_bytes()).hexdigest()
    names = sorted(p.name.removesuffix("_clean.dng") for p in args.folder.glob("*_clean.dng"))
    print(f"amsnet {amsnet_cli.__version__}, weights sha256 {digest[:12]}")
    print(
        f"{args.folder.name}: {len(names)} pictures; M in dB: white-balanced, gamma 2.2, {BORDER}"
    )
    print(f"{BORDER} photosites cut at the border; in brackets: worse than noisy by {WORSE};")
    print("single pass, nothing random but the estimate's choice of blocks, seed 0")

    def estimate(mosaic: Mosaic, iso: int | None) -> SensorNoise:
        noise = estimate_sensor_noise(mosaic.values[0, 0], mosaic.colours[0], iso=iso)
        if noise is None:
            raise SystemExit("a mosaic with too little that is not clipped")
        return noise

    knowing: dict[str, Callable[[Mosaic, int], SensorNoise]] = {
        "told a and b": lambda _, iso: SensorNoise(a=laws[iso][0], b=laws[iso][1]),
        "estimated, with the ISO": estimate,
        "estimated, pixels alone": lambda mosaic, _: estimate(mosaic, None),
    }
    table: dict[str, list[str]] = {"noisy": [], **{row: [] for row in knowing}}
    for iso in laws:
        scores: dict[str, list[float]] = {row: [] for row in table}
        for name in names:
            noisy = read_mosaic(args.folder / f"{name}_{iso}.dng")
            clean = read_mosaic(args.folder / f"{name}_clean.dng")
            scores["noisy"].append(psnr(noisy.values, clean))
            for row, noise in knowing.items():
                denoised = denoise_mosaic(network, noisy, noise(noisy, iso))
                scores[row].append(psnr(denoised, clean))
        for row, values in scores.items():
            pairs = zip(values, scores["noisy"], strict=True)
            worse = sum(value < noisy - WORSE for value, noisy in pairs)
            table[row].append(f"{np.mean(values):6.2f} ({worse})")
    print(f"{'':<24}" + "".join(f"{iso:>11}" for iso in laws))
    for row, cells in table.items():
        print(f"{row:<24}" + "".join(f"{cell:>11}" for cell in cells))


if __name__ == "__main__":
    main()

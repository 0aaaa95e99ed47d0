"""Turn a training state into weights that ship.

    python -m training.export --state pretrain.pt --name photo

Writes the averaged network in half precision into the package, and prints the size and sha256
that belong into `weights_manifest.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import amsnet_cli
from amsnet_cli.core.networks import CompactUNetConfig
from amsnet_cli.model import Inference, ModelConfig, build_network, save_model
from amsnet_cli.weights.store import sha256_of


def main() -> None:
    """Parse, convert, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--state", type=Path, required=True, help="written by training.pretrain")
    parser.add_argument("--name", default="photo")
    args = parser.parse_args()

    state = torch.load(args.state, map_location="cpu", weights_only=True)
    config = ModelConfig(
        network=CompactUNetConfig(),
        inference=Inference(passes="single", n_masks=4, stride=1, repeats=2),
        provenance={"made_by": "training.pretrain", "steps": state["step"]},
    )
    network = build_network(config)
    network.load_state_dict(state["average"])
    bundled = Path(amsnet_cli.__file__).parent / "weights" / "bundled"
    path = bundled / f"{args.name}.safetensors"
    save_model(path, network, config, torch.float16)
    print(f'"size": {path.stat().st_size},\n"sha256": "{sha256_of(path)}",')


if __name__ == "__main__":
    main()

"""Turn what pretraining or a fit has made into weights that ship.

    python -m training.export photo.safetensors --name photo
    python -m training.export first.safetensors second.safetensors --shares .3 .7
    python -m training.export pretrained.safetensors fitted.safetensors --shares .6 .4

Writes the network in half precision into the package, and its size, sha256 and how to run it into
the entry of `weights_manifest.json`. Several of one network, taken along different last stretches,
or one and what was fitted from it, are averaged weight by weight (Wortsman et al., "Model soups",
ICML 2022, and "Robust fine-tuning of zero-shot models", CVPR 2022). Scores, limits and what it was
trained on are for people.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor

import amsnet_cli
from amsnet_cli.model import Model, ModelConfig, build_network, load_model, save_model
from amsnet_cli.weights.manifest import sha256_of

PACKAGE = Path(amsnet_cli.__file__).parent


def main() -> None:
    """Parse, convert, save, enter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="by training.pretrain, fit or this")
    parser.add_argument("--shares", type=float, nargs="+", help="of several; default: equal")
    parser.add_argument("--name", default="photo", help="of the bundled entry to replace")
    parser.add_argument("--noise", choices=("any", "white"), default="any", help="made for")
    parser.add_argument("--white", default="", help="bundled weights for white noise")
    args = parser.parse_args()

    shares = args.shares or [1 / len(args.models)] * len(args.models)
    if len(shares) != len(args.models):
        parser.error("--shares needs as many numbers as there are files")
    model = averaged(args.models, shares)
    config = dataclasses.replace(model.config, noise=args.noise, white=args.white)
    path = PACKAGE / "weights" / "bundled" / f"{args.name}.safetensors"
    save_model(path, model.network, config, torch.float16)
    enter(PACKAGE.parent / "weights_manifest.json", args.name, path, config)
    print(f"{path}: {path.stat().st_size} bytes, sha256 {sha256_of(path)}")


def averaged(paths: list[Path], shares: list[float]) -> Model:
    """Make a model of several of the same network; the last says how it is run."""
    models = [load_model(path) for path in paths]
    if len(models) == 1:
        return models[0]
    origins = [model.config.provenance for model in models]
    config = dataclasses.replace(
        models[-1].config, cameras={},
        provenance={"made_by": "training.export", "averaged": origins, "weights": shares},
    )  # fmt: skip
    network = build_network(config)
    network.load_state_dict(weighted([m.network.state_dict() for m in models], shares))
    return Model(network=network, config=config, name=paths[0].stem)


def weighted(states: list[dict[str, Tensor]], shares: list[float]) -> dict[str, Tensor]:
    """Average weights by their shares."""
    return {
        key: torch.stack([w * s[key] for w, s in zip(shares, states, strict=True)]).sum(0)
        for key in states[0]
    }


def enter(manifest: Path, name: str, path: Path, config: ModelConfig) -> None:
    """Write what a bundled file is into its entry."""
    content = json.loads(manifest.read_text("utf-8"))
    [entry] = [e for e in content["weights"] if e["name"] == name and e["bundled"]]
    entry["file"] = {
        "name": path.name, "size": path.stat().st_size, "sha256": sha256_of(path)
    }  # fmt: skip
    entry["fill"], entry["mask_channel"] = config.fill, config.mask_channel
    entry["inference"] = dataclasses.asdict(config.inference)
    manifest.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()

"""Export a trained model as weights that ship with the package.

    python -m training.export photo.safetensors --name photo
    python -m training.export first.safetensors second.safetensors --weights .3 .7

Writes the network in half precision into the package. Writes its size, sha256 and inference
settings into its entry of `weights_manifest.json`; scores, limits and training data of the entry
are written by hand.

Several models of one architecture are averaged weight by weight: several runs, or a model and its
fine-tuned version (Wortsman et al., "Model soups", ICML 2022; Wortsman et al., "Robust fine-tuning
of zero-shot models", CVPR 2022).
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
from amsnet_cli.weights.store import find_weights

PACKAGE = Path(amsnet_cli.__file__).parent


def main() -> None:
    """Parse, average, save, update the manifest."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", help="model files, or names of weights")
    parser.add_argument("--weights", type=float, nargs="+", help="of the average; default: equal")
    parser.add_argument("--name", default="photo", help="bundled entry to replace")
    parser.add_argument("--ensemble", type=int, help="orientations to average")
    args = parser.parse_args()

    weights = args.weights or [1 / len(args.models)] * len(args.models)
    if len(weights) != len(args.models):
        parser.error("--weights needs one number per file")
    model = average_models([find_weights(name) for name in args.models], weights)
    config = model.config
    if args.ensemble:
        inference = dataclasses.replace(config.inference, ensemble=args.ensemble)
        config = dataclasses.replace(config, inference=inference)
    path = PACKAGE / "weights" / "bundled" / f"{args.name}.safetensors"
    save_model(path, model.network, config, torch.float16)
    update_manifest(PACKAGE.parent / "weights_manifest.json", args.name, path, config)
    print(f"{path}: {path.stat().st_size} bytes, sha256 {sha256_of(path)}")


def average_models(paths: list[Path], weights: list[float]) -> Model:
    """Average models of one architecture; inference settings are those of the last."""
    models = [load_model(path) for path in paths]
    if len(models) == 1:
        return models[0]
    origins = [model.config.provenance for model in models]
    config = dataclasses.replace(
        models[-1].config, cameras={},
        provenance={"made_by": "training.export", "averaged": origins, "weights": weights},
    )  # fmt: skip
    network = build_network(config)
    network.load_state_dict(average_weights([m.network.state_dict() for m in models], weights))
    return Model(network=network, config=config, name=paths[0].stem)


def average_weights(states: list[dict[str, Tensor]], weights: list[float]) -> dict[str, Tensor]:
    """Weighted average of state dicts."""
    return {
        key: torch.stack([w * s[key] for w, s in zip(weights, states, strict=True)]).sum(0)
        for key in states[0]
    }


def update_manifest(manifest: Path, name: str, path: Path, config: ModelConfig) -> None:
    """Write size, sha256 and inference settings of a bundled file into its entry."""
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

r"""Train the shipped networks on clean photos with simulated camera noise.

    python -m training.pretrain --photos CLEAN_DIR --state pretrain.pt --steps 20000 --minutes 9 \
        --train photo='{"widths": [48, 96, 160], "blocks": [1, 1, 2], "unshuffle": 2}'

Run it again with the same `--state` to resume, until it prints "done". It uses CUDA if available.
Several networks can be trained at once on the same batches: CPUs simulate the noise, and a GPU has
time for more than one network. Each network's moving average of the weights (about the last
thousand steps) is saved as a model file beside the state, for `training.export`.

`--noisy FOLDER --teacher MODEL` adds distillation: some patches of each step come from real noisy
photos, and their target is the teacher's self-ensemble. Training on simulated noise alone is worse
on real photos, and undoes a fit to them.

One network learns both passes: three in four patches are not masked (single pass), the others have
a quarter or half of their pixels masked (multi-mask pass and `amsnet fit --preset masked`).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn

from amsnet_cli.atomic import whole_file
from amsnet_cli.core.multi_mask import single_pass
from amsnet_cli.core.networks import CompactUNetConfig, MaskedNetwork
from amsnet_cli.device import fast_precision
from amsnet_cli.fitting.trainer import Trainer, TrainerConfig
from amsnet_cli.model import Inference, ModelConfig, build_network, load_model, save_model
from amsnet_cli.research.evaluation import psnr
from amsnet_cli.weights.store import find_weights
from training.patches import (
    SIMULATIONS,
    Batch,
    CleanPatches,
    DistilledPatches,
    ReplayBuffer,
    simulated_batches,
)

WARMUP_STEPS = 200
WEIGHT_DECAY = 1e-4
EMA_DECAY = 0.999
BETA2 = 0.99
GRAD_CLIP = 0.2
"""Twice the usual norm after the warm-up. With the low `BETA2` it limits the effect of single
patches of extreme noise."""
LOSS_FLOOR = 0.5 / 255
"""RMSE in [0, 1] units below which further improvement of a patch hardly counts."""
REPLAY_SIZE = 64
"""Batches in the replay buffer if each is used more than once."""


def load_start(start: str) -> tuple[MaskedNetwork, ModelConfig]:
    """Return a network and its config: a model's, or fresh weights for a configuration in JSON."""
    if start.startswith("{"):
        shape = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(start).items()}
        config = ModelConfig(network=CompactUNetConfig(**shape))
        network = build_network(config)
    else:
        model = load_model(find_weights(start))
        config, network = model.config, model.network
    inference = Inference(passes="single", n_masks=4, stride=1, repeats=2)
    return network, replace(config, inference=inference)


def loss(network: nn.Module, batch: Batch) -> Tensor:
    """Mean RMSE of the patches: the root, so that strong noise does not drown mild noise."""
    noisy, target, mask = batch
    error = (network(noisy, mask) - target).square().mean((1, 2, 3))
    return (error + LOSS_FLOOR**2).sqrt().mean()


def psnr_on(network: MaskedNetwork, folder: Path, device: torch.device, count: int = 5) -> float:
    """Mean single-pass PSNR in dB on the first pictures of `folder`/noisy and /clean."""
    scores = []
    for noisy_path in sorted((folder / "noisy").iterdir())[:count]:
        clean_path = folder / "clean" / noisy_path.name
        noisy, clean = (cv2.imread(str(p))[..., ::-1] for p in (noisy_path, clean_path))
        x = torch.from_numpy(noisy.copy()).to(device).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode(), fast_precision(device):
            denoised = single_pass(network, x)[0].float()
        pixels = (denoised * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
        scores.append(psnr(pixels, clean))
    return sum(scores) / len(scores)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of clean photos")
    parser.add_argument("--state", type=Path, required=True, help="file of the training state")
    parser.add_argument(
        "--train", nargs="+", required=True, metavar="NAME=START",
        help="networks; START is a model, or the JSON of a CompactUNetConfig for fresh weights",
    )  # fmt: skip
    parser.add_argument("--noisy", type=Path, help="folder of real noisy photos to distill on")
    parser.add_argument("--teacher", help="model that denoises them")
    parser.add_argument("--distilled", type=int, default=8, help="of these patches per step")
    parser.add_argument("--models", type=Path, help="folder of the models; default: of the state")
    parser.add_argument("--noise", choices=SIMULATIONS, default="camera", help="to simulate")
    parser.add_argument("--evaluate", type=Path, nargs="*", default=[], help="sets to log PSNR of")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop this run after")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch-size", type=int, default=96)
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that simulate noise")
    parser.add_argument("--reuse", type=int, default=1, help="steps per simulated batch")
    parser.add_argument("--log-every", type=int, default=250, help="steps; saves as well")
    args = parser.parse_args()
    if bool(args.noisy) != bool(args.teacher):
        parser.error("--noisy and --teacher go together")
    return args


def main() -> None:
    """Parse, train, save."""
    args = parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    hyper_parameters = TrainerConfig(
        learning_rate=args.lr, warmup_steps=WARMUP_STEPS, beta2=BETA2, weight_decay=WEIGHT_DECAY,
        grad_clip=GRAD_CLIP, ema_decay=EMA_DECAY,
    )  # fmt: skip
    trainers: dict[str, Trainer[MaskedNetwork]] = {}
    configs: dict[str, ModelConfig] = {}
    for name, start in (network.split("=", 1) for network in args.train):
        network, configs[name] = load_start(start)
        trainers[name] = Trainer(network, hyper_parameters, device=device)
    step = 0
    if args.state.exists():
        state = torch.load(args.state, map_location=device, weights_only=True)
        for name, trainer in trainers.items():
            trainer.load_state_dict(state[name])
            step = trainer.steps

    def save() -> None:
        with whole_file(args.state) as file:
            torch.save({name: trainer.state_dict() for name, trainer in trainers.items()}, file)
        provenance = {"made_by": "training.pretrain", "steps": step}
        for name, trainer in trainers.items():
            path = (args.models or args.state.parent) / f"{name}.safetensors"
            save_model(path, trainer.ema, replace(configs[name], provenance=provenance))

    # The buffer is not part of the state: when training resumes, its batches are simulated again.
    replay = ReplayBuffer(1 if args.reuse == 1 else REPLAY_SIZE, args.seed)
    replay.added = max(0, step // args.reuse - replay.size + 1)
    patches = CleanPatches(
        args.photos, patch_size=args.patch_size, batch=args.batch,
        first=replay.added, count=-(-args.steps // args.reuse), seed=args.seed,
    )  # fmt: skip
    distilled = args.noisy and DistilledPatches(
        args.noisy, args.teacher, patch_size=args.patch_size, batch=args.distilled,
        seed=args.seed, device=device,
    )  # fmt: skip
    started, losses = time.monotonic(), []
    for fresh in simulated_batches(patches, args.workers, device, SIMULATIONS[args.noise]):
        replay.add(fresh)
        while step < min(args.steps, replay.added * args.reuse):
            batch = replay.draw(step)
            if distilled:
                batch = tuple(map(torch.cat, zip(batch, distilled.draw(step), strict=True)))
            losses.append([
                trainer.step(lambda network, batch=batch: loss(network, batch), step / args.steps)
                for trainer in trainers.values()
            ])  # fmt: skip
            step += 1
            minutes = (time.monotonic() - started) / 60
            out_of_time = minutes > args.minutes
            if step % args.log_every == 0 or step == args.steps or out_of_time:
                print(f"step {step}  {minutes:.2f} min", flush=True)
                mean_losses = torch.tensor(losses).mean(0).tolist()
                for (name, trainer), value in zip(trainers.items(), mean_losses, strict=True):
                    scores = {
                        f.name: round(psnr_on(trainer.ema, f, device), 2) for f in args.evaluate
                    }
                    print(f"  {name}  loss {value:.5f}  {scores}", flush=True)
                losses.clear()
                save()
            if out_of_time and step < args.steps:
                print("run again to resume", flush=True)
                return
    print("done", flush=True)


if __name__ == "__main__":
    main()

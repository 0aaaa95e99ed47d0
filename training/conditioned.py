r"""Train `photo`, the network that is told the noise, and its noise estimator.

    python -m training.conditioned pairs --photos CLEAN_DIR --work DIR
    python -m training.conditioned estimator --work DIR --minutes 30
    python -m training.conditioned estimates --work DIR --noisy NOISY_DIR --teachers fine photo
    python -m training.conditioned network --work DIR --minutes 150 --decay 0.5

Each stage keeps its result in DIR for the next. `pairs` simulates cameras and white noise.
`estimator` learns to tell the noise of a patch. `estimates` notes what it says of every pair, of
clean photos, and of real noisy ones, whose target is the mean of the teachers' self-ensembles.
`network` trains on all of them, told the true noise or, more often, the estimate with its mistakes;
called again, it resumes where it stopped, and with `--decay` the learning rate falls to zero over
the last share of the call. `--start MODEL` begins with the U-Net of a model, told or not; residual
blocks that it lacks (`--blocks 2 3 4`) start as the identity. Beside its state lies
`photo.safetensors`, for `training.export`. With `--blind` the network is told the same of every
patch; denoise with `--noise 10` then. Runs on CUDA where there is a GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.atomic import whole_file
from amsnet_cli.core.networks import ConditionedUNetConfig, MaskedNetwork
from amsnet_cli.core.networks.conditioned import ConditionedUNet
from amsnet_cli.core.networks.noise_estimator import NoiseEstimator
from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.device import choose_device, fast_precision
from amsnet_cli.fitting.trainer import Trainer, TrainerConfig
from amsnet_cli.inference.memory import reuse_memory
from amsnet_cli.model import Inference, ModelConfig, build_network, load_model, save_model
from amsnet_cli.weights.store import find_weights
from training.conditioned_patches import (
    BATCH,
    CLEAN_EVERY,
    CLEAN_SHARE,
    PATCH,
    REAL,
    SIDE,
    Batches,
    Pairs,
    augmented,
    true_cells,
    true_noise,
)
from training.long_training import budget, load_smaller, numbers
from training.patches import (
    DISTILLATION_SCALES,
    SIMULATIONS,
    CleanPatches,
    add_noise,
    self_ensemble,
)

WHITE_EVERY = 5
"""Every fifth batch of pairs has white noise, the others that of a camera."""
ESTIMATOR_PATCH = 192
UNIT_FLOOR, ERROR_FLOOR = 0.3 / 255, 0.1 / 255
"""Errors are measured in the noise's standard deviation plus the first; below the second they are
done."""
BALANCE, BALANCE_AT = 0.35, 8 / 255
"""A patch counts by the power of its noise relative to the second: 0 counts all equally, 1 by their
absolute error."""
ESTIMATOR = TrainerConfig(
    learning_rate=2e-3, warmup_steps=200, beta2=0.99, weight_decay=1e-4, grad_clip=1.0,
    ema_decay=0.995, bfloat16=False,
)  # fmt: skip


def simulate_pairs(args: argparse.Namespace) -> None:
    """Simulate noisy and clean pairs into two files."""
    batches = CleanPatches(
        args.photos, patch_size=SIDE, batch=4, first=0, count=args.pairs // 4, seed=args.seed
    )
    shape = (4 * len(batches), 3, SIDE, SIDE)
    parts = [args.work / f"{name}.part" for name in ("noisy", "clean")]
    noisy, clean = (
        np.lib.format.open_memmap(str(part), "w+", dtype, shape)
        for part, dtype in zip(parts, (np.uint8, np.uint16), strict=True)
    )
    for i in range(len(batches)):
        kind = "white" if i % WHITE_EVERY == WHITE_EVERY - 1 else "camera"
        x, y, _ = add_noise(batches[i], simulation=SIMULATIONS[kind])
        noisy[4 * i : 4 * i + 4] = (x * 255).round().byte().numpy()
        clean[4 * i : 4 * i + 4] = (y.clamp(0, 1) * 65535).round().numpy().astype(np.uint16)
        if i % 100 == 0:
            print(f"{4 * i} of {shape[0]} pairs", flush=True)
    for array, part in zip((noisy, clean), parts, strict=True):
        array.flush()
        os.replace(part, part.with_suffix(".npy"))


def train_estimator(args: argparse.Namespace) -> None:
    """Train the estimator: Laplace likelihood of log sigma, L1 of the spectrum."""
    device, rng = choose_device("auto"), np.random.default_rng(args.seed)
    torch.manual_seed(args.seed)
    pairs, network = Pairs(args.work), NoiseEstimator().to(device)
    target = args.work / "estimator.pt"
    if target.exists():
        network.load_state_dict(torch.load(target, weights_only=True))
    trainer = Trainer(network, ESTIMATOR, device=device)
    losses: list[Tensor] = []

    def loss_of(network: nn.Module, noisy: Tensor, clean: Tensor) -> Tensor:
        cells, truth = network(noisy), true_cells(255 * (noisy - clean), clean)
        smooth = F.avg_pool2d(F.pad((2 * truth.log_sigma).exp(), (1,) * 4, mode="reflect"), 3, 1)
        error = (cells.log_sigma - 0.5 * smooth.log()).abs()
        unsure = cells.log_error.clamp(-4, 3)
        loss = (error * (-unsure).exp() + unsure).mean()
        loss = loss + 0.3 * (cells.spectrum - truth.spectrum).abs().mean()
        losses.append(torch.stack([loss, error.mean()]).detach())
        return loss

    for step, progress in budget(args.minutes, args.steps):
        noisy, clean = (
            torch.stack(patches).to(device) for patches in zip(
                *(_estimator_patch(pairs, rng) for _ in range(BATCH)), strict=True
            )
        )  # fmt: skip
        trainer.step(partial(loss_of, noisy=noisy, clean=clean), progress)
        if step % 100 == 99:
            total, of_sigma = torch.stack(losses).mean(0).tolist()
            print(f"step {step + 1}  loss {total:.3f}  log sigma {of_sigma:.3f}", flush=True)
            losses.clear()
    torch.save(trainer.ema.state_dict(), target)


def _estimator_patch(pairs: Pairs, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    noiseless = bool(rng.random() < CLEAN_SHARE["estimator"])
    pair = pairs.pair(int(rng.integers(len(pairs))), noiseless=noiseless)
    return augmented(pair, ESTIMATOR_PATCH, rng)


def note_estimates(args: argparse.Namespace) -> None:
    """Note what the estimator says of every pair, of clean ones, and of real noisy photos."""
    estimator = NoiseEstimator()
    estimator.load_state_dict(torch.load(args.work / "estimator.pt", weights_only=True))
    pairs = Pairs(args.work)
    notes: dict[str, list[PhotoNoise]] = {name: [] for name in (
        "true", "estimate", "clean true", "clean estimate", "real estimate"
    )}  # fmt: skip
    for prefix, step in (("", 1), ("clean ", CLEAN_EVERY)):
        for i in range(0, len(pairs), step):
            noisy, clean = (x[None] for x in pairs.pair(i, noiseless=bool(prefix)))
            notes[prefix + "true"].append(true_noise(255 * (noisy - clean), clean, estimator))
            notes[prefix + "estimate"].append(estimator.estimate(noisy))
    teachers = [load_model(find_weights(name)).network for name in args.teachers]
    real = []
    for path in sorted(args.noisy.iterdir()):
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
        for scale in DISTILLATION_SCALES:
            size = [round(side * scale) for side in photo.shape[1::-1]]
            if min(size) < PATCH:
                continue
            pixels = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
            noisy = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
            with fast_precision(torch.device("cpu")):
                results = [self_ensemble(teacher, noisy) for teacher in teachers]
            target = torch.stack(results).mean(0)
            real.append(((noisy * 255).round().byte(), target.half()))
            notes["real estimate"].append(estimator.estimate(noisy[None]))
    together = {name: vars(PhotoNoise.stack(noises)) for name, noises in notes.items()}
    error = together["estimate"]["log_sigma"] - together["true"]["log_sigma"]
    print(f"log sigma: median error {error.median():+.3f}, of its size {error.abs().median():.3f}")
    torch.save({"noise": together, "real": real}, args.work / "estimates.pt")


def train_network(args: argparse.Namespace) -> None:
    """Train the network: root mean square errors in units of each patch's noise."""
    device = choose_device("auto")
    reuse_memory()
    torch.manual_seed(args.seed)
    config = ModelConfig(
        network=shape_of(args.blocks),
        inference=Inference(passes="single", n_masks=4, stride=1, repeats=2),
    )
    network = build_network(config).to(device)
    unet = network.network
    assert isinstance(unet, ConditionedUNet)
    if args.start:
        start_from(unet, load_model(find_weights(args.start)).network)
    trainer = Trainer(network, numbers(args.rate, args.decay), device=device)
    target = args.work / "network.pt"
    if target.exists():
        trainer.load_state_dict(torch.load(target, map_location=device, weights_only=True))
    estimator = torch.load(args.work / "estimator.pt", weights_only=True)
    for model in (network, trainer.ema):
        assert isinstance(model.network, ConditionedUNet)
        model.network.estimator.load_state_dict(estimator)

    def save() -> None:
        with whole_file(target) as file:
            torch.save(trainer.state_dict(), file)
        made = {"made_by": "training.conditioned", "steps": trainer.steps}
        save_model(
            args.work / "photo.safetensors", trainer.ema,
            dataclasses.replace(config, provenance=made),
        )  # fmt: skip

    def loss_of(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor, PhotoNoise]) -> Tensor:
        noisy, clean, mask, noise = (x.to(device) for x in batch)
        denoised = network(noisy, mask, noise)
        unit = (noisy - clean).square().mean((1, 2, 3)).sqrt() + UNIT_FLOOR
        error = (denoised - clean).square().mean((1, 2, 3))
        in_units = (error + ERROR_FLOOR**2).sqrt() / unit
        losses.append(torch.stack([in_units[:-REAL].mean(), in_units[-REAL:].mean()]).detach())
        return (in_units * (unit / BALANCE_AT) ** BALANCE).mean()

    batches, saved = Batches(args.work, args.seed, blind=args.blind), time.monotonic()
    losses: list[Tensor] = []
    for step, progress in budget(args.minutes, args.steps, trainer.steps):
        trainer.step(partial(loss_of, batch=batches.draw(step)), progress)
        if trainer.steps % args.log_every == 0:
            simulated, real = torch.stack(losses).mean(0).tolist()
            print(f"step {trainer.steps}  simulated {simulated:.4f}  real {real:.4f}", flush=True)
            losses.clear()
        if time.monotonic() - saved > 240:
            save()
            saved = time.monotonic()
    save()


def shape_of(blocks: list[int] | None) -> ConditionedUNetConfig:
    """Return the shape of `photo`, or one with another number of residual blocks at each level."""
    config = ConditionedUNetConfig()
    if not blocks:
        return config
    return dataclasses.replace(config, unet=dataclasses.replace(config.unet, blocks=tuple(blocks)))


def start_from(unet: ConditionedUNet, start: MaskedNetwork) -> None:
    """Copy the U-Net of a network.

    Where it is not told, the new inputs change nothing at first; nor do residual blocks that it
    lacks.
    """
    if isinstance(start.network, ConditionedUNet):
        state = start.network.unet.state_dict()
    else:
        state = start.network.state_dict()
        head = torch.zeros_like(unet.unet.head.weight)
        head[:, : state["head.weight"].shape[1]] = state["head.weight"]
        state["head.weight"] = head
    load_smaller(unet.unet, state)


STAGES = {
    "pairs": simulate_pairs, "estimator": train_estimator, "estimates": note_estimates,
    "network": train_network,
}  # fmt: skip


def main() -> None:
    """Parse, and run a stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--work", type=Path, required=True, help="folder of all results")
    parser.add_argument("--photos", type=Path, help="folder of clean photos")
    parser.add_argument("--noisy", type=Path, help="folder of real noisy photos")
    parser.add_argument(
        "--teachers", nargs="+", default=["fine"], help="models whose mean denoises them"
    )
    parser.add_argument("--pairs", type=int, default=8000)
    parser.add_argument("--start", help="model whose U-Net the network begins with")
    parser.add_argument(
        "--blind",
        action="store_true",
        help="tell the network the same noise of every patch, to measure what telling is worth",
    )
    parser.add_argument("--blocks", type=int, nargs=3, help="residual blocks at each level")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end this call after")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of this call at most")
    parser.add_argument("--rate", type=float, default=2e-4, help="learning rate of the network")
    parser.add_argument("--decay", type=float, default=0.0, help="last share of this call")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log-every", type=int, default=100, help="steps")
    args = parser.parse_args()
    needed = {"pairs": ["photos"], "estimates": ["noisy"]}.get(args.stage, [])
    for name in needed:
        if getattr(args, name) is None:
            parser.error(f"{args.stage} needs --{name}")
    args.work.mkdir(parents=True, exist_ok=True)
    STAGES[args.stage](args)


if __name__ == "__main__":
    main()

r"""Train `photo`, the network that is told the noise, and its noise estimator.

    python -m training.conditioned pairs --photos CLEAN_DIR --work DIR
    python -m training.conditioned estimator --work DIR --minutes 30
    python -m training.conditioned estimates --work DIR --noisy NOISY_DIR --teachers fine photo
    python -m training.conditioned network --work DIR --minutes 150 --decay 0.5

Each stage keeps its result in DIR for the next. `pairs` simulates cameras and white noise.
`estimator` learns to tell the noise of a patch. `estimates` notes what it says of every pair, of
clean photos, and of real noisy ones, whose target is the mean of the teachers' self-ensembles.
`network` trains on all of them, told the true noise or, more often, the estimate with its mistakes;
called again, it goes on where it stopped, and with `--decay` the learning rate falls to zero over
the last share of the call. `--start MODEL` begins with the U-Net of a model, told or not; residual
blocks that it lacks (`--blocks 2 3 4`) start as the identity. Beside its state lies
`photo.safetensors`, for `training.export`. Runs on CUDA where there is a GPU.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amsnet_cli.core.masks import random_mask
from amsnet_cli.core.networks import ConditionedUNetConfig, MaskedNetwork
from amsnet_cli.core.networks.conditioned import ConditionedUNet
from amsnet_cli.core.networks.noise_estimator import CELL, NoiseCells, NoiseEstimator
from amsnet_cli.core.photo_noise import PhotoNoise, spectrum_of
from amsnet_cli.device import choose_device, fast_precision
from amsnet_cli.inference.memory import reuse_memory
from amsnet_cli.model import Inference, ModelConfig, build_network, load_model, save_model
from amsnet_cli.weights.store import find_weights
from training.muon import Muon
from training.patches import (
    DISTILLATION_SCALES,
    SIMULATIONS,
    CleanPatches,
    add_noise,
    self_ensemble,
)

SIDE = 256
"""Of the simulated pairs, in pixels."""
WHITE_EVERY = 5
"""Every fifth batch of pairs has white noise, the others that of a camera."""
CLEAN_EVERY = 5
"""Every fifth pair is also used with its clean version as input."""
CLEAN_SHARE = {"estimator": 0.15, "network": 0.1}
"""Share of patches without noise but that of rounding."""
ESTIMATOR_PATCH, PATCH = 192, 128
BATCH, REAL = 8, 2
"""Patches of a step, and how many of them are real."""
MASK_RATIOS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.5)
TRUE_SHARE = 0.35
"""Share of simulated patches whose true noise is told."""
MISJUDGED_SHARE, MISJUDGED, MISJUDGED_MOST = 0.4, 0.15, 3.0
"""Share of simulated patches whose noise is told wrong; its log's error is Student's t with three
degrees of freedom on this scale, as few estimates are far off; the largest factor."""
FLOOR = 0.02
"""Least standard deviation that is told, on a scale of 255."""
UNIT_FLOOR, ERROR_FLOOR = 0.3 / 255, 0.1 / 255
"""Errors are measured in the noise's standard deviation plus the first; below the second they are
done."""
BALANCE, BALANCE_AT = 0.35, 8 / 255
"""A patch counts by the power of its noise relative to the second: 0 counts all equally, 1 by their
absolute error."""
WARM_UP = 200
EMA_DECAY = {"estimator": 0.995, "network": 0.999}
BETAS = (0.9, 0.99)


def true_cells(noise: Tensor, photo: Tensor) -> NoiseCells:
    """Return what an estimator should say of noise.

    Args:
        noise: (B, 3, H, W) on a scale of 255.
        photo: clean, (B, 3, H, W) in [0, 1].
    """
    power = F.avg_pool2d(noise.square(), CELL)
    log_sigma = 0.5 * (power + FLOOR**2).log()
    return NoiseCells(
        log_sigma=log_sigma, log_error=torch.zeros_like(log_sigma[:, :1]),
        spectrum=spectrum_of(noise)[:, :, None, None].expand(-1, -1, *log_sigma.shape[2:]),
        brightness=F.avg_pool2d(photo, CELL),
    )  # fmt: skip


def true_noise(noise: Tensor, photo: Tensor, estimator: NoiseEstimator) -> PhotoNoise:
    """Return the noise of one pair: its mean power at each brightness, arguments as above."""
    cells = true_cells(noise, photo)
    power = dataclasses.replace(cells, log_sigma=(2 * cells.log_sigma).exp())
    averaged = estimator.summarise(power)
    return PhotoNoise(log_sigma=0.5 * averaged.log_sigma.log(), spectrum=averaged.spectrum)


class Pairs:
    """Simulated pairs in DIR, 256 pixels a side."""

    def __init__(self, work: Path) -> None:
        self.noisy = np.load(work / "noisy.npy", mmap_mode="r")  # (N, 3, S, S) uint8
        self.clean = np.load(work / "clean.npy", mmap_mode="r")  # (N, 3, S, S) uint16

    def __len__(self) -> int:
        return len(self.noisy)

    def pair(self, index: int, *, noiseless: bool = False) -> tuple[Tensor, Tensor]:
        """Return noisy and clean, (3, S, S) float32 in [0, 1]."""
        clean = torch.from_numpy(self.clean[index].astype(np.float32)) / 65535
        noisy = torch.from_numpy(self.noisy[index].copy()).float() / 255
        return (clean * 255).round() / 255 if noiseless else noisy, clean


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
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), betas=BETAS, weight_decay=1e-4)
    losses: list[Tensor] = []
    for step, progress in budget(args.minutes, args.steps):
        set_rate([optimiser], 2e-3 * min(1, (step + 1) / WARM_UP) * _cosine(progress))
        noisy, clean = (
            torch.stack(patches).to(device) for patches in zip(
                *(_estimator_patch(pairs, rng) for _ in range(BATCH)), strict=True
            )
        )  # fmt: skip
        cells, truth = network(noisy), true_cells(255 * (noisy - clean), clean)
        smooth = F.avg_pool2d(F.pad((2 * truth.log_sigma).exp(), (1,) * 4, mode="reflect"), 3, 1)
        error = (cells.log_sigma - 0.5 * smooth.log()).abs()
        unsure = cells.log_error.clamp(-4, 3)
        loss = (error * (-unsure).exp() + unsure).mean()
        loss = loss + 0.3 * (cells.spectrum - truth.spectrum).abs().mean()
        losses.append(torch.stack([loss, error.mean()]).detach())
        descend(network, average, [optimiser], loss, step, clip=1.0, keep=EMA_DECAY["estimator"])
        if step % 100 == 99:
            total, of_sigma = torch.stack(losses).mean(0).tolist()
            print(f"step {step + 1}  loss {total:.3f}  log sigma {of_sigma:.3f}", flush=True)
            losses.clear()
    torch.save(average.state_dict(), target)


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


class Batches:
    """Draws patches with the noise that the network is told."""

    def __init__(self, work: Path, seed: int) -> None:
        self.pairs = Pairs(work)
        notes = torch.load(work / "estimates.pt", weights_only=True)
        self.noise = {name: PhotoNoise(**noise) for name, noise in notes["noise"].items()}
        self.real, self.seed = notes["real"], seed
        pixels = np.array([noisy[0].numel() for noisy, _ in self.real], dtype=np.float64)
        self.weights = pixels / pixels.sum()

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor, PhotoNoise]:
        """Draw noisy and target (B, 3, P, P), masks, and the noise to tell; `REAL` come last."""
        rng = np.random.default_rng((self.seed, step))
        drawn = [self._simulated(rng) for _ in range(BATCH - REAL)]
        drawn += [self._real(rng) for _ in range(REAL)]
        ratios = torch.from_numpy(rng.choice(MASK_RATIOS, BATCH)).float()
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        mask = random_mask(ratios, (BATCH, PATCH, PATCH), generator)
        noisy, target = (torch.stack([d[i] for d in drawn]) for i in (0, 1))
        return noisy, target, mask, PhotoNoise.stack([d[2] for d in drawn])

    def _simulated(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, PhotoNoise]:
        index, prefix = int(rng.integers(len(self.pairs))), ""
        if rng.random() < CLEAN_SHARE["network"]:
            index, prefix = index // CLEAN_EVERY * CLEAN_EVERY, "clean "
        told = self._noise(
            prefix + ("true" if rng.random() < TRUE_SHARE else "estimate"),
            index // CLEAN_EVERY if prefix else index,
        )
        if rng.random() < MISJUDGED_SHARE:
            factor = math.exp(MISJUDGED * rng.standard_t(3))
            told = told.scaled(min(max(factor, 1 / MISJUDGED_MOST), MISJUDGED_MOST))
        pair = self.pairs.pair(index, noiseless=bool(prefix))
        return (*augmented(pair, PATCH, rng), told)

    def _real(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, PhotoNoise]:
        index = int(rng.choice(len(self.real), p=self.weights))
        noisy, target = self.real[index]
        pair = augmented((noisy.float() / 255, target.float()), PATCH, rng)
        return (*pair, self._noise("real estimate", index))

    def _noise(self, name: str, index: int) -> PhotoNoise:
        noise = self.noise[name]
        return PhotoNoise(
            log_sigma=noise.log_sigma[index : index + 1], spectrum=noise.spectrum[index : index + 1]
        )


def augmented(
    pair: tuple[Tensor, Tensor], side: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cut the same square out of both, turn and mirror it."""
    top, left = (int(rng.integers(n - side + 1)) for n in pair[0].shape[1:])
    turns, mirror = int(rng.integers(4)), bool(rng.random() < 0.5)
    noisy, clean = (
        torch.rot90(x[:, top : top + side, left : left + side], turns, (1, 2)) for x in pair
    )
    return (noisy.flip(2), clean.flip(2)) if mirror else (noisy, clean)


def train_network(args: argparse.Namespace) -> None:
    """Train the network: root mean square errors in units of each patch's noise."""
    device = choose_device("auto")
    reuse_memory()
    torch.manual_seed(args.seed)
    config = ModelConfig(
        network=shape_of(args.blocks),
        inference=Inference(passes="single", n_masks=4, stride=1, repeats=2),
    )
    network, first = build_network(config).train().to(device), 0
    unet = network.network
    assert isinstance(unet, ConditionedUNet)
    if args.start:
        start_from(unet, load_model(find_weights(args.start)).network)
    average = copy.deepcopy(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimisers: list[torch.optim.Optimizer] = [
        Muon([p for p in trained if p.ndim > 1], lr=args.rate),
        torch.optim.AdamW(
            [p for p in trained if p.ndim == 1], args.rate, betas=BETAS, weight_decay=0, fused=True
        ),
    ]
    target = args.work / "network.pt"
    if target.exists():
        state = torch.load(target, map_location=device, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        first = state["step"]
        for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
    estimator = torch.load(args.work / "estimator.pt", weights_only=True)
    for model in (network, average):
        assert isinstance(model.network, ConditionedUNet)
        model.network.estimator.load_state_dict(estimator)

    def save(step: int) -> None:
        part = target.with_suffix(".part")
        torch.save(
            {"step": step, "network": network.state_dict(), "average": average.state_dict(),
             "optimisers": [o.state_dict() for o in optimisers]}, part,
        )  # fmt: skip
        os.replace(part, target)
        made = {"made_by": "training.conditioned", "steps": step}
        save_model(
            args.work / "photo.safetensors", average, dataclasses.replace(config, provenance=made)
        )

    batches, saved, losses = Batches(args.work, args.seed), time.monotonic(), []
    done = first
    for step, progress in budget(args.minutes, args.steps, first):
        falling = (1 - progress) / args.decay if args.decay else 1.0
        set_rate(optimisers, args.rate * min(1.0, (step - first + 1) / WARM_UP, falling))
        noisy, clean, mask, noise = batches.draw(step)
        noisy, clean, mask = (x.to(device) for x in (noisy, clean, mask))
        with fast_precision(device):
            denoised = network(noisy, mask, noise.to(device))
        unit = (noisy - clean).square().mean((1, 2, 3)).sqrt() + UNIT_FLOOR
        error = (denoised - clean).square().mean((1, 2, 3))
        in_units = (error + ERROR_FLOOR**2).sqrt() / unit
        loss = (in_units * (unit / BALANCE_AT) ** BALANCE).mean()
        descend(network, average, optimisers, loss, step, clip=0.5, keep=EMA_DECAY["network"])
        losses.append(torch.stack([in_units[:-REAL].mean(), in_units[-REAL:].mean()]).detach())
        done = step + 1
        if done % args.log_every == 0:
            simulated, real = torch.stack(losses).mean(0).tolist()
            print(f"step {done}  simulated {simulated:.4f}  real {real:.4f}", flush=True)
            losses.clear()
        if time.monotonic() - saved > 240:
            save(done)
            saved = time.monotonic()
    save(done)


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
    missing, unexpected = unet.unet.load_state_dict(state, strict=False)
    if unexpected or any(".first." not in key and ".second." not in key for key in missing):
        raise SystemExit("the model to start from has another shape")
    parameters = dict(unet.unet.named_parameters())
    with torch.no_grad():
        for key in missing:
            if ".second." in key:
                parameters[key].zero_()


def budget(minutes: float, steps: int, first: int = 0) -> Iterator[tuple[int, float]]:
    """Count steps until the minutes or the steps are used, each with the share that is used."""
    started, step, progress = time.monotonic(), first, 0.0
    while progress < 1:
        yield step, progress
        step += 1
        progress = max((time.monotonic() - started) / 60 / minutes, (step - first) / steps)


def descend(
    network: nn.Module, average: nn.Module, optimisers: list[torch.optim.Optimizer], loss: Tensor,
    step: int, *, clip: float, keep: float,
) -> None:  # fmt: skip
    """Take a step and update the moving average of the weights."""
    network.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    for optimiser in optimisers:
        optimiser.step()
    with torch.no_grad():
        torch._foreach_lerp_(
            list(average.parameters()), list(network.parameters()),
            1 - min(keep, (step + 1) / (step + 21)),
        )  # fmt: skip


def set_rate(optimisers: list[torch.optim.Optimizer], rate: float) -> None:
    """Set the learning rate."""
    for group in (group for optimiser in optimisers for group in optimiser.param_groups):
        group["lr"] = rate


def _cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


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

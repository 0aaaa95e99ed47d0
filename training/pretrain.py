"""Train the network that ships, on clean photos under simulated camera noise.

    python -m training.pretrain --photos CLEAN_DIR --state pretrain.pt --steps 20000 --minutes 9

Call it again with the same `--state` until it says that it is done: it goes on where the last
call stopped. Runs on CUDA where there is a GPU. `training.export` turns the state into weights.

One network learns both jobs: three quarters of the patches are seen whole (the single pass), the
others with a quarter or half of their pixels hidden (the masked scheme, for `amsnet fit --recipe
masked` and for the multi-mask pass).
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amsnet_cli.core.inference import single_pass
from amsnet_cli.core.masks import random_mask
from amsnet_cli.core.networks import CompactUNet, CompactUNetConfig, MaskedNetwork
from amsnet_cli.device import fast_precision
from amsnet_cli.model import load_model
from training.camera import MARGIN, simulate
from training.patterns import with_pattern

HIDDEN_SHARES = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.5)
EMA_DECAY = 0.999
WARM_UP = 200
GRADIENT_NORM = 0.2
"""Twice what is usual after warm-up; together with the short memory of AdamW's second moment it
keeps single patches of extreme noise from throwing the training off."""
FLOOR = 0.5 / 255
"""Root mean square error below which a patch counts as done."""
PATTERNS = 0.2
"""Share of patches with a drawn pattern."""
SHARED_SCALES = (1.0, 3.0)
"""Photos are reduced by a random factor in this range before the simulated camera sees them."""


class CameraPairs(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Batch number i is a function of the seed and i alone, whoever draws it."""

    def __init__(
        self, photos: Path, *, patch: int, batch: int, first: int, steps: int, seed: int
    ) -> None:
        self.photos = [
            np.ascontiguousarray(cv2.imread(str(p), cv2.IMREAD_COLOR)[..., ::-1])
            for p in sorted(photos.iterdir())
        ]
        pixels = np.array([p.shape[0] * p.shape[1] for p in self.photos], dtype=np.float64)
        self.shares = pixels / pixels.sum()
        self.patch, self.batch, self.first, self.steps, self.seed = patch, batch, first, steps, seed

    def __len__(self) -> int:
        return self.steps - self.first

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw (B, 3, P, P) noisy, the same clean, and the (B, 1, P, P) mask."""
        rng = np.random.default_rng((self.seed, self.first + index))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        clean = torch.from_numpy(np.stack([self._crop(rng) for _ in range(self.batch)]))
        noisy, target = simulate(clean.permute(0, 3, 1, 2).float() / 255, generator)
        shares = torch.from_numpy(rng.choice(HIDDEN_SHARES, self.batch)).float()
        hidden = random_mask(shares, (self.batch, self.patch, self.patch), generator)
        return noisy, target, hidden

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        photo = self.photos[rng.choice(len(self.photos), p=self.shares)]
        size = self.patch + 2 * MARGIN
        most = min(SHARED_SCALES[1], min(photo.shape[:2]) / size)
        cut = int(size * rng.uniform(SHARED_SCALES[0], most))
        y, x = (int(rng.integers(side - cut + 1)) for side in photo.shape[:2])
        crop = cv2.resize(
            photo[y : y + cut, x : x + cut], (size, size), interpolation=cv2.INTER_AREA
        )
        if rng.random() < PATTERNS:
            crop = with_pattern(crop, rng)
        crop = np.rot90(crop, int(rng.integers(4)))
        return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def psnr_on(network: MaskedNetwork, folder: Path, device: torch.device, most: int = 5) -> float:
    """Mean single-pass PSNR on the first pictures of `folder`/noisy and /clean, in dB."""
    scores = []
    for noisy_path in sorted((folder / "noisy").iterdir())[:most]:
        clean_path = folder / "clean" / noisy_path.name
        noisy, clean = (
            torch.from_numpy(cv2.imread(str(p))[..., ::-1].copy()).permute(2, 0, 1)[None].float()
            for p in (noisy_path, clean_path)
        )
        with torch.inference_mode(), fast_precision(device):
            denoised = single_pass(network, noisy.to(device) / 255).float().cpu()
        error = ((denoised * 255).round().clamp(0, 255) - clean).square().mean()
        scores.append(10 * math.log10(255**2 / error.item()))
    return sum(scores) / len(scores)


def main() -> None:
    """Parse, train, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of clean photos")
    parser.add_argument("--state", type=Path, required=True, help="where to keep the state")
    parser.add_argument("--start", type=Path, help="weights to begin with, instead of fresh ones")
    parser.add_argument("--watch", type=Path, nargs="*", default=[], help="sets to log PSNR of")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop this call after")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate after warm-up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw patches")
    args = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    config = CompactUNetConfig()
    student = MaskedNetwork(CompactUNet(config), fill="mean", mask_channel=True)
    if args.start:
        student.load_state_dict(load_model(args.start).network.state_dict())
    student = student.to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(student)
    optimiser = torch.optim.AdamW(
        student.parameters(), args.rate, betas=(0.9, 0.99), weight_decay=1e-4
    )
    step = 0
    if args.state.exists():
        state = torch.load(args.state, map_location=device, weights_only=True)
        student.load_state_dict(state["student"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]

    def save() -> None:
        part = args.state.with_suffix(".part")
        parts = {"student": student, "average": average, "optimiser": optimiser}
        states = {k: v.state_dict() for k, v in parts.items()}
        torch.save({**states, "step": step}, part)
        os.replace(part, args.state)

    pairs = CameraPairs(
        args.photos,
        patch=args.patch, batch=args.batch, first=step, steps=args.steps, seed=args.seed,
    )  # fmt: skip
    loader = DataLoader(pairs, batch_size=None, num_workers=args.workers)
    started, losses = time.monotonic(), []
    for batch in loader:
        warm = min(1.0, (step + 1) / WARM_UP)
        rate = args.rate * warm * 0.5 * (1 + math.cos(math.pi * step / args.steps))
        for group in optimiser.param_groups:
            group["lr"] = rate
        noisy, target, hidden = (x.to(device) for x in batch)
        with fast_precision(device):
            prediction = student(noisy, hidden)
        # The root for each patch, so that strong noise does not drown mild noise.
        squares = (prediction - target).square().mean((1, 2, 3))
        loss = (squares + FLOOR**2).sqrt().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), GRADIENT_NORM)
        optimiser.step()
        step += 1
        decay = min(EMA_DECAY, step / (step + 20))
        with torch.no_grad():
            for ours, theirs in zip(average.parameters(), student.parameters(), strict=True):
                ours.lerp_(theirs, 1 - decay)
        losses.append(loss.item())
        out_of_time = time.monotonic() - started > 60 * args.minutes
        if step % 250 == 0 or step == args.steps or out_of_time:
            scores = {f.name: round(psnr_on(average, f, device), 2) for f in args.watch}
            minutes = (time.monotonic() - started) / 60
            mean_loss = sum(losses) / len(losses)
            print(f"step {step}  {minutes:.1f} min  loss {mean_loss:.5f}  {scores}", flush=True)
            losses.clear()
            save()
        if out_of_time:
            break
    print("done" if step >= args.steps else "call again to go on", flush=True)


if __name__ == "__main__":
    main()

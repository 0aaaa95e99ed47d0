r"""Train the networks that ship, on clean photos under simulated camera noise.

    python -m training.pretrain --photos CLEAN_DIR --state pretrain.pt --steps 20000 --minutes 9 \
        --learn photo='{"widths": [48, 96, 160], "blocks": [1, 1, 2], "unshuffle": 2}'

Call it again with the same `--state` until it says that it is done: it goes on where the last
call stopped. Runs on CUDA where there is a GPU. Several networks may learn at once, each from the
same patches: the processor draws those, and a GPU has time for more than one. Beside the state lies
a model file of each, with its weights averaged over the last thousand steps or so, for
`training.export`.

With `--noisy FOLDER --teacher MODEL` some patches of each step are of real noisy photos, and the
target is what the teacher makes of them: simulation alone teaches less, and what a fit to real
photos teaches alone is lost by further training on simulated ones.

One network learns both jobs: three quarters of the patches are seen whole (the single pass), the
others with a quarter or half of their pixels hidden (the masked scheme, for `amsnet fit --recipe
masked` and for the multi-mask pass).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amsnet_cli.core.masks import random_mask
from amsnet_cli.core.multi_mask import single_pass
from amsnet_cli.core.networks import CompactUNetConfig, MaskedNetwork
from amsnet_cli.device import fast_precision
from amsnet_cli.model import Inference, ModelConfig, build_network, load_model, save_model
from amsnet_cli.weights.store import find_weights
from training.camera import MARGIN, simulate, with_white_noise
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
KEPT = 64
"""Batches to choose from, where they are used more than once."""
TAUGHT_SCALES = (1.0, 0.7)
"""Real noisy photos are seen as they are, and reduced."""
AHEAD = 3
"""Batches drawn in advance on a GPU."""
CPU = torch.device("cpu")
_PARTS = ("student", "average", "optimiser")


Patches = tuple[Tensor, Tensor, int]
"""(B, P + 2 * MARGIN, P + 2 * MARGIN, 3) uint8, the (B, 1, P, P) mask, the simulator's seed."""
Camera = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
CAMERAS: dict[str, Camera] = {"camera": simulate, "white": with_white_noise}
Batch = tuple[Tensor, Tensor, Tensor]
"""(B, 3, P, P) noisy, the same clean, and the mask."""


class CleanPatches(Dataset[Patches]):
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

    def __getitem__(self, index: int) -> Patches:
        """Draw a batch."""
        rng = np.random.default_rng((self.seed, self.first + index))
        seeds = rng.integers(2**62, size=2)
        clean = torch.from_numpy(np.stack([self._crop(rng) for _ in range(self.batch)]))
        shares = torch.from_numpy(rng.choice(HIDDEN_SHARES, self.batch)).float()
        generator = torch.Generator().manual_seed(int(seeds[1]))
        hidden = random_mask(shares, (self.batch, self.patch, self.patch), generator)
        return clean, hidden, int(seeds[0])

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


def photographed(
    patches: Patches, device: torch.device = CPU, *, camera: Camera = simulate
) -> Batch:
    """Let the simulated cameras see a batch, on `device`."""
    clean, hidden, seed = patches
    generator = torch.Generator().manual_seed(seed)
    noisy, target = camera(clean.to(device).permute(0, 3, 1, 2).float() / 255, generator)
    return noisy, target, hidden.to(device)


def drawn(
    patches: CleanPatches, workers: int, device: torch.device, camera: Camera = simulate
) -> Iterator[Batch]:
    """Draw all batches, beside what is done with them: by `workers`, and on a GPU by a thread."""
    if device.type == "cpu":
        yield from DataLoader(
            patches, batch_size=None, num_workers=workers,
            collate_fn=partial(photographed, camera=camera),
        )  # fmt: skip
        return
    stream, ahead = torch.cuda.Stream(device), deque[Future[Batch]]()

    def make(patches: Patches) -> Batch:
        with torch.cuda.stream(stream):
            batch = photographed(patches, device, camera=camera)
            stream.synchronize()
        return batch

    def first() -> Batch:
        batch = ahead.popleft().result()
        for x in batch:
            x.record_stream(torch.cuda.current_stream(device))
        return batch

    with ThreadPoolExecutor(1) as pool:
        for cut in DataLoader(patches, batch_size=None, num_workers=workers):
            ahead.append(pool.submit(make, cut))
            if len(ahead) > AHEAD:
                yield first()
        while ahead:
            yield first()


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


class TaughtPatches:
    """Real noisy photos, and what a teacher makes of them: the mean of its eight ways to see each.

    So a student learns of real noise what the teacher knows, beside what simulation has to teach.
    """

    def __init__(
        self, photos: Path, teacher: str, patch: int, batch: int, seed: int, device: torch.device
    ) -> None:
        self.patch, self.batch, self.seed = patch, batch, seed
        network = load_model(find_weights(teacher)).network.to(device)
        self.pairs = []
        for path in sorted(photos.iterdir()):
            photo = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
            for scale in TAUGHT_SCALES:
                size = [round(side * scale) for side in photo.shape[1::-1]]
                if min(size) < patch:
                    continue
                pixels = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
                noisy = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1).float() / 255
                self.pairs.append((noisy, seen_eightfold(network, noisy)))
        pixels = np.array([noisy[0].numel() for noisy, _ in self.pairs], dtype=np.float64)
        self.shares = pixels / pixels.sum()

    def take(self, step: int) -> Batch:
        """Cut a batch, by seed and step."""
        rng = np.random.default_rng((self.seed, step, 2))
        cuts = []
        for i in rng.choice(len(self.pairs), self.batch, p=self.shares):
            y, x = (int(rng.integers(n - self.patch + 1)) for n in self.pairs[i][0].shape[1:])
            cuts.append([z[:, y : y + self.patch, x : x + self.patch] for z in self.pairs[i]])
        noisy, target = (torch.stack(z) for z in zip(*cuts, strict=True))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        shares = torch.from_numpy(rng.choice(HIDDEN_SHARES, self.batch)).float()
        hidden = random_mask(shares, (self.batch, self.patch, self.patch), generator)
        return _turned((noisy, target, hidden.to(noisy.device)), rng)


def seen_eightfold(network: MaskedNetwork, noisy: Tensor) -> Tensor:
    """Denoise (3, H, W) mirrored and turned in all ways; the mean."""
    seen = torch.zeros_like(noisy)
    with torch.inference_mode():
        for turns in range(4):
            for mirrored in (False, True):
                x = torch.rot90(noisy.flip(2) if mirrored else noisy, turns, (1, 2))
                y = torch.rot90(single_pass(network, x[None])[0], -turns, (1, 2))
                seen += (y.flip(2) if mirrored else y) / 8
    return seen.clamp(0, 1)


def _turned(batch: Batch, rng: np.random.Generator) -> Batch:
    """Mirror and turn a batch, all of it in one way."""
    turns, mirrored = (int(n) for n in rng.integers([4, 2]))
    noisy, target, hidden = (
        torch.rot90(x.flip(3) if mirrored else x, turns, (2, 3)) for x in batch
    )
    return noisy, target, hidden


class Learner:
    """A network in training, with the average of its weights."""

    def __init__(self, name: str, start: str, device: torch.device) -> None:
        """Begin with a model, or with fresh weights of a shape given as JSON."""
        self.name = name
        if start.startswith("{"):
            shape = {
                k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(start).items()
            }
            self.config = ModelConfig(network=CompactUNetConfig(**shape))
            self.student = build_network(self.config)
        else:
            model = load_model(find_weights(start))
            self.config, self.student = model.config, model.network
        self.config = replace(
            self.config, inference=Inference(passes="single", n_masks=4, stride=1, repeats=2),
            white="",
        )  # fmt: skip
        self.device = device
        self.student.to(device).train()
        self.average = copy.deepcopy(self.student)
        self.optimiser = torch.optim.AdamW(
            self.student.parameters(), betas=(0.9, 0.99), weight_decay=1e-4, fused=True
        )

    def learn(self, batch: Batch, *, rate: float, step: int) -> Tensor:
        """Take a step; gives the loss."""
        noisy, target, hidden = batch
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with fast_precision(self.device):
            prediction = self.student(noisy, hidden)
        # The root for each patch, so that strong noise does not drown mild noise.
        squares = (prediction - target).square().mean((1, 2, 3))
        loss = (squares + FLOOR**2).sqrt().mean()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), GRADIENT_NORM)
        self.optimiser.step()
        decay = min(EMA_DECAY, step / (step + 20))
        with torch.no_grad():
            ours, theirs = list(self.average.parameters()), list(self.student.parameters())
            torch._foreach_lerp_(ours, theirs, 1 - decay)
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {part: getattr(self, part).state_dict() for part in _PARTS}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        for part in _PARTS:
            getattr(self, part).load_state_dict(state[part])


class Replay:
    """The last patches drawn, to learn from more than once: drawing takes longer than learning.

    Each time they are mirrored and turned in another way.
    """

    def __init__(self, batches: int, seed: int) -> None:
        self.batches, self.seed = batches, seed
        self.kept: dict[int, Batch] = {}
        self.drawn = 0

    def put(self, batch: Batch) -> None:
        """Keep a batch, in the place of the oldest."""
        self.kept[self.drawn % self.batches] = batch
        self.drawn += 1

    def take(self, step: int) -> Batch:
        """Choose a batch by seed and step, and mirror and turn it."""
        rng = np.random.default_rng((self.seed, step, 1))
        return _turned(self.kept[int(rng.integers(len(self.kept)))], rng)


def main() -> None:
    """Parse, train, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of clean photos")
    parser.add_argument("--state", type=Path, required=True, help="where to keep the state")
    parser.add_argument(
        "--learn", nargs="+", required=True, metavar="NAME=START",
        help="networks; START is a model, or JSON of a shape to begin with fresh weights",
    )  # fmt: skip
    parser.add_argument("--noisy", type=Path, help="folder of real noisy photos, for a teacher")
    parser.add_argument("--teacher", help="model that says how those are denoised")
    parser.add_argument("--taught", type=int, default=8, help="patches of those in each step")
    parser.add_argument("--models", type=Path, help="where NAME.safetensors go; beside the state")
    parser.add_argument("--noise", choices=CAMERAS, default="camera", help="drawn onto the photos")
    parser.add_argument("--watch", type=Path, nargs="*", default=[], help="sets to log PSNR of")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop this call after")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate after warm-up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw patches")
    parser.add_argument("--reuse", type=int, default=1, help="steps for each batch drawn")
    parser.add_argument("--log-every", type=int, default=250, help="steps; and saves")
    args = parser.parse_args()
    if bool(args.noisy) != bool(args.teacher):
        parser.error("--noisy and --teacher go together")

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = True, False
    learners = [Learner(*learn.split("=", 1), device) for learn in args.learn]
    models = args.models or args.state.parent
    step = 0
    if args.state.exists():
        state = torch.load(args.state, map_location=device, weights_only=True)
        for learner in learners:
            learner.restore(state["learners"][learner.name])
        step = state["step"]

    def save() -> None:
        part = args.state.with_suffix(".part")
        states = {learner.name: learner.state() for learner in learners}
        torch.save({"learners": states, "step": step}, part)
        os.replace(part, args.state)
        made_by = {"made_by": "training.pretrain", "steps": step}
        for learner in learners:
            config = replace(learner.config, provenance=made_by)
            save_model(models / f"{learner.name}.safetensors", learner.average, config)

    # What a batch is used for more than once is drawn again when training goes on.
    replay = Replay(1 if args.reuse == 1 else KEPT, args.seed)
    replay.drawn = max(0, step // args.reuse - replay.batches + 1)
    patches = CleanPatches(
        args.photos, patch=args.patch, batch=args.batch,
        first=replay.drawn, steps=-(-args.steps // args.reuse), seed=args.seed,
    )  # fmt: skip
    taught = args.noisy and TaughtPatches(
        args.noisy, args.teacher, args.patch, args.taught, args.seed, device
    )
    started, losses = time.monotonic(), []
    for fresh in drawn(patches, args.workers, device, CAMERAS[args.noise]):
        replay.put(fresh)
        while step < min(args.steps, replay.drawn * args.reuse):
            batch = replay.take(step)
            if taught:
                batch = tuple(map(torch.cat, zip(batch, taught.take(step), strict=True)))
            warm = min(1.0, (step + 1) / WARM_UP)
            rate = args.rate * warm * 0.5 * (1 + math.cos(math.pi * step / args.steps))
            step += 1
            learned = [x.learn(batch, rate=rate, step=step) for x in learners]
            losses.append(torch.stack(learned))
            out_of_time = time.monotonic() - started > 60 * args.minutes
            if step % args.log_every == 0 or step == args.steps or out_of_time:
                minutes = (time.monotonic() - started) / 60
                mean_losses = torch.stack(losses).mean(0).tolist()
                print(f"step {step}  {minutes:.2f} min", flush=True)
                for learner, loss in zip(learners, mean_losses, strict=True):
                    scores = {
                        f.name: round(psnr_on(learner.average, f, device), 2) for f in args.watch
                    }
                    print(f"  {learner.name}  loss {loss:.5f}  {scores}", flush=True)
                losses.clear()
                save()
            if out_of_time and step < args.steps:
                print("call again to go on", flush=True)
                return
    print("done", flush=True)


if __name__ == "__main__":
    main()

r"""Train the network `raw`, for the mosaics of image sensors.

    python -m training.raw --photos CLEAN_DIR --state raw.pt --minutes 60
    python -m training.raw --photos CLEAN_DIR --state raw.pt --minutes 60 --decay 0.5
    python -m training.raw --photos CLEAN_DIR --state raw.pt --start raw.safetensors ...

The last begins with the weights of a model file; residual blocks that it lacks begin as the
identity. Each call resumes where the last one stopped. With `--decay` the learning rate falls to
zero over the last share of the call, which the result needs; the state from before is kept beside
it, with `.constant` in its name, and may be continued instead. Runs on CUDA where there is a GPU.
Beside the state lies `NAME.safetensors` with the averaged weights.

A clean photo is brought back to what a sensor would have recorded: linear, with less colour, with
the white balance's gains and an exposure taken off, through a colour filter array. It gets the
sensor's noise from base ISO to far beyond, and what else sensors do. The network is told the noise,
for half of the patches with the errors that estimates have.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from amsnet_cli.atomic import whole_file
from amsnet_cli.core.networks.mosaic import MosaicNetwork, MosaicNetworkConfig
from amsnet_cli.device import choose_device
from amsnet_cli.fitting.trainer import Trainer
from amsnet_cli.inference.denoise_mosaic import denoise_mosaic
from amsnet_cli.inference.memory import reuse_memory
from amsnet_cli.inference.mosaic_noise import SensorNoiseFound
from amsnet_cli.mosaic_model import MosaicModel, load_mosaic_model, save_mosaic_model
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.photos.read import read_mosaic_photo
from benchmarks.make_raw import LAWS
from benchmarks.raw import psnr
from training.long_training import budget, load_smaller, numbers

FLOOR = 0.02
"""Root mean square error, in standard deviations of the noise, below which a patch is done."""
OUTLIER = 8.0
"""Errors count up to so many standard deviations: what defects hide cannot be found."""
HIDDEN_SHARES = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.5)
X_TRANS, MONOCHROME = 0.2, 0.04
"""Shares of patches; the others are Bayer."""
BAYER_TILE = np.array([[0, 1], [1, 2]])
X_TRANS_TILE = np.array([
    [1, 2, 1, 1, 0, 1], [0, 1, 0, 2, 1, 2], [1, 2, 1, 1, 0, 1],
    [1, 0, 1, 1, 2, 1], [2, 1, 2, 0, 1, 0], [1, 0, 1, 1, 2, 1],
])  # fmt: skip
"""Colours of the smallest tile that repeats: 0 red, 1 green, 2 blue."""
WATCHED = ("k01", "k07")


@dataclass(frozen=True, kw_only=True)
class Patch:
    """One simulated mosaic, (1, P, P) each.

    Attributes:
        stabilised: the noisy values, as the told noise stabilises them.
        target: the clean values, likewise.
        sigma: (1, 1, 1), the told standard deviation in that scale.
        colours: (3, P, P).
        hidden: bool.
    """

    stabilised: Tensor
    target: Tensor
    sigma: Tensor
    colours: Tensor
    hidden: Tensor


class SensorPatches:
    """Simulated mosaics of clean photos; batch number i is a function of the seed and i alone."""

    def __init__(self, photos: Path, *, patch: int, batch: int, seed: int) -> None:
        self.photos = [cv2.imread(str(p))[..., ::-1] for p in sorted(photos.iterdir())]
        pixels = np.array([p.shape[0] * p.shape[1] for p in self.photos], dtype=np.float64)
        self.shares = pixels / pixels.sum()
        self.patch, self.batch, self.seed = patch, batch, seed

    def draw(self, index: int) -> Patch:
        """Draw a batch, each tensor with a first dimension more."""
        rng = np.random.default_rng((self.seed, index))
        patches = [self._simulate(rng) for _ in range(self.batch)]
        names = Patch.__dataclass_fields__
        return Patch(**{n: torch.stack([getattr(p, n) for p in patches]) for n in names})

    def _simulate(self, rng: np.random.Generator) -> Patch:
        light, colours = self._mosaic(rng)
        noisy, true = with_sensor_noise(light, rng)
        told = SensorNoise(
            a=float(true.a) * _misjudged(rng, 0.2), b=float(true.b) * _misjudged(rng, 0.5)
        ) if rng.random() < 0.5 else true  # fmt: skip
        hidden = rng.random((1, *light.shape)) < rng.choice(HIDDEN_SHARES)
        return Patch(
            stabilised=told.stabilise(torch.from_numpy(noisy).float()[None]),
            target=told.stabilise(torch.from_numpy(light).float()[None].clamp_max(1)),
            sigma=told.sigma.float().reshape(1, 1, 1),
            colours=torch.from_numpy(colours).float(),
            hidden=torch.from_numpy(hidden),
        )

    def _mosaic(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw clean light, (P, P) with white at 1 and more than that, and colours (3, P, P)."""
        size = self.patch
        linear = self._crop(rng) ** rng.uniform(1.8, 2.6)
        mix = np.eye(3) + rng.uniform(-0.05, 0.25, (3, 3)) * (rng.random() < 0.7)
        mix /= mix.sum(1, keepdims=True)
        gains = np.array([rng.uniform(1.1, 2.8), 1.0, rng.uniform(1.1, 2.8)])
        exposure = 1.0 if rng.random() < 0.4 else 2 ** rng.uniform(-3.5, 0.7)
        kind = rng.random()
        if kind < MONOCHROME:
            return linear.mean(2) * exposure, np.ones((3, size, size))
        tile = BAYER_TILE
        if kind < MONOCHROME + X_TRANS:
            tile = np.roll(X_TRANS_TILE, rng.integers(6, size=2), (0, 1))
        index = np.tile(tile, (-(-size // len(tile)),) * 2)[:size, :size]
        matrix = exposure * mix / gains[:, None]
        light = (linear * matrix.astype(np.float32)[index]).sum(2)
        return light.clip(0), np.stack([index == c for c in range(3)])

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        """Cut a square, reduce it one to three times, mirror and turn it; (P, P, 3) in 0..1."""
        photo, size = self.photos[rng.choice(len(self.photos), p=self.shares)], self.patch
        cut = int(size * rng.uniform(1, min(3, min(photo.shape[:2]) / size)))
        y, x = (int(rng.integers(side - cut + 1)) for side in photo.shape[:2])
        crop = photo[y : y + cut, x : x + cut].astype(np.float32) / 255
        crop = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)
        crop = np.rot90(crop, int(rng.integers(4)))
        return crop[:, ::-1] if rng.random() < 0.5 else crop


def with_sensor_noise(
    light: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, SensorNoise]:
    """Record light with a random sensor.

    Args:
        light: (H, W) >= 0, white at 1.
        rng: of numpy.

    Returns:
        What is recorded, (H, W), 0 at black and at most 1; and its noise, with that of rounding.
    """
    a = math.exp(rng.uniform(math.log(5e-6), math.log(1e-1)))
    b = a * a * math.exp(rng.uniform(math.log(0.3), math.log(40)))
    if rng.random() < 0.1:
        b = max(b, a * rng.uniform(0.02, 0.3))
    b = min(b, 0.02)
    if a > 1e-3:
        noisy = a * rng.poisson(light / a) + math.sqrt(b) * rng.standard_normal(light.shape)
    else:
        noisy = light + np.sqrt(a * light + b) * rng.standard_normal(light.shape)
    if rng.random() < 0.1:  # Rows, or columns, that share some noise.
        shared = rng.uniform(0.05, 0.4) * math.sqrt(b) * rng.standard_normal((len(light), 1))
        noisy = noisy + (shared if rng.random() < 0.7 else shared.T)
    if rng.random() < 0.1:  # Hot and dead photosites.
        bad = rng.random(light.shape) < 10 ** rng.uniform(-4, -2.7)
        noisy = np.where(bad, rng.choice([0.0, 1.0, rng.random()]), noisy)
    depth = 2 ** int(rng.choice([10, 12, 14, 14]))
    black = depth // int(rng.choice([4, 8, 16, 32, 64])) if rng.random() < 0.9 else 0
    levels = depth - 1 - black
    noisy = np.rint(noisy * levels).clip(-black, levels) / levels
    return noisy, SensorNoise(a=a, b=b + 1 / (12 * levels**2))


def _misjudged(rng: np.random.Generator, spread: float) -> float:
    """Draw the factor by which an estimate is wrong; now and then far more than `spread`."""
    return math.exp(rng.normal(0, spread * (2 if rng.random() < 0.25 else 1)))


def loss_of(network: nn.Module, batch: Patch) -> Tensor:
    """Mean over the patches of the root mean square error, in standard deviations of the noise.

    At a hidden photosite the unit is the standard deviation that the network works with there.
    """
    assert isinstance(network, MosaicNetwork)
    denoised, sigma = network.denoise_with_sigma(
        batch.stabilised, batch.sigma, batch.colours, batch.hidden
    )
    errors = ((denoised - batch.target) / sigma).clamp(-OUTLIER, OUTLIER)
    squares = errors.square().mean((1, 2, 3))
    return (squares + FLOOR**2).sqrt().mean()


class Watch:
    """PSNR of a few files with known noise, told it: looked at, never chosen by."""

    def __init__(self, folder: Path) -> None:
        self.laws = {
            iso: SensorNoiseFound(laws=(SensorNoise(a=a, b=b),), source="truth")
            for iso, (a, b) in LAWS.items()
        }
        self.noisy = {
            iso: [read_mosaic_photo(folder / f"{name}_{iso}.dng").mosaic for name in WATCHED]
            for iso in self.laws
        }
        self.clean = [read_mosaic_photo(folder / f"{name}_clean.dng").mosaic for name in WATCHED]

    def scores(self, network: MosaicNetwork) -> str:
        """Mean PSNR by ISO, and the gain over noisy."""
        model = MosaicModel(network=network, name="average")
        device = next(network.parameters()).device
        told = []
        for iso, noise in self.laws.items():
            pairs = list(zip(self.noisy[iso], self.clean, strict=True))
            before = np.mean([psnr(noisy, clean) for noisy, clean in pairs])
            after = np.mean([psnr(denoise_mosaic(noisy, model, noise, device=device), clean)
                             for noisy, clean in pairs])  # fmt: skip
            told.append(f"{iso}: {after:.2f} ({after - before:+.2f})")
        return "  ".join(told)


def save(path: Path, trainer: Trainer[MosaicNetwork]) -> None:
    """Write the state, and the averaged weights beside it; each whole or not at all."""
    with whole_file(path) as file:
        torch.save(trainer.state_dict(), file)
    provenance = {"made_by": "training.raw", "steps": trainer.steps}
    save_mosaic_model(path.with_suffix(".safetensors"), trainer.ema, provenance)


def main() -> None:
    """Parse, train, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of clean photos")
    parser.add_argument("--state", type=Path, required=True, help="where to keep the state")
    parser.add_argument("--start", type=Path, help="model file to begin with, if no state is there")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end this call after")
    parser.add_argument("--steps", type=int, default=1_000_000, help="of this call at most")
    parser.add_argument("--decay", type=float, default=0.0, help="last share of this call")
    parser.add_argument("--rate", type=float, default=3e-3, help="learning rate")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--watch", type=Path, help="folder of a benchmark, to log its PSNR")
    parser.add_argument("--log-every", type=int, default=100, help="steps")
    parser.add_argument("--save-minutes", type=float, default=5)
    args = parser.parse_args()

    device = choose_device("auto")
    reuse_memory()
    torch.manual_seed(args.seed)
    network = MosaicNetwork(MosaicNetworkConfig())
    if args.start and not args.state.exists():
        load_smaller(network, load_mosaic_model(args.start).network.state_dict())
    network.to(device, memory_format=torch.channels_last)
    trainer = Trainer(network, numbers(args.rate, args.decay), device=device)
    if args.state.exists():
        trainer.load_state_dict(torch.load(args.state, map_location=device, weights_only=True))
    patches = SensorPatches(args.photos, patch=args.patch, batch=args.batch, seed=args.seed)
    watch = Watch(args.watch) if args.watch else None

    started = saved = watched = time.monotonic()
    losses: list[Tensor] = []
    drawing, decaying = 0.0, False

    def log(now: float) -> None:
        mean, share = float(torch.stack(losses).mean()), drawing / (now - started)
        minutes = (now - started) / 60
        print(
            f"step {trainer.steps}  {minutes:.1f} min  loss {mean:.4f}  drawing {share:.0%}",
            flush=True,
        )
        losses.clear()

    for step, progress in budget(args.minutes, args.steps, trainer.steps):
        if args.decay and not decaying and progress > 1 - args.decay:
            decaying = True
            save(args.state.with_name(f"{args.state.stem}.constant{args.state.suffix}"), trainer)
            print(f"step {step}  the learning rate falls from here", flush=True)
        before = time.monotonic()
        batch = patches.draw(step)
        batch = Patch(**{k: v.to(device) for k, v in vars(batch).items()})
        drawing += time.monotonic() - before
        losses.append(trainer.step(partial(loss_of, batch=batch), progress))
        now = time.monotonic()
        if trainer.steps % args.log_every == 0:
            log(now)
        if now - saved > 60 * args.save_minutes:
            save(args.state, trainer)
            saved = now
        if watch and now - watched > 60 * 2 * args.save_minutes:
            print(f"step {trainer.steps}  M  {watch.scores(trainer.ema)}", flush=True)
            watched = now
    if losses:
        log(time.monotonic())
    save(args.state, trainer)
    if watch:
        print(f"step {trainer.steps}  M  {watch.scores(trainer.ema)}", flush=True)


if __name__ == "__main__":
    main()

"""What `conditioned` trains on: simulated pairs, real photos, and the noise told of both."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from amsnet_cli.core.masks import random_mask
from amsnet_cli.core.networks.noise_estimator import CELL, NoiseCells, NoiseEstimator
from amsnet_cli.core.photo_noise import PhotoNoise, spectrum_of

SIDE = 256
"""Of the simulated pairs, in pixels."""
PATCH = 128
"""Of the network, in pixels."""
CLEAN_EVERY = 5
"""Every fifth pair is also used with its clean version as input."""
CLEAN_SHARE = {"estimator": 0.15, "network": 0.1}
"""Share of patches without noise but that of rounding."""
BATCH, REAL = 8, 2
"""Patches of a step, and how many of them are real."""
WHITE_SHARE, WHITE_SIGMAS = 0.15, (0.5, 60.0)
"""Share of simulated patches that get fresh white noise instead of their own, and its standard
deviations on a scale of 255: noise that is seen again and again is learned by heart."""
MASK_RATIOS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.5)
TRUE_SHARE = 0.35
"""Share of simulated patches whose true noise is told."""
MISJUDGED_SHARE, MISJUDGED, MISJUDGED_MOST = 0.4, 0.15, 3.0
"""Share of simulated patches whose noise is told wrong; its log's error is Student's t with three
degrees of freedom on this scale, as few estimates are far off; the largest factor."""
BLIND = 10.0
"""What a blind network is told of every patch: white noise of this standard deviation, on a scale
of 255."""
FLOOR = 0.02
"""Least standard deviation that is told, on a scale of 255."""


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


class Batches:
    """Draws patches with the noise that the network is told.

    Args:
        work: folder of the pairs and of the estimates.
        seed: of all random numbers.
        blind: tell the same noise of every patch; all else stays the same.
    """

    def __init__(self, work: Path, seed: int, *, blind: bool = False) -> None:
        self.pairs, self.blind = Pairs(work), blind
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
        told = [PhotoNoise.white(BLIND) if self.blind else noise for _, _, noise in drawn]
        return noisy, target, mask, PhotoNoise.stack(told)

    def _simulated(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, PhotoNoise]:
        index, prefix = int(rng.integers(len(self.pairs))), ""
        if rng.random() < WHITE_SHARE:
            return self._white(index, rng)
        if rng.random() < CLEAN_SHARE["network"]:
            index, prefix = index // CLEAN_EVERY * CLEAN_EVERY, "clean "
        told = self._noise(
            prefix + ("true" if rng.random() < TRUE_SHARE else "estimate"),
            index // CLEAN_EVERY if prefix else index,
        )
        pair = self.pairs.pair(index, noiseless=bool(prefix))
        return (*augmented(pair, PATCH, rng), misjudged(told, rng))

    def _white(self, index: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, PhotoNoise]:
        _, clean = augmented(self.pairs.pair(index, noiseless=True), PATCH, rng)
        sigma = math.exp(rng.uniform(*np.log(WHITE_SIGMAS)))
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        noisy = (255 * clean + sigma * noise).round().clamp(0, 255) / 255
        return noisy, clean, misjudged(PhotoNoise.white(sigma), rng)

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


def misjudged(noise: PhotoNoise, rng: np.random.Generator) -> PhotoNoise:
    """Tell some noise wrong by a factor, as estimates are."""
    if rng.random() >= MISJUDGED_SHARE:
        return noise
    factor = math.exp(MISJUDGED * rng.standard_t(3))
    return noise.scaled(min(max(factor, 1 / MISJUDGED_MOST), MISJUDGED_MOST))


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

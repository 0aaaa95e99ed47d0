"""Batches of pretraining: clean photos with simulated noise, and distilled real ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from amsnet_cli.core.masks import random_mask
from amsnet_cli.core.multi_mask import ORIENTATIONS
from amsnet_cli.core.multi_mask import self_ensemble as averaged
from amsnet_cli.core.networks import MaskedNetwork
from amsnet_cli.model import load_model
from amsnet_cli.weights.store import find_weights
from training.camera import MARGIN, simulate, with_white_noise
from training.patterns import with_pattern

MASK_RATIOS = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.5)
"""One is drawn for each patch. Three in four patches are not masked, for the single pass."""
PATTERN_RATIO = 0.2
"""Fraction of patches with a synthetic pattern."""
RECOLOURED_RATIO = 0.4
"""Fraction of patches with other colours than the photo's: few free photos are vivid."""
SATURATION = (0.7, 2.5)
"""Range by which the distance of their colours from grey is multiplied."""
SCALES = (1.0, 3.0)
"""Clean photos are downscaled by a random factor in this range before noise is simulated."""
DISTILLATION_SCALES = (1.0, 0.7)
"""Real noisy photos are used at these scales."""
PREFETCH = 3
"""Batches simulated in advance on a GPU."""
CPU = torch.device("cpu")

CleanBatch = tuple[Tensor, Tensor, int]
"""Clean (B, P + 2 * MARGIN, P + 2 * MARGIN, 3) uint8, mask (B, 1, P, P) bool, and the seed of the
simulation."""
Batch = tuple[Tensor, Tensor, Tensor]
"""Noisy and target (B, 3, P, P) float32 in [0, 1], and mask (B, 1, P, P) bool."""
Simulation = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
SIMULATIONS: dict[str, Simulation] = {"camera": simulate, "white": with_white_noise}


class CleanPatches(Dataset[CleanBatch]):
    """Batches of clean patches; batch i depends on the seed and i alone.

    Args:
        photos: folder of clean photos.
        patch_size: P, after the simulation has used its margin.
        batch: B.
        first: index of the first batch.
        count: index after the last batch.
        seed: of all random numbers.
    """

    def __init__(
        self, photos: Path, *, patch_size: int, batch: int, first: int, count: int, seed: int
    ) -> None:
        self.photos = [
            np.ascontiguousarray(cv2.imread(str(p), cv2.IMREAD_COLOR)[..., ::-1])
            for p in sorted(photos.iterdir())
        ]
        pixels = np.array([p.shape[0] * p.shape[1] for p in self.photos], dtype=np.float64)
        self.weights = pixels / pixels.sum()
        self.patch_size, self.batch, self.seed = patch_size, batch, seed
        self.first, self.count = first, count

    def __len__(self) -> int:
        return self.count - self.first

    def __getitem__(self, index: int) -> CleanBatch:
        """Draw a batch."""
        rng = np.random.default_rng((self.seed, self.first + index))
        seeds = rng.integers(2**62, size=2)
        clean = torch.from_numpy(np.stack([self._crop(rng) for _ in range(self.batch)]))
        return clean, _draw_masks(rng, self.batch, self.patch_size, int(seeds[1])), int(seeds[0])

    def _crop(self, rng: np.random.Generator) -> np.ndarray:
        photo = self.photos[rng.choice(len(self.photos), p=self.weights)]
        size = self.patch_size + 2 * MARGIN
        max_scale = min(SCALES[1], min(photo.shape[:2]) / size)
        side = int(size * rng.uniform(SCALES[0], max_scale))
        y, x = (int(rng.integers(length - side + 1)) for length in photo.shape[:2])
        crop = cv2.resize(
            photo[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA
        )
        if rng.random() < RECOLOURED_RATIO:
            crop = recoloured(crop, rng)
        if rng.random() < PATTERN_RATIO:
            crop = with_pattern(crop, rng)
        crop = np.rot90(crop, int(rng.integers(4)))
        return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def recoloured(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a crop (S, S, 3) uint8 with its channels in random order and another saturation."""
    shuffled = crop[..., rng.permutation(3)].astype(np.float32)
    grey = shuffled.mean(2, keepdims=True)
    vivid = grey + rng.uniform(*SATURATION) * (shuffled - grey)
    return vivid.round().clip(0, 255).astype(np.uint8)


def add_noise(
    clean_batch: CleanBatch, device: torch.device = CPU, *, simulation: Simulation = simulate
) -> Batch:
    """Simulate the noise of a batch on `device`."""
    clean, mask, seed = clean_batch
    generator = torch.Generator().manual_seed(seed)
    noisy, target = simulation(clean.to(device).permute(0, 3, 1, 2).float() / 255, generator)
    return noisy, target, mask.to(device)


def simulated_batches(
    patches: CleanPatches, workers: int, device: torch.device, simulation: Simulation = simulate
) -> Iterator[Batch]:
    """Yield all batches, prepared in the background: by `workers`, and on a GPU by a thread."""
    if device.type == "cpu":
        yield from DataLoader(
            patches, batch_size=None, num_workers=workers,
            collate_fn=partial(add_noise, simulation=simulation),
        )  # fmt: skip
        return
    stream, ahead = torch.cuda.Stream(device), deque[Future[Batch]]()

    def prepare(clean_batch: CleanBatch) -> Batch:
        with torch.cuda.stream(stream):
            batch = add_noise(clean_batch, device, simulation=simulation)
            stream.synchronize()
        return batch

    def next_batch() -> Batch:
        batch = ahead.popleft().result()
        for x in batch:
            x.record_stream(torch.cuda.current_stream(device))
        return batch

    with ThreadPoolExecutor(1) as pool:
        for clean_batch in DataLoader(patches, batch_size=None, num_workers=workers):
            ahead.append(pool.submit(prepare, clean_batch))
            if len(ahead) > PREFETCH:
                yield next_batch()
        while ahead:
            yield next_batch()


class DistilledPatches:
    """Patches of real noisy photos; the target is the teacher's self-ensemble.

    Args:
        photos: folder of noisy photos.
        teacher: name or file of the model.
        patch_size: P.
        batch: B.
        seed: of all random numbers.
        device: where the patches are kept.
    """

    def __init__(
        self, photos: Path, teacher: str, *, patch_size: int, batch: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.patch_size, self.batch, self.seed = patch_size, batch, seed
        network = load_model(find_weights(teacher)).network.to(device)
        self.pairs = []
        for path in sorted(photos.iterdir()):
            photo = cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1]
            for scale in DISTILLATION_SCALES:
                size = [round(side * scale) for side in photo.shape[1::-1]]
                if min(size) < patch_size:
                    continue
                pixels = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
                noisy = torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1).float() / 255
                self.pairs.append((noisy, self_ensemble(network, noisy)))
        pixels = np.array([noisy[0].numel() for noisy, _ in self.pairs], dtype=np.float64)
        self.weights = pixels / pixels.sum()

    def draw(self, step: int) -> Batch:
        """Draw the batch of a step, augmented."""
        rng = np.random.default_rng((self.seed, step, 2))
        size = self.patch_size
        crops = []
        for i in rng.choice(len(self.pairs), self.batch, p=self.weights):
            y, x = (int(rng.integers(n - size + 1)) for n in self.pairs[i][0].shape[1:])
            crops.append([image[:, y : y + size, x : x + size] for image in self.pairs[i]])
        noisy, target = (torch.stack(images) for images in zip(*crops, strict=True))
        mask = _draw_masks(rng, self.batch, size, int(rng.integers(2**62)))
        return _augment((noisy, target, mask.to(noisy.device)), rng)


def self_ensemble(network: MaskedNetwork, noisy: Tensor) -> Tensor:
    """Return the mean single-pass result over the eight rotations and flips of (3, H, W)."""
    with torch.inference_mode():
        return averaged(network, noisy[None], ORIENTATIONS)[0].clamp(0, 1)


class ReplayBuffer:
    """The latest batches, each used in several steps, as simulation is slower than training.

    Args:
        size: batches kept.
        seed: of the batch drawn for each step and its augmentation.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed
        self.batches: dict[int, Batch] = {}
        self.added = 0

    def add(self, batch: Batch) -> None:
        """Keep a batch, in place of the oldest."""
        self.batches[self.added % self.size] = batch
        self.added += 1

    def draw(self, step: int) -> Batch:
        """Draw the batch of a step, augmented."""
        rng = np.random.default_rng((self.seed, step, 1))
        return _augment(self.batches[int(rng.integers(len(self.batches)))], rng)


def _draw_masks(rng: np.random.Generator, batch: int, size: int, seed: int) -> Tensor:
    ratios = torch.from_numpy(rng.choice(MASK_RATIOS, batch)).float()
    return random_mask(ratios, (batch, size, size), torch.Generator().manual_seed(seed))


def _augment(batch: Batch, rng: np.random.Generator) -> Batch:
    """Rotate and flip a batch, all of it in the same way."""
    rotations, flip = (int(n) for n in rng.integers([4, 2]))
    noisy, target, mask = (torch.rot90(x.flip(3) if flip else x, rotations, (2, 3)) for x in batch)
    return noisy, target, mask

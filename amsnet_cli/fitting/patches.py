"""Random training patches: where they are cropped, how they are augmented, what is masked."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli.core.masks import random_mask
from amsnet_cli.core.pixel_shuffle import pd_down
from amsnet_cli.fitting.images import ImageCrop, ImageFolder, to_tensor

VALIDATION_RATIO = 0.02
"""Fraction of the pixels of each image that is never trained on."""


@dataclass(frozen=True, kw_only=True)
class PatchSpec:
    """A patch of a crop and its augmentation.

    Attributes:
        crop: index in `ImageFolder.crops`.
        top: first row.
        left: first column.
        size: side in pixels; a smaller crop is reflected.
        rot90: rotations by 90 degrees.
        flip: whether it is mirrored after the rotation.
    """

    crop: int
    top: int
    left: int
    size: int
    rot90: int
    flip: bool

    def cut(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the (P, P, C) patch of (H, W, C), not augmented."""
        part = pixels[self.top : self.top + self.size, self.left : self.left + self.size]
        missing = [(0, self.size - length) for length in part.shape[:2]]
        if any(after for _, after in missing):
            part = np.pad(part, [*missing, (0, 0)], mode="reflect")
        return part

    def augment(self, patch: Tensor) -> Tensor:
        """Rotate and flip (C, P, P)."""
        patch = torch.rot90(patch, self.rot90, (1, 2))
        return patch.flip(2) if self.flip else patch


class PatchSampler:
    """Draws patches uniformly over all pixels.

    Args:
        images: to crop.
        size: side of a patch in pixels.
        seed: of everything drawn.
        quarter_turns: whether augmentation rotates by 90 degrees, or flips only, in both
            directions.
        exclude: indices of crops to leave out.
    """

    def __init__(
        self,
        images: ImageFolder[ImageCrop],
        size: int,
        seed: int,
        *,
        quarter_turns: bool = True,
        exclude: Container[int] = (),
    ) -> None:
        self.size, self.seed = size, seed
        self._rotations = (0, 1, 2, 3) if quarter_turns else (0, 2)
        self._shapes = [crop.pixels.shape[:2] for crop in images.crops]
        areas = np.array([height * width for height, width in self._shapes], dtype=np.float64)
        areas *= [i not in exclude for i in range(len(areas))]
        self._weights = areas / areas.sum()

    def rng(self, *key: str | int) -> np.random.Generator:
        """Return a generator whose seed is a function of this one's and of the key."""
        digest = hashlib.sha256(repr((self.seed, *key)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))

    def draw(self, rng: np.random.Generator) -> PatchSpec:
        """Draw a patch and its augmentation."""
        crop = int(rng.choice(len(self._shapes), p=self._weights))
        top, left = (
            int(rng.integers(max(0, length - self.size) + 1)) for length in self._shapes[crop]
        )
        rot90, flip = self._rotations[rng.integers(len(self._rotations))], bool(rng.integers(2))
        return PatchSpec(crop=crop, top=top, left=left, size=self.size, rot90=rot90, flip=flip)


class MaskedPatches:
    """Patches split into sub-images, each with a random mask and its validation pixels.

    Args:
        images: to crop.
        sampler: draws the patches; their size is a multiple of `pd_stride`.
        pd_stride: of the pixel-shuffle downsampling.
        mask_ratio: fraction of each sub-image that is masked.
    """

    def __init__(
        self,
        images: ImageFolder[ImageCrop],
        sampler: PatchSampler,
        *,
        pd_stride: int,
        mask_ratio: float,
    ) -> None:
        self.images, self.sampler = images, sampler
        self.pd_stride, self.mask_ratio = pd_stride, mask_ratio
        self._validation = [
            np.random.default_rng((sampler.seed, 3, i)).random(crop.pixels.shape[:2], np.float32)
            < VALIDATION_RATIO
            for i, crop in enumerate(images.crops)
        ]

    def draw(self, count: int, *key: str | int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw patches, augment them, split them into sub-images and mask those.

        Args:
            count: B, how many patches.
            key: the same key gives the same patches and masks.

        Returns:
            noisy (B*s*s, 3, P/s, P/s) float32 in [0, 1], mask and validation
            (B*s*s, 1, P/s, P/s) bool. The validation pixels are a fixed 2 % of each image.
        """
        rng = self.sampler.rng(*key)
        specs = [self.sampler.draw(rng) for _ in range(count)]
        noisy = pd_down(
            torch.stack([s.augment(to_tensor(s.cut(self._pixels(s)))) for s in specs]),
            self.pd_stride,
        )  # (B, 3, P, P) -> (B*s*s, 3, P/s, P/s)
        validation = pd_down(
            torch.stack([s.augment(self._validation_mask(s)) for s in specs]), self.pd_stride
        )  # (B, 1, P, P) -> (B*s*s, 1, P/s, P/s)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        ratio = torch.full((len(noisy),), self.mask_ratio)
        mask = random_mask(ratio, (len(noisy), *noisy.shape[-2:]), generator)
        return noisy, mask, validation

    def _pixels(self, spec: PatchSpec) -> NDArray[Any]:
        return self.images.crops[spec.crop].pixels

    def _validation_mask(self, spec: PatchSpec) -> Tensor:
        mask = spec.cut(self._validation[spec.crop][..., None])  # (P, P, 1)
        return torch.from_numpy(mask.copy()).permute(2, 0, 1)

"""Training patches, cut from windows of photos."""

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
from amsnet_cli.fitting.images import Shots

HELD_OUT_SHARE = 0.02


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A square of a window, turned and mirrored.

    Attributes:
        window: its number.
        top: first row.
        left: first column.
        side: of the square, in pixels; where the window is smaller, it is reflected.
        turns: by 90 degrees.
        mirrored: after turning.
    """

    window: int
    top: int
    left: int
    side: int
    turns: int
    mirrored: bool

    def of(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Cut it, (P, P, ...), from (H, W, ...)."""
        return self.turned(self.upright(pixels))

    def upright(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Cut it and do not turn it."""
        part = pixels[self.top : self.top + self.side, self.left : self.left + self.side]
        missing = [(0, self.side - length) for length in part.shape[:2]]
        if any(after for _, after in missing):
            part = np.pad(part, missing + [(0, 0)] * (part.ndim - 2), mode="reflect")
        return part

    def turned(self, part: NDArray[Any]) -> NDArray[Any]:
        """Turn and mirror what was cut."""
        part = np.rot90(part, self.turns)
        return part[:, ::-1] if self.mirrored else part


class Cutter:
    """Cuts windows where chance wants it, all pixels alike.

    Args:
        shots: what to cut from.
        side: of a patch in pixels.
        seed: everything drawn is a function of it.
        quarter_turns: whether patches are turned by 90 degrees as well, or mirrored alone, in
            both directions.
        without: numbers of windows that are left alone.
    """

    def __init__(
        self,
        shots: Shots,
        side: int,
        seed: int,
        *,
        quarter_turns: bool = True,
        without: Container[int] = (),
    ) -> None:
        self.side, self.seed = side, seed
        self._turns = (0, 1, 2, 3) if quarter_turns else (0, 2)
        self._sizes = [w.pixels.shape[:2] for w in shots.windows]
        areas = np.array([height * width for height, width in self._sizes], dtype=np.float64)
        usable = np.array([i not in without for i in range(len(areas))])
        self._weights = areas * usable / (areas * usable).sum()

    def rng(self, key: tuple[str, int]) -> np.random.Generator:
        """Seed a generator of a key's own."""
        digest = hashlib.sha256(repr((self.seed, *key)).encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))

    def draw(self, rng: np.random.Generator) -> Cut:
        """Draw a place and how it is turned."""
        window = int(rng.choice(len(self._sizes), p=self._weights))
        top, left = (
            int(rng.integers(max(0, length - self.side) + 1)) for length in self._sizes[window]
        )
        turns, mirrored = self._turns[rng.integers(len(self._turns))], bool(rng.integers(2))
        return Cut(
            window=window, top=top, left=left, side=self.side, turns=turns, mirrored=mirrored
        )


class Patches:
    """Patches of photos, split into sub-images, with what is hidden and held out of them.

    Args:
        shots: what to cut from.
        cutter: where; its side is a multiple of `stride`.
        stride: of the pixel-shuffle downsampling.
        hidden_share: how much of each sub-image is hidden at random.
    """

    def __init__(self, shots: Shots, cutter: Cutter, *, stride: int, hidden_share: float) -> None:
        self.shots, self.cutter = shots, cutter
        self.stride, self.hidden_share = stride, hidden_share
        self._held_out = [
            np.random.default_rng((cutter.seed, 3, i)).random(w.pixels.shape[:2], np.float32)
            < HELD_OUT_SHARE
            for i, w in enumerate(shots.windows)
        ]

    def draw(self, count: int, key: tuple[str, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Draw patches, turned and mirrored at random, and split them into sub-images.

        Args:
            count: B, how many patches.
            key: the same key gives the same patches and masks.

        Returns:
            noisy (B*s*s, 3, P/s, P/s) float32 in [0, 1], hidden and held_out
            (B*s*s, 1, P/s, P/s) bool. Held-out pixels are a fixed 2 % of each photo.
        """
        rng = self.cutter.rng(key)
        cuts = [self.cutter.draw(rng) for _ in range(count)]
        pixels = [
            cut.of(window.pixels).astype(np.float32) / np.float32(window.scale)
            for cut in cuts
            for window in [self.shots.windows[cut.window]]
        ]
        noisy = torch.from_numpy(np.stack(pixels))  # (B, P, P, 3)
        noisy = pd_down(noisy.permute(0, 3, 1, 2), self.stride)  # (B*s*s, 3, P/s, P/s)
        held_out = torch.from_numpy(np.stack([c.of(self._held_out[c.window]) for c in cuts]))
        held_out = pd_down(held_out[:, None], self.stride)  # (B*s*s, 1, P/s, P/s)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        share = torch.full((len(noisy),), self.hidden_share)
        hidden = random_mask(share, (len(noisy), *noisy.shape[-2:]), generator)
        return noisy, hidden, held_out

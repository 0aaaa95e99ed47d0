"""Training patches, cut from the photos of a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli.core.downsampling import pd_down
from amsnet_cli.core.masks import random_mask
from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.colour import is_linear
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.photo import Pixels, unit_range
from amsnet_cli.photos.read import read_photo

HELD_OUT_SHARE = 0.02
PIXEL_BUDGET = 300_000_000
"""Pixels kept in memory at once; of larger folders each photo gives windows of its share."""
WINDOW = 512
"""Side of such a window in pixels."""


@dataclass(frozen=True)
class _Window:
    """Pixels (H, W, 3) as stored, the scale to [0, 1], and where they are held out (H, W)."""

    pixels: Pixels
    scale: float
    held_out: NDArray[np.bool_]


class Patches:
    """The photos of a folder, read once, as an endless source of masked sub-images.

    Args:
        folder: searched for photos recursively; they are only read.
        match: pattern of the names of those that count.
        side: of a patch in pixels, a multiple of `stride`; smaller photos are reflected.
        stride: of the pixel-shuffle downsampling.
        hidden_share: how much of each sub-image is hidden at random.
        seed: everything drawn is a function of it.
        quarter_turns: whether patches are turned by 90 degrees as well, or mirrored alone, in
            both directions.
        notice: called with a line for each photo that is skipped.

    Attributes:
        photos: how many could be read.
        skipped: why the others could not.

    Raises:
        PhotoError: no photo can be read, or none is named so.
    """

    def __init__(
        self,
        folder: Path,
        *,
        match: str = "*",
        side: int,
        stride: int,
        hidden_share: float,
        seed: int,
        quarter_turns: bool = True,
        notice: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.side, self.stride, self.hidden_share, self.seed = side, stride, hidden_share, seed
        self._turns = (0, 1, 2, 3) if quarter_turns else (0, 2)
        self.skipped: list[str] = []
        self._windows: list[_Window] = []
        paths = [path for path in find_photos(folder) if fnmatchcase(path.name, match)]
        if not paths:
            raise PhotoError(
                f"{folder}: no photo in it is named like {match}", "try another --match"
            )
        rng = np.random.default_rng((seed, 1))
        for path in paths:
            try:
                self._add(path, max(WINDOW * WINDOW, PIXEL_BUDGET // len(paths)), rng)
            except PhotoError as error:
                self.skipped.append(str(error))
                notice(f"skipped {error}")
        self.photos = len(paths) - len(self.skipped)
        if not self.photos:
            raise PhotoError(f"{folder}: none of its {len(paths)} photos can be read")
        areas = np.array([w.held_out.size for w in self._windows], dtype=np.float64)
        self._weights = areas / areas.sum()

    def draw(self, count: int, key: tuple[str, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Draw patches, turned and mirrored at random, and split them into sub-images.

        Args:
            count: B, how many patches.
            key: the same key gives the same patches and masks.

        Returns:
            noisy (B*s*s, 3, P/s, P/s) float32 in [0, 1], hidden and held_out
            (B*s*s, 1, P/s, P/s) bool. Held-out pixels are a fixed 2 % of each photo.
        """
        digest = hashlib.sha256(repr((self.seed, *key)).encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        cuts = [self._cut(rng) for _ in range(count)]
        noisy = torch.from_numpy(np.stack([pixels for pixels, _ in cuts]))  # (B, P, P, 3)
        noisy = pd_down(noisy.permute(0, 3, 1, 2), self.stride)  # (B*s*s, 3, P/s, P/s)
        held_out = torch.from_numpy(np.stack([held for _, held in cuts]))[:, None]
        held_out = pd_down(held_out, self.stride)  # (B*s*s, 1, P/s, P/s)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        share = torch.full((len(noisy),), self.hidden_share)
        hidden = random_mask(share, (len(noisy), *noisy.shape[-2:]), generator)
        return noisy, hidden, held_out

    def fingerprint(self) -> str:
        """Hash all pixels, to tell whether the folder is still the same."""
        digest = hashlib.sha256()
        for window in self._windows:
            digest.update(np.ascontiguousarray(window.pixels).data)
        return digest.hexdigest()

    def _add(self, path: Path, most: int, rng: np.random.Generator) -> None:
        """Read a photo and keep all of it, or windows of `most` pixels together."""
        photo = read_photo(path)
        if photo.pixels.dtype == np.float32 or is_linear(photo.icc):
            pixels, scale = unit_range(photo)[0], 1.0
        else:
            pixels, scale = photo.pixels, float(np.iinfo(photo.pixels.dtype).max)
        height, width = pixels.shape[:2]
        pixels = np.broadcast_to(pixels, (height, width, 3))
        parts = [pixels]
        if height * width > most:
            corners = [
                (rng.integers(max(1, height - WINDOW)), rng.integers(max(1, width - WINDOW)))
                for _ in range(most // (WINDOW * WINDOW))
            ]
            parts = [pixels[y : y + WINDOW, x : x + WINDOW].copy() for y, x in corners]
        for part in parts:
            held_out = rng.random(part.shape[:2], dtype=np.float32) < HELD_OUT_SHARE
            self._windows.append(_Window(part, scale, held_out))

    def _cut(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Cut one patch, (P, P, 3) in [0, 1], and where it is held out, (P, P)."""
        window = self._windows[rng.choice(len(self._windows), p=self._weights)]
        top, left = (
            int(rng.integers(max(0, length - self.side) + 1)) for length in window.held_out.shape
        )
        area = np.s_[top : top + self.side, left : left + self.side]
        pixels, held_out = window.pixels[area], window.held_out[area]
        missing = [(0, self.side - length) for length in held_out.shape]
        if any(after for _, after in missing):
            pixels = np.pad(pixels, (*missing, (0, 0)), mode="reflect")
            held_out = np.pad(held_out, missing, mode="reflect")
        turn, mirror = self._turns[rng.integers(len(self._turns))], bool(rng.integers(2))
        pixels, held_out = np.rot90(pixels, turn), np.rot90(held_out, turn)
        if mirror:
            pixels, held_out = pixels[:, ::-1], held_out[:, ::-1]
        return pixels.astype(np.float32) / np.float32(window.scale), held_out

"""Photos with noise so coarse that the bundled weights have hardly seen it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


def with_coarse_noise(clean: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    """Add noise that pixels five apart still share, which the default has hardly seen."""
    generator = torch.Generator().manual_seed(seed)
    height, width, channels = clean.shape
    white = torch.randn((1, channels, height + 8, width + 8), generator=generator)
    white[:, 1:] = 0.8 * white[:, :1] + 0.6 * white[:, 1:]
    taps = torch.exp(-(torch.arange(-4.0, 5) ** 2) / (2 * 1.6**2))
    kernel = torch.outer(taps, taps)
    noise = F.conv2d(white[0][:, None], kernel[None, None])[:, 0] / kernel.square().sum().sqrt()
    noisy = clean + sigma * noise.permute(1, 2, 0).numpy()
    return noisy.round().clip(0, 255).astype(np.uint8)


def save_shots(folder: Path, clean: np.ndarray, *, sigma: float = 6, iso: int = 3200) -> Path:
    """Write two photos of a camera into a new folder."""
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Canon", "Canon EOS 6D"
    exif.get_ifd(0x8769)[0x8827] = iso
    for i in range(2):
        noisy = with_coarse_noise(np.roll(clean, 40 * i, 1), sigma, i)
        Image.fromarray(noisy).save(folder / f"{i}.png", exif=exif)
    return folder

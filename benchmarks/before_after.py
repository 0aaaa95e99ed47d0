"""Make the README's pictures from CC0 photos.

    python -m benchmarks.before_after docs

Adds simulated camera noise to pictures of scikit-image (astronaut by NASA, coffee, chelsea) and
denoises them with the default weights. Writes `noisy.png` and `before_after.png` (the astronaut),
and `crops.png`: noisy, denoised, clean and residual, at 200 %.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage.data
import torch
from numpy.typing import NDArray

from amsnet_cli import denoise, load_model, psnr, write_photo
from amsnet_cli.model import Model
from amsnet_cli.photos.photo import Photo
from training.camera import simulate

CAMERAS = 24
"""Simulated for each picture; the one with the nearest PSNR is used."""
TARGET_PSNR = 20.0
"""Of the noisy astronaut, in dB."""
SEED = 2
"""Of the cameras; chosen by eye, so that all four crops show noise."""
CROPS = (
    ("astronaut", (60, 170), 18.0), ("coffee", (150, 180), 24.0),
    ("chelsea", (90, 130), 30.0), ("astronaut", (180, 300), 34.0),
)  # fmt: skip
"""Photo, top and left of the crop, target PSNR of the noisy photo in dB."""
SIDE = 128
"""Of a crop, in pixels."""
RESIDUAL_GAIN = 3

Picture = NDArray[np.uint8]


def photograph(picture: Picture, target_psnr: float, seed: int) -> tuple[Picture, Picture]:
    """Return the noisy and clean picture of the simulated camera nearest to `target_psnr` dB."""
    clean = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    pairs = simulate(clean.expand(CAMERAS, -1, -1, -1), torch.Generator().manual_seed(seed))
    photos = [(x.permute(0, 2, 3, 1) * 255).round().byte().numpy() for x in pairs]
    scores = np.array([psnr(n, c) for n, c in zip(*photos, strict=True)])
    chosen = int(np.argmin(np.abs(scores - target_psnr)))
    return photos[0][chosen], photos[1][chosen]


def sheet(model: Model) -> Picture:
    """Rows of crops: noisy, denoised, clean, residual."""
    rows = []
    for name, (top, left), target_psnr in CROPS:
        whole = getattr(skimage.data, name)()
        side = min(whole.shape[:2]) // 2 * 2
        noisy, clean = photograph(np.ascontiguousarray(whole[:side, :side]), target_psnr, SEED)
        denoised = denoise(Photo(pixels=noisy), weights=model).photo.pixels
        residual = np.clip(128 + RESIDUAL_GAIN * (noisy.astype(int) - denoised), 0, 255).astype(
            np.uint8
        )
        area = np.s_[top : top + SIDE, left : left + SIDE]
        row = np.concatenate([x[area] for x in (noisy, denoised, clean, residual)], 1)
        rows.append(row.repeat(2, 0).repeat(2, 1))
        print(f"{name}: {psnr(noisy, clean):.2f} dB noisy, {psnr(denoised, clean):.2f} dB denoised")
    return np.concatenate(rows)


def main() -> None:
    """Simulate, denoise, write."""
    folder = Path(sys.argv[1])
    model = load_model("photo")
    before, clean = photograph(skimage.data.astronaut(), TARGET_PSNR, SEED)
    write_photo(Photo(pixels=before), folder / "noisy.png")
    after = denoise(Photo(pixels=before), weights=model).photo.pixels
    half = before.shape[1] // 2
    both = np.concatenate([before[:, :half], np.full((len(before), 2, 3), 255, np.uint8)], 1)
    both = np.concatenate([both, after[:, half:]], 1)
    write_photo(Photo(pixels=both), folder / "before_after.png")
    print(f"before_after: {psnr(before, clean):.2f} dB noisy, {psnr(after, clean):.2f} dB denoised")
    write_photo(Photo(pixels=sheet(model)), folder / "crops.png")


if __name__ == "__main__":
    main()

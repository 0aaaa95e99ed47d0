"""The README's pictures, made by the tool itself from CC0 photos.

    python -m benchmarks.before_after docs

Takes scikit-image's pictures (astronaut by NASA, coffee, chelsea), photographs them with simulated
cameras, denoises that with the default weights and writes `noisy.png` and `before_after.png` (the
astronaut) and `crops.png`: noisy, denoised, clean and what was removed, at 200 %.
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
WANTED = 20.0
"""PSNR in dB of the camera that is taken for the astronaut."""
SEED = 2
"""Of the cameras: chosen by eye, so that all four show noise."""
CROPS = (
    ("astronaut", (60, 170), 18.0), ("coffee", (150, 180), 24.0),
    ("chelsea", (90, 130), 30.0), ("astronaut", (180, 300), 34.0),
)  # fmt: skip
"""Photo, top and left of the crop, PSNR in dB of the camera."""
SIDE = 128
AMPLIFIED = 3

Picture = NDArray[np.uint8]


def photographed(picture: Picture, wanted: float, seed: int) -> tuple[Picture, Picture]:
    """Noisy and clean, by the simulated camera whose noise is nearest to `wanted` dB."""
    clean = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    pairs = simulate(clean.expand(CAMERAS, -1, -1, -1), torch.Generator().manual_seed(seed))
    photos = [(x.permute(0, 2, 3, 1) * 255).round().byte().numpy() for x in pairs]
    scores = np.array([psnr(n, c) for n, c in zip(*photos, strict=True)])
    chosen = int(np.argmin(np.abs(scores - wanted)))
    return photos[0][chosen], photos[1][chosen]


def sheet(model: Model) -> Picture:
    """Rows of crops: noisy, denoised, clean, removed."""
    rows = []
    for name, (top, left), wanted in CROPS:
        whole = getattr(skimage.data, name)()
        side = min(whole.shape[:2]) // 2 * 2
        noisy, clean = photographed(np.ascontiguousarray(whole[:side, :side]), wanted, SEED)
        denoised = denoise(Photo(pixels=noisy), weights=model).photo.pixels
        removed = np.clip(128 + AMPLIFIED * (noisy.astype(int) - denoised), 0, 255).astype(np.uint8)
        area = np.s_[top : top + SIDE, left : left + SIDE]
        row = np.concatenate([x[area] for x in (noisy, denoised, clean, removed)], 1)
        rows.append(row.repeat(2, 0).repeat(2, 1))
        print(f"{name}: {psnr(noisy, clean):.2f} dB noisy, {psnr(denoised, clean):.2f} dB denoised")
    return np.concatenate(rows)


def main() -> None:
    """Simulate, denoise, write."""
    folder = Path(sys.argv[1])
    model = load_model("photo")
    before, truth = photographed(skimage.data.astronaut(), WANTED, SEED)
    write_photo(Photo(pixels=before), folder / "noisy.png")
    after = denoise(Photo(pixels=before), weights=model).photo.pixels
    half = before.shape[1] // 2
    both = np.concatenate([before[:, :half], np.full((len(before), 2, 3), 255, np.uint8)], 1)
    both = np.concatenate([both, after[:, half:]], 1)
    write_photo(Photo(pixels=both), folder / "before_after.png")
    print(f"before_after: {psnr(before, truth):.2f} dB noisy, {psnr(after, truth):.2f} dB denoised")
    write_photo(Photo(pixels=sheet(model)), folder / "crops.png")


if __name__ == "__main__":
    main()

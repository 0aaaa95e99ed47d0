"""The README's pictures, made by the tool itself from a CC0 photo.

    python -m benchmarks.before_after docs

Takes scikit-image's astronaut (NASA, public domain), photographs it with a simulated camera in low
light, denoises that with the default weights and writes `noisy.png` and `before_after.png`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import skimage.data
import torch

from amsnet_cli import denoise, find_weights, load_model, psnr, write_photo
from amsnet_cli.photos.photo import Photo
from training.camera import simulate

CAMERAS = 24
WANTED = 20.0
"""PSNR in dB of the camera that is taken."""


def main() -> None:
    """Simulate, denoise, write."""
    folder = Path(sys.argv[1])
    picture = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None].float() / 255
    generator = torch.Generator().manual_seed(0)
    noisy, clean = simulate(picture.expand(CAMERAS, -1, -1, -1), generator)
    photos = [(x.permute(0, 2, 3, 1) * 255).round().byte().numpy() for x in (noisy, clean)]
    scores = [psnr(n, c) for n, c in zip(*photos, strict=True)]
    chosen = int(np.argmin(np.abs(np.array(scores) - WANTED)))
    before, truth = (p[chosen] for p in photos)
    write_photo(Photo(pixels=before), folder / "noisy.png")
    model = load_model(find_weights(None), "photo")
    after = denoise(Photo(pixels=before), model).pixels
    half = before.shape[1] // 2
    both = np.concatenate([before[:, :half], np.full((len(before), 2, 3), 255, np.uint8)], 1)
    both = np.concatenate([both, after[:, half:]], 1)
    write_photo(Photo(pixels=both), folder / "before_after.png")
    print(f"camera {chosen}: {scores[chosen]:.2f} dB noisy, {psnr(after, truth):.2f} dB denoised")


if __name__ == "__main__":
    main()

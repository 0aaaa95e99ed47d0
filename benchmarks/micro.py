"""PSNR and SSIM on fluorescence pictures, after the best linear map of grey values.

    python -m benchmarks.micro DATA/micro5 [--weights MODEL] [--results DIR]

The folder has noisy/ and clean/ in it, with grey TIFF files of the same names. Microscopes store
clean and noisy pictures in units that differ, so each result is mapped by the factor and the offset
that bring it nearest to the clean picture. Prints a line for each picture: the noisy one, the
result as a photo, and the result as counts, which is what `amsnet denoise` does for such files.
With `--results` it scores the files of that folder instead, another program's of the same names
(`benchmarks/noise2void.py`).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from amsnet_cli import read_photo
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.inference.denoise_counts import denoise_counts
from amsnet_cli.inference.stack_noise import Detector, stack_noise
from amsnet_cli.model import load_model
from amsnet_cli.research.evaluation import psnr, ssim
from amsnet_cli.stacks.find import open_stack
from benchmarks.quality import machine

Grey = NDArray[np.uint8]


def mapped(picture: NDArray[np.generic], clean: Grey) -> Grey:
    """Return the picture in the units of the clean one, (H, W, 1) with 8 bits."""
    x, y = picture.astype(np.float64).ravel(), clean.astype(np.float64).ravel()
    factor, offset = np.polyfit(x, y, 1)
    return np.rint(factor * x + offset).clip(0, 255).astype(np.uint8).reshape(clean.shape)


def main() -> None:
    """Print the scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--weights", default="photo", metavar="MODEL")
    parser.add_argument("--results", type=Path, metavar="DIR", help="of another program")
    options = parser.parse_args()
    if options.results:
        score_results(options.folder, options.results)
        return
    model = load_model(options.weights)
    print(machine())
    print("| picture | noisy | as a photo | as counts | s |\n|---|---:|---:|---:|---:|")
    rows = []
    for path in sorted((options.folder / "noisy").glob("*.tif")):
        clean = read_photo(options.folder / "clean" / path.name).pixels
        noisy = read_photo(path)
        stack = open_stack(path, counts=True)
        assert stack is not None
        photo = denoise(noisy, model).photo.pixels
        started = time.monotonic()
        noise = stack_noise(stack, [0], Detector()).law
        assert noise is not None
        counts = denoise_counts(stack.read(0), noise, model)
        seconds = time.monotonic() - started
        pictures = (noisy.pixels, photo, counts[..., None])
        scores = [
            score(mapped(picture, clean), clean) for picture in pictures for score in (psnr, ssim)
        ]
        rows.append(scores)
        print(_line(path.name, scores, seconds), flush=True)
    print(_line("mean", list(np.mean(rows, 0)), float("nan")))


def score_results(folder: Path, results: Path) -> None:
    """Print PSNR and SSIM of another program's results."""
    print("| picture | result |\n|---|---:|")
    rows = []
    for path in sorted((folder / "noisy").glob("*.tif")):
        clean = read_photo(folder / "clean" / path.name).pixels
        result = mapped(tifffile.imread(results / path.name), clean)
        rows.append((psnr(result, clean), ssim(result, clean)))
        print(f"| {path.name} | {rows[-1][0]:.2f} / {rows[-1][1]:.3f} |", flush=True)
    print("| mean | {:.2f} / {:.3f} |".format(*np.mean(rows, 0)))


def _line(picture: str, scores: list[float], seconds: float) -> str:
    cells = " | ".join(f"{p:.2f} / {s:.3f}" for p, s in zip(scores[::2], scores[1::2], strict=True))
    return f"| {picture} | {cells} | {f'{seconds:.1f}' if seconds > 0 else ''} |"


if __name__ == "__main__":
    main()

"""Compare a fit on the frames of a still scene as views of one scene with one on them as photos.

    python -m benchmarks.stack_fits --steps 40
    python -m benchmarks.stack_fits --write DIR
    python -m benchmarks.stack_fits --results DIR

Frames of Poisson noise, gain 2, with read noise of 1.5 electrons, are drawn of pictures that ship
with scikit-image. As views they are one stack; as photos each is a file of its own. Both fits take
the same steps, or `--minutes`, from the same start. Prints PSNR in dB, with the range of the clean
picture as peak, over four frames, by the default and with strength 1. `--write` writes the stacks
for another program (`benchmarks/noise2void.py`), `--results` scores what it made of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import skimage.data
import tifffile
from numpy.typing import NDArray

from amsnet_cli.fitting.fit import fit
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.fitting.start import load_start
from amsnet_cli.inference.denoise_counts import CountsOptions, denoise_counts
from amsnet_cli.inference.stack_noise import Detector, stack_noise
from amsnet_cli.model import Model, load_model
from amsnet_cli.stacks.find import open_stack
from benchmarks.quality import machine

T = TypeVar("T")

PHOTONS = {"cell": 60, "coins": 20, "moon": 15, "camera": 30}
"""Of white, for each picture."""
SIDE, GAIN, PEDESTAL, READ_NOISE = 256, 2.0, 100.0, 3.0


def main() -> None:
    """Print a line for each picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--pictures", nargs="+", default=list(PHOTONS), choices=list(PHOTONS))
    parser.add_argument("--minutes", type=float, help="of each fit, in place of steps")
    parser.add_argument("--write", type=Path, metavar="DIR", help="write the stacks, no more")
    parser.add_argument("--results", type=Path, metavar="DIR", help="of another program")
    options = parser.parse_args()
    if options.write or options.results:
        for name in options.pictures:
            clean, frames = simulate(name, options.frames)
            if options.write:
                options.write.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(options.write / f"{name}.tif", frames)
            else:
                result = tifffile.imread(options.results / f"{name}.tif")
                print(f"| {name} | {psnr(list(_four_of(result)), clean):.2f} |")
        return
    print(machine())
    print(
        "| picture | start | fitted as photos | fitted as views |\n|---|---:|---:|---:|", flush=True
    )
    start = load_start(None, mosaics=False)
    assert isinstance(start, Model)
    for name in options.pictures:
        clean, frames = simulate(name, options.frames)
        with TemporaryDirectory() as folder:
            stack, photos = Path(folder, "stack"), Path(folder, "photos")
            stack.mkdir()
            photos.mkdir()
            tifffile.imwrite(stack / "s.tif", frames, imagej=True, metadata={"axes": "TYX"})
            for i, frame in enumerate(frames):
                tifffile.imwrite(photos / f"{i}.tif", frame, imagej=True)
            cells = [score(start, stack / "s.tif", clean)]
            for learnt_from in (photos, stack):
                output = learnt_from / "model.safetensors"
                budget = FitOptions(
                    steps=None if options.minutes else options.steps, minutes=options.minutes
                )
                done = fit(learnt_from, output, budget, start=start)
                model = load_model(done.model) if done.model else start
                cells.append(score(model, stack / "s.tif", clean))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def simulate(name: str, count: int) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """Return the clean picture, and noisy frames of it."""
    picture = getattr(skimage.data, name)()
    top, left = ((length - SIDE) // 2 for length in picture.shape)
    light = picture[top : top + SIDE, left : left + SIDE] / 255 * PHOTONS[name]
    rng = np.random.default_rng(0)
    values = rng.poisson([light] * count) * GAIN
    values = values + rng.normal(PEDESTAL, READ_NOISE, values.shape)
    return light * GAIN + PEDESTAL, np.rint(values).clip(0).astype(np.uint16)


def score(model: Model, path: Path, clean: NDArray[np.float64]) -> str:
    """Return PSNR by the default and with strength 1."""
    stack = open_stack(path)
    assert stack is not None
    pages = range(len(stack.pages))
    law = stack_noise(stack, pages, Detector()).law
    assert law is not None
    found = []
    for strength in (None, 1.0):
        options = CountsOptions(strength=strength)
        results = [denoise_counts(stack.read(i), law, model, options) for i in _four_of(pages)]
        found.append(psnr(results, clean))
    return " / ".join(f"{value:.2f}" for value in found)


def psnr(results: list[NDArray[np.generic]], clean: NDArray[np.float64]) -> float:
    """Return PSNR in dB over all results, (H, W) each, with the range of `clean` as peak."""
    error = np.mean([np.square(result.astype(np.float64) - clean).mean() for result in results])
    return float(10 * np.log10(np.ptp(clean) ** 2 / error))


def _four_of(pages: Sequence[T]) -> Sequence[T]:
    return pages[:: max(1, len(pages) // 4)]


if __name__ == "__main__":
    main()

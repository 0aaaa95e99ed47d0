"""Measure the error of the noise that networks are told: estimated, against noisy less clean.

    python -m benchmarks.noise DATA --sets sidd10 polyu100 --kinds KODAK

DATA has one folder per set, with `noisy/` and `clean/` pictures of the same names. --kinds takes
folders of clean pictures, which get the noise of `benchmarks.kinds`. Each row has the median over
the pictures of the standard deviation estimated over the true one, and its least and largest; then
the median error of the five numbers of the spectrum, in natural logarithms. What noisy less clean
holds beside noise, at edges or in brightness, counts as noise here.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from amsnet_cli import Model, Photo, __version__, find_weights, load_model
from amsnet_cli.core.photo_noise import spectrum_of
from amsnet_cli.inference.noise_estimate import estimate_told_noise
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.photos.read import read_photo
from amsnet_cli.research.datasets import pair_photos
from benchmarks.kinds import KINDS, SIDE, middle
from benchmarks.quality import Picture, machine

WHITE = (2, 5, 15, 25, 50)
"""Standard deviations of white noise that is added to the pictures of `--kinds`."""


def error_of(noisy: Picture, clean: Picture, model: Model) -> tuple[float, NDArray[np.float64]]:
    """Estimated over true standard deviation, and the absolute error of the spectrum."""
    photo = Photo(pixels=noisy)
    told = estimate_told_noise(photo, PixelCodec.of(photo), model.network)
    x, y = (torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() / 255 for p in (noisy, clean))
    expected = told.sigma(y).square().mean().sqrt()
    true = (x - y).square().mean().sqrt()
    of_spectrum = (told.spectrum - spectrum_of(255 * (x - y)))[0].abs()
    return float(expected / true), of_spectrum.double().numpy()


def pairs_of(args: argparse.Namespace) -> Iterator[tuple[str, list[tuple[Picture, Picture]]]]:
    """Yield each set's and each kind's pairs."""
    for name in args.sets:
        paths = pair_photos(args.data / name / "noisy", args.data / name / "clean")
        yield name, [(read_photo(a).pixels, read_photo(b).pixels) for a, b in paths[:: args.every]]
    found = [path for folder in args.kinds for path in find_photos(folder)[:: args.every]]
    pictures = [middle(read_photo(path).pixels) for path in found]
    pictures = [picture for picture in pictures if picture.shape == (SIDE, SIDE, 3)]
    if not pictures:
        return
    for sigma in WHITE:
        rng = np.random.default_rng(sigma)
        yield (
            f"white {sigma}",
            [
                (
                    (p + sigma * rng.standard_normal(p.shape))
                    .round()
                    .clip(0, 255)
                    .astype(np.uint8),
                    p,
                )
                for p in pictures
            ],
        )
    for name, kind in KINDS.items():
        yield name, [kind.pair(p, np.random.default_rng(i)) for i, p in enumerate(pictures)]


def add_sets(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `pairs_of` reads."""
    parser.add_argument("data", type=Path, help="has one folder per set")
    parser.add_argument("--sets", nargs="+", default=[], metavar="SET")
    parser.add_argument("--kinds", nargs="+", type=Path, default=[], metavar="CLEAN_FOLDER")
    parser.add_argument("--every", type=int, default=1, help="take each n-th picture of a folder")


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_sets(parser)
    parser.add_argument("--weights", default="photo")
    args = parser.parse_args()
    model = load_model(find_weights(args.weights), args.weights)
    if not model.network.is_told:
        parser.error(f"{args.weights} is not told the noise, and estimates none")
    print(f"amsnet {__version__}, torch {torch.__version__}; {machine()}; weights {model.name}.\n")
    print("| set | sigma estimated / true: median | least | largest | spectrum |")
    print("|---|---:|---:|---:|---:|")
    for name, pairs in pairs_of(args):
        ratios, spectra = zip(*(error_of(*pair, model) for pair in pairs), strict=True)
        print(
            f"| {name} ({len(pairs)}) | {np.median(ratios):.2f} | {min(ratios):.2f} | "
            f"{max(ratios):.2f} | {np.median(spectra):.2f} |", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()

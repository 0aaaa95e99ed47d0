"""Measure what an option of `denoise` is worth, at several values.

    python -m benchmarks.options DATA --option caution 0 0.35 0.7 1.4 --sets sidd10 --kinds KODAK
    python -m benchmarks.options DATA --option ensemble 1 2 4 8 --sets sidd10 polyu100

`--option` takes the name of a number of `DenoiseOptions`, and values. DATA, --sets and --kinds are
those of `benchmarks.noise`. Each cell has the mean gain in dB over the noisy pictures and, after
the slash, the least gain.
"""

from __future__ import annotations

import argparse
from dataclasses import fields, replace

import numpy as np
import torch

from amsnet_cli import DenoiseOptions, Photo, __version__, find_weights, load_model
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.research.evaluation import PROTOCOL, psnr
from benchmarks.noise import add_sets, pairs_of
from benchmarks.quality import machine

KINDS_OF_NUMBERS = {"float": float, "int": int, "float | None": float, "int | None": int}
OPTIONS = {
    field.name: KINDS_OF_NUMBERS[str(field.type)]
    for field in fields(DenoiseOptions)
    if str(field.type) in KINDS_OF_NUMBERS
}


def main() -> None:
    """Parse, denoise, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--option", nargs="+", required=True, metavar="NAME VALUE")
    parser.add_argument("--weights", default="photo")
    add_sets(parser)
    args = parser.parse_args()
    name, *values = args.option
    if name not in OPTIONS or not values:
        parser.error(f"--option takes one of {', '.join(OPTIONS)}, and values")
    try:
        numbers = [OPTIONS[name](value) for value in values]
    except ValueError:
        parser.error(f"--option {name}: not a number among {' '.join(values)}")

    model = load_model(find_weights(args.weights), args.weights)
    print(
        f"amsnet {__version__}, torch {torch.__version__}; {machine()}; weights {model.name}; "
        f"each {args.every}. picture; seed 0. {PROTOCOL}; gains in dB, mean / least.\n"
    )
    print("| set | noisy |", *(f"{name} {value} |" for value in values))
    print("|---|---:|" + "---:|" * len(values))
    for title, pairs in pairs_of(args):
        noisy = np.array([psnr(x, clean) for x, clean in pairs])
        cells = []
        for number in numbers:
            options = replace(DenoiseOptions(), **{name: number})
            denoised = (denoise(Photo(pixels=x), model, options).photo.pixels for x, _ in pairs)
            after = [psnr(y, clean) for y, (_, clean) in zip(denoised, pairs, strict=True)]
            cells.append(f"{np.mean(after - noisy):+.3f} / {np.min(after - noisy):+.2f} |")
        print(f"| {title} ({len(pairs)}) | {noisy.mean():.2f} |", *cells, flush=True)


if __name__ == "__main__":
    main()

"""Measure the gain of each stage and the effect of each number of the post-processing.

    python -m benchmarks.postprocess DATA --sets sidd10 polyu100 --kinds KODAK MCMASTER
    python -m benchmarks.postprocess DATA --sets sidd10 --without limit_sharpness keep_graphics
    python -m benchmarks.postprocess DATA --sets sidd10 polyu100 --sweep

DATA has one folder per set, with `noisy/` and `clean/` pictures of the same names. --kinds takes
folders of clean pictures, which get the noise of `benchmarks.kinds`. The network runs once per
picture, with the weights that `amsnet denoise` would select. Only the post-processing is repeated.

The table has a row for each set: the gain in dB over the noisy picture of `auto` and of the
network's output (`--strength 1`), and the gain of each stage: that of `auto` minus that of `auto`
without the stage. Each cell has the mean and, after the slash, the least of all pictures.

--sweep changes each number by a fifth up and down, one at a time, and prints the larger change of
each set's mean. Odd integers stay odd.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from amsnet_cli import DenoiseOptions, Model, Photo, __version__, find_weights, load_model
from amsnet_cli.inference.denoise import ResolvedOptions, resolve_options
from amsnet_cli.inference.photo_rows import (
    correct_photo,
    photo_statistics,
    run_photo,
)
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.read import read_photo
from amsnet_cli.postprocess.config import PostprocessConfig
from amsnet_cli.postprocess.pipeline import Corrector
from amsnet_cli.research.datasets import pair_photos
from amsnet_cli.research.evaluation import PROTOCOL, psnr
from amsnet_cli.weights.manifest import sha256_of
from benchmarks.kinds import KINDS, SIDE, middle
from benchmarks.quality import machine

STAGES = [f.name for f in fields(PostprocessConfig) if f.type == "bool"]
FACTORS = (0.8, 1.2)
NO_EFFECT = 0.01
"""Change in dB of a set's mean up to which a number is listed as without effect."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A picture with the network's output.

    Attributes:
        noisy: 8 bits.
        clean: (H, W, 3) uint8.
        before: PSNR of the noisy picture, in dB.
        resolved: options of its denoising.
        output: of the network, as from `run_photo`.
    """

    noisy: Photo
    clean: NDArray[np.uint8]
    before: float
    resolved: ResolvedOptions
    output: Tensor

    @classmethod
    def of(cls, noisy: Photo, clean: NDArray[np.uint8], model: Model) -> Case:
        """Run the network over a picture."""
        resolved = resolve_options(noisy, model, DenoiseOptions())
        output = run_photo(
            noisy, resolved.box, resolved.codec, model, resolved.inference, noise=resolved.noise
        )
        return cls(
            noisy=noisy,
            clean=clean,
            before=psnr(noisy.pixels, clean),
            resolved=resolved,
            output=output,
        )

    def gain(self, config: PostprocessConfig) -> float:
        """Gain in dB over the noisy picture."""
        statistics = photo_statistics(self.noisy, self.output, self.resolved.codec, config)
        corrector = Corrector(statistics, self.resolved.blend, config)
        result = correct_photo(self.noisy, self.output.clone(), self.resolved.codec, corrector)
        return psnr(result.pixels, self.clean) - self.before


def gains(cases: list[Case], config: PostprocessConfig) -> NDArray[np.float64]:
    """Gain of each picture in dB."""
    return np.array([case.gain(config) for case in cases])


def numbers_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """All numbers of a configuration.

    Yields:
        The name, the value and a function that returns the configuration with another value.
    """
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        put = partial(_replaced, config, field.name)
        if isinstance(value, bool):
            continue
        if is_dataclass(value):
            for inner, number, put_inner in numbers_of(value, f"{name}."):
                yield inner, number, lambda x, put=put, inner=put_inner: put(inner(x))
        else:
            yield name, value, put


def moved(value: Any, factor: float) -> Any:
    """Scale a number; integers change by at least 1."""
    if isinstance(value, float):
        return value * factor
    away = 1 if factor > 1 else -1
    result = away * max(away * round(value * factor), away * value + 1)
    return result + away * (value % 2 and result % 2 == 0)


def _replaced(config: Any, name: str, value: Any) -> Any:
    return replace(config, **{name: value})


def load_set(folder: Path, every: int, model: Model) -> list[Case]:
    """Run the network over each n-th picture of a set."""
    pairs = pair_photos(folder / "noisy", folder / "clean")[::every]
    return [Case.of(read_photo(a), read_photo(b).pixels, model) for a, b in pairs]


def load_kinds(folders: list[Path], every: int, model: Model) -> Iterator[tuple[str, list[Case]]]:
    """Run the network over each kind of noise of `benchmarks.kinds`."""
    paths = [path for folder in folders for path in find_photos(folder)[::every]]
    pictures = [middle(read_photo(path).pixels) for path in paths]
    pictures = [picture for picture in pictures if picture.shape == (SIDE, SIDE, 3)]
    for name, kind in KINDS.items():
        pairs = [kind.pair(x, np.random.default_rng(i)) for i, x in enumerate(pictures)]
        yield name, [Case.of(Photo(pixels=noisy), clean, model) for noisy, clean in pairs]


def print_stages(name: str, cases: list[Case], stages: list[str]) -> None:
    """Print the row of a set."""
    default = PostprocessConfig()
    auto, raw_output = gains(cases, default), gains(cases, PostprocessConfig.none())
    cells = [f"{np.mean([case.before for case in cases]):.2f}", _cell(auto), _cell(raw_output)]
    for stage in stages:
        cells.append(_cell(auto - gains(cases, replace(default, **{stage: False}))))
    print(f"| {name} ({len(cases)}) |", " | ".join(cells), "|", flush=True)


def print_sweep(sets: dict[str, list[Case]], only: list[str]) -> None:
    """Print a row for each number."""
    default = PostprocessConfig()
    auto = {name: gains(cases, default).mean() for name, cases in sets.items()}
    print("\n| number | default | largest |", " | ".join(sets), "|")
    print("|---|---:|---:|" + "---:|" * len(sets))
    without_effect = []
    for number, value, put in numbers_of(default):
        if not number.startswith(tuple(only)):
            continue
        configs = [put(moved(value, factor)) for factor in FACTORS]
        changes = []
        for name, cases in sets.items():
            both = [gains(cases, config).mean() - auto[name] for config in configs]
            changes.append(max(both, key=abs))
        largest = max(changes, key=abs)
        if abs(largest) <= NO_EFFECT:
            without_effect.append(number)
        cells = " | ".join(f"{change:+.3f}" for change in changes)
        print(f"| {number} | {_format(value)} | {largest:+.3f} | {cells} |", flush=True)
    print(f"\nNo set moves by more than {NO_EFFECT} dB: {', '.join(without_effect) or 'none'}.")


def _cell(values: NDArray[np.float64]) -> str:
    return f"{values.mean():+.3f} / {values.min():+.2f}"


def _format(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Parse, run the networks once, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="has one folder per set")
    parser.add_argument("--sets", nargs="+", default=[], metavar="SET")
    parser.add_argument("--kinds", nargs="+", type=Path, default=[], metavar="CLEAN_FOLDER")
    parser.add_argument("--every", type=int, default=1, help="take each n-th picture of a folder")
    parser.add_argument("--weights", default="photo")
    parser.add_argument("--without", nargs="+", choices=STAGES, default=STAGES, metavar="STAGE")
    parser.add_argument("--sweep", action="store_true", help="change each number by a fifth")
    parser.add_argument(
        "--numbers",
        nargs="+",
        default=[""],
        metavar="START",
        help="of the sweep: only those that begin with START",
    )
    args = parser.parse_args()
    if not args.sets and not args.kinds:
        parser.error("name --sets, --kinds or both")

    weights = find_weights(args.weights)
    model = load_model(weights, args.weights)
    print(
        f"amsnet {__version__}, torch {torch.__version__}; {machine()}; weights "
        f"{args.weights} {sha256_of(weights)[:12]}; "
        f"seed 0; each {args.every}. picture. {PROTOCOL}; gains in dB over the noisy picture, "
        f"mean / least.\n"
    )
    stages = list(args.without)
    if not args.sweep:
        print("| set | noisy | auto | strength 1 |", " | ".join(stages), "|")
        print("|---|---:|---:|---:|" + "---:|" * len(stages))
    sets: dict[str, list[Case]] = {}

    def report(name: str, cases: list[Case]) -> None:
        if args.sweep:
            sets[name] = cases
        else:
            print_stages(name, cases, stages)

    for name in args.sets:
        report(name, load_set(args.data / name, args.every, model))
    if args.kinds:
        for name, cases in load_kinds(args.kinds, args.every, model):
            report(name, cases)
    if args.sweep:
        print_sweep(sets, args.numbers)


if __name__ == "__main__":
    main()

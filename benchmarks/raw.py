"""How well RAW files are denoised, on the mosaic and after development.

    python -m benchmarks.raw FOLDER                    # on the mosaic, some minutes
    python -m benchmarks.raw FOLDER --metrics m a c    # developed by LibRaw and darktable, too

FOLDER holds NAME_ISO.dng, NAME_clean.dng and `laws.json`, as `benchmarks.make_raw` writes them.
Prints one Markdown table a metric, PSNR in dB:

    m  the mosaic itself, white-balanced, gamma 2.2
    a  developed by LibRaw: the camera's white balance, AHD, sRGB
    c  developed by darktable without a workflow, sRGB
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from amsnet_cli import __version__, find_weights, load_model
from amsnet_cli.atomic import write_whole
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.inference.denoise_mosaic import denoise_mosaic
from amsnet_cli.inference.mosaic_noise import SensorNoiseFound, find_noise
from amsnet_cli.model import Model
from amsnet_cli.mosaic_model import MosaicModel, load_mosaic_model
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.photos.formats.dng import dng_of
from amsnet_cli.photos.mosaic import Mosaic, MosaicPhoto, tiled
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import with_depth
from amsnet_cli.photos.read import read_mosaic_photo
from amsnet_cli.weights.manifest import sha256_of
from benchmarks import developers
from benchmarks.make_raw import LAWS, LAWS_FILE, laws_of

BORDER = 8
"""Photosites and pixels cut at each side before errors are measured."""
WORSE = 0.05
"""Decibels below the noisy file from which a picture counts as made worse."""
THRESHOLDS = (25, 50, 100, 200, 400, 800, 1600)
"""Of LibRaw's wavelets; the best one for each ISO counts, chosen with the clean pictures."""
AFTER_DEVELOPMENT = ("photo", "fine")
"""Weights for developed photos."""
TITLES = {
    "m": "M: on the mosaic, white-balanced, gamma 2.2",
    "a": "A: developed by LibRaw (AHD, sRGB)",
    "c": "C: developed by darktable (no workflow, sRGB)",
}
CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A noisy file.

    Attributes:
        path: of it.
        photo: the same, read.
        truth: its noise.
    """

    path: Path
    photo: MosaicPhoto
    truth: SensorNoiseFound

    @classmethod
    def of(cls, path: Path, law: tuple[float, float]) -> Case:
        """Read a file whose noise is known."""
        noise = SensorNoiseFound(laws=(SensorNoise(a=law[0], b=law[1]),), source="truth")
        return cls(path=path, photo=read_mosaic_photo(path), truth=noise)


@functools.lru_cache(maxsize=2)  # Several rows begin with the noisy file, developed.
def developed(case: Case, metric: str) -> Photo:
    """Develop a noisy file for the metric a or c."""
    return _develop(case.path, metric)


def developed_with(case: Case, mosaic: Mosaic, metric: str) -> Photo:
    """Develop another mosaic, in a DNG file like that of the case."""
    with TemporaryDirectory() as folder:
        path = Path(folder, case.path.name)
        write_whole(path, dng_of(case.path, case.photo.content, mosaic))
        return _develop(path, metric)


def _develop(path: Path, metric: str) -> Photo:
    return {"a": developers.by_libraw, "c": developers.by_darktable}[metric](path)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A way to denoise.

    Attributes:
        title: for people.
        variants: each gives, for a case and a metric, what is to be scored: a mosaic for m, a
            developed photo else. Of several, the one with the best mean at an ISO counts.
        metrics: for which there is such a thing.
    """

    title: str
    variants: tuple[Callable[[Case, str], Mosaic | Photo], ...]
    metrics: str


def on_the_mosaic(title: str, denoised: Callable[[Case], Mosaic], metrics: str = "mac") -> Row:
    """Make a row of what denoises mosaics."""
    # Each picture is denoised once for all metrics.
    denoised = functools.lru_cache(maxsize=1)(denoised)

    def result(case: Case, metric: str) -> Mosaic | Photo:
        return denoised(case) if metric == "m" else developed_with(case, denoised(case), metric)

    return Row(title=title, variants=(result,), metrics=metrics)


def rows_of_model(name: str, model: MosaicModel) -> Iterator[Row]:
    """Make the rows of a network for mosaics: with the true noise and with estimates."""
    run = functools.partial(denoise_mosaic, model=model, device=CPU)

    def estimated(case: Case) -> Mosaic:
        return run(case.photo.mosaic, noise=find_noise(case.photo.mosaic))

    def estimated_without_iso(case: Case) -> Mosaic:
        silent = replace(case.photo.mosaic, iso=None, noise_profile=())
        return run(case.photo.mosaic, noise=find_noise(silent))

    yield on_the_mosaic(
        f"{name}, true noise", lambda case: run(case.photo.mosaic, noise=case.truth)
    )
    yield on_the_mosaic(f"{name}, estimated noise", estimated)
    yield on_the_mosaic(f"{name}, estimated without ISO", estimated_without_iso, "m")


def row_after_development(name: str, model: Model) -> Row:
    """Make the row of a network for developed photos."""
    return Row(
        title=f"`{name}` after development",
        variants=(lambda case, metric: denoise(developed(case, metric), model).photo,),
        metrics="ac",
    )


def rows_of_others() -> Iterator[Row]:
    """Make the rows of other programs, those that are installed."""
    if developers.installed(developers.LIBRAW):
        wavelets = developers.by_libraw_denoised
        yield Row(
            title="LibRaw's wavelets, best threshold",
            variants=tuple(
                lambda case, _, threshold=threshold: wavelets(case.path, threshold)
                for threshold in THRESHOLDS
            ),
            metrics="a",
        )
    if developers.installed(developers.DARKTABLE):
        yield Row(
            title="darktable's profiled NLM",
            variants=(lambda case, _: developers.by_darktable(case.path, nlm=True),),
            metrics="c",
        )


def psnr(one: Mosaic | Photo, other: Mosaic | Photo) -> float:
    """PSNR in dB: of mosaics white-balanced with gamma 2.2, of photos with 8 bits.

    The white balance is that of `other`.
    """
    if isinstance(one, Mosaic) and isinstance(other, Mosaic):
        neutral = np.array(other.neutral or (1, 1, 1))[[0, 1, 2, 1]]
        gains = tiled(neutral[1] / neutral[other.colours], other.values.shape)
        a, b = ((x.light() * gains).clip(0, 1) ** (1 / 2.2) for x in (one, other))
    elif isinstance(one, Photo) and isinstance(other, Photo):
        a, b = (with_depth(x, 8).pixels / 255 for x in (one, other))
    else:
        raise TypeError("a mosaic and a photo cannot be compared")
    inside = slice(BORDER, -BORDER)
    errors = (a - b)[inside, inside].astype(np.float64)
    return -10 * math.log10(max(float(np.square(errors).mean()), 1e-12))


def measure(
    folder: Path, laws: dict[int, tuple[float, float]], rows: list[Row], metrics: str
) -> dict[tuple[str, str, int], list[float]]:
    """Measure PSNR of each picture, by metric, title of the row, and ISO; first row: noisy.

    Each is printed to stderr at once, as all together can take an hour.
    """
    scores: dict[tuple[str, str, int], list[list[float]]] = {}
    for path in sorted(folder.glob("*_clean.dng")):
        clean = Case.of(path, next(iter(laws.values())))
        targets = {m: clean.photo.mosaic if m == "m" else developed(clean, m) for m in metrics}
        for iso, law in laws.items():
            case = Case.of(path.with_name(path.name.replace("_clean", f"_{iso}")), law)
            for row in rows:
                for metric in metrics:
                    if metric not in row.metrics:
                        continue
                    found = [psnr(v(case, metric), targets[metric]) for v in row.variants]
                    scores.setdefault((metric, row.title, iso), []).append(found)
                    print(path.stem, iso, metric, row.title, f"{max(found):.2f}", file=sys.stderr)
    best = {}
    for key, found in scores.items():
        by_variant = np.array(found).T
        best[key] = list(by_variant[by_variant.mean(1).argmax()])
    return best


def print_tables(
    scores: dict[tuple[str, str, int], list[float]], isos: list[int], rows: list[Row], metrics: str
) -> None:
    """Print a table for each metric; in brackets how many are worse than the first row."""
    for metric in metrics:
        print(f"\n| {TITLES[metric]} | " + " | ".join(f"ISO {iso}" for iso in isos) + " |")
        print("|---|" + "---:|" * len(isos))
        for row in rows:
            if metric not in row.metrics:
                continue
            cells = []
            for iso in isos:
                found, noisy = (scores[metric, r.title, iso] for r in (row, rows[0]))
                worse = sum(f < n - WORSE for f, n in zip(found, noisy, strict=True))
                cells.append(f"{np.mean(found):.2f}" + (f" ({worse})" if worse else ""))
            print(f"| {row.title} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="NAME_ISO.dng and NAME_clean.dng")
    parser.add_argument("--metrics", nargs="+", choices=TITLES, default=["m"])
    parser.add_argument("--weights", default="raw", help="for mosaics, name or file")
    parser.add_argument("--model", type=Path, help="a fitted model for mosaics, besides")
    parser.add_argument("--law", nargs="+", metavar="ISO=A,B", help="of the noise")
    parser.add_argument("--iso", type=int, nargs="+", help="only these")
    parser.add_argument("--rows", nargs="+", help="noisy, and rows whose titles hold one of these")
    args = parser.parse_args()
    told = args.folder / LAWS_FILE
    laws = laws_of(args.law) if args.law else LAWS
    if told.exists() and not args.law:
        laws = {int(iso): (a, b) for iso, (a, b) in json.loads(told.read_text()).items()}
    laws = {iso: law for iso, law in laws.items() if not args.iso or iso in args.iso}
    metrics = "".join(args.metrics)
    if "c" in metrics and not developers.installed(developers.DARKTABLE):
        parser.error(f"the metric c needs {developers.DARKTABLE}")
    count = len(list(args.folder.glob("*_clean.dng")))
    if not count:
        parser.error(f"{args.folder}: no NAME_clean.dng; benchmarks.make_raw makes them")

    digests = {}
    rows = [
        Row(
            title="noisy",
            variants=(lambda case, m: case.photo.mosaic if m == "m" else developed(case, m),),
            metrics="mac",
        ),
        *rows_of_others(),
    ]
    if metrics != "m":
        for name in AFTER_DEVELOPMENT:
            if args.rows and not any(words in f"`{name}` after development" for words in args.rows):
                continue
            digests[name] = sha256_of(find_weights(name))
            rows.append(row_after_development(name, load_model(name)))
    for name in (args.weights, *([args.model] if args.model else [])):
        path = find_weights(str(name))
        title = f"fitted {path.stem}" if path.stem in digests else path.stem
        digests[title] = sha256_of(path)
        rows += rows_of_model(f"`{title}`", load_mosaic_model(path))
    if args.rows:
        rows = [rows[0], *(r for r in rows[1:] if any(words in r.title for words in args.rows))]
    weights = ", ".join(f"`{name}` {digest[:8]}" for name, digest in digests.items())
    print(
        f"{args.folder.name}: {count} pictures, PSNR in dB, {BORDER} pixels cut at the border; in"
        f" brackets: pictures more than {WORSE} dB below noisy. amsnet {__version__}, weights"
        f" (sha256) {weights}."
    )
    scores = measure(args.folder, laws, rows, metrics)
    print_tables(scores, list(laws), rows, metrics)


if __name__ == "__main__":
    main()

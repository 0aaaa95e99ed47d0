"""Measure where the time goes: seconds a megapixel by stage, weights and size.

    python -m benchmarks.speed PHOTO --megapixels .5 12 24 --weights photo fine --suffix .jpg
    python -m benchmarks.speed PHOTO --megapixels .1 1 10 100 --no-others
    python -m benchmarks.speed PHOTO --megapixels --batch FOLDER

PHOTO is mirrored, or cropped, to each size. Each size is a process of its own, as its stages come
one after another: read the file, mend hot pixels, measure the noise, run the network, collect
statistics, correct, write the file. Numbers are seconds of the processor, and in all in brackets;
on an idle core both are the same. NLM and BM3D run on the same picture, up to a quarter of a
megapixel of it. Start-up is `amsnet denoise` of a picture of 4,000 pixels. --batch runs
`amsnet denoise` on the photos of a folder, which overlaps the stages of different photos, and
divides its time by that of all stages but reading and writing, one photo after another.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from amsnet_cli import Photo, __version__, find_weights, load_model
from amsnet_cli.inference import photo_rows
from amsnet_cli.inference.denoise import DenoiseOptions, resolve_options
from amsnet_cli.inference.hot_pixels import mend_hot_pixels
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.postprocess.pipeline import Corrector
from benchmarks.quality import bm3d_at, machine, nlm

STAGES = ("read", "hot pixels", "noise", "network", "statistics", "correction", "write")
COMPUTING = STAGES[1:-1]
OTHERS = 250_000
"""Pixels that NLM and BM3D get."""
NLM_STRENGTH, BM3D_SIGMA = 10, 15

Times = dict[str, list[float]]
"""By stage, seconds of the processor and in all."""


@contextmanager
def timed(times: Times, stage: str) -> Iterator[None]:
    """Add what is done here to a stage."""
    used, started = time.process_time(), time.perf_counter()
    yield
    times[stage] = [time.process_time() - used, time.perf_counter() - started]


def resized(photo: Photo, megapixels: float) -> Photo:
    """Crop, or repeat by mirroring, to a size of the ratio 3 : 2."""
    height = max(8, round(math.sqrt(megapixels * 1e6 / 1.5)))
    indices = []
    for wanted, size in zip((height, round(1.5 * height)), photo.pixels.shape[:2], strict=True):
        place = np.arange(wanted) % (2 * size)
        indices.append(np.minimum(place, 2 * size - 1 - place))
    return Photo(pixels=np.ascontiguousarray(photo.pixels[indices[0]][:, indices[1]]))


def stages(path: Path, result: Path, weights: str) -> Times:
    """Denoise a photo as `amsnet denoise` does, stage by stage."""
    times: Times = {}
    model, options = load_model(find_weights(weights), weights), DenoiseOptions()
    with timed(times, "read"):
        photo = read_photo(path)
    with timed(times, "hot pixels"):
        photo, _ = mend_hot_pixels(photo, options.hot_pixels)
    with timed(times, "noise"):
        resolved = resolve_options(photo, model, options)
    codec, config = resolved.codec, options.postprocess
    with timed(times, "network"):
        output = photo_rows.run_photo(
            photo, resolved.box, codec, model, resolved.inference, noise=resolved.noise
        )
    with timed(times, "statistics"):
        statistics = photo_rows.photo_statistics(photo, output, codec, config)
        corrector = Corrector(statistics, resolved.blend, config)
    with timed(times, "correction"):
        clean = photo_rows.correct_photo(photo, output, codec, corrector)
    with timed(times, "write"):
        write_photo(clean, result)
    return times


def measured(path: Path, weights: str, runs: int) -> tuple[Times, float]:
    """Return the best of several runs for each stage, and the peak of the memory in GB."""
    found = [stages(path, path.with_stem("result"), weights) for _ in range(runs)]
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return {stage: min(times[stage] for times in found) for stage in STAGES}, peak


def others(photo: Photo) -> Times:
    """Time NLM and BM3D on a part of a photo."""
    times: Times = {}
    methods: dict[str, Callable[..., object]] = {
        "OpenCV NLM": nlm(NLM_STRENGTH), "BM3D": bm3d_at(BM3D_SIGMA)
    }  # fmt: skip
    part = resized(photo, min(OTHERS, photo.pixels[..., 0].size) / 1e6).pixels
    for name, method in methods.items():
        with timed(times, name):
            method(part)
        times[name] = [seconds / part[..., 0].size * 1e6 for seconds in times[name]]
    return times


def command(arguments: list[str]) -> tuple[float, float]:
    """Run a module; returns seconds of the processor and in all."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", *arguments], check=True, capture_output=True)
    elapsed, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, elapsed


def computing(photos: list[Path], place: Path, weights: str) -> list[float]:
    """Return the seconds of all that computes in photos, without reading and writing."""
    found = [stages(path, place / f"alone{path.suffix}", weights) for path in photos]
    inner = [seconds for times in found for stage, seconds in times.items() if stage in COMPUTING]
    return [sum(seconds) for seconds in zip(*inner, strict=True)]


def cell(seconds: list[float] | tuple[float, float]) -> str:
    """Seconds of the processor, and in all."""
    return f"{seconds[0]:.3f} ({seconds[1]:.3f})"


def print_table(args: argparse.Namespace, place: Path) -> None:
    """Print a row for each size and weights."""
    photo = read_photo(args.photo)
    print(f"| weights | megapixels | {' | '.join(STAGES)} | all | peak |")
    print(f"|---|{'---:|' * (len(STAGES) + 3)}")
    for megapixels in args.megapixels:
        picture = resized(photo, megapixels)
        path = place / f"{megapixels:g}{args.suffix}"
        write_photo(picture, path)
        size = picture.pixels[..., 0].size / 1e6
        for weights in args.weights:
            child = [sys.executable, "-m", "benchmarks.speed", str(path), "--runs", str(args.runs)]
            child += ["--weights", weights, "--measure"]
            done = subprocess.run(child, check=True, capture_output=True, text=True)
            times, peak = json.loads(done.stdout)
            each = [[seconds / size for seconds in times[stage]] for stage in STAGES]
            total = [sum(seconds) for seconds in zip(*each, strict=True)]
            cells = " | ".join(cell(seconds) for seconds in (*each, total))
            print(f"| {weights} | {megapixels:g} | {cells} | {peak:.2f} GB |", flush=True)
    if args.others:
        for name, seconds in others(photo).items():
            print(f"| {name} | | {'| ' * len(STAGES)}{cell(seconds)} | |", flush=True)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", type=Path, help="what the pictures are made of")
    parser.add_argument("--megapixels", nargs="*", type=float, default=[0.5, 12])
    parser.add_argument("--weights", nargs="+", default=["photo"])
    parser.add_argument("--suffix", default=".jpg", help="of the files")
    parser.add_argument("--runs", type=int, default=3, help="of each; the best one counts")
    parser.add_argument("--no-others", dest="others", action="store_false", help="no NLM, no BM3D")
    parser.add_argument("--batch", type=Path, help="folder of photos")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        json.dump(measured(args.photo, args.weights[0], args.runs), sys.stdout)
        return
    print(f"amsnet {__version__}, torch {torch.__version__}; {machine()}; best of {args.runs}.\n")
    with TemporaryDirectory() as folder:
        place = Path(folder)
        if args.megapixels:
            print_table(args, place)
        tiny = place / "tiny.png"
        write_photo(resized(read_photo(args.photo), 0.004), tiny)
        denoising = ["amsnet_cli", "denoise", str(tiny), "-f", "-o", str(place / "out.png")]
        print(f"\nStart-up: {cell(min(command(denoising) for _ in range(args.runs)))} s")
        if args.batch:
            photos = find_photos(args.batch)
            size = sum(read_photo(path).pixels[..., 0].size for path in photos) / 1e6
            seconds = command(["amsnet_cli", "denoise", str(args.batch), "-o", str(place / "out")])
            alone = computing(photos, place, args.weights[0])
            ratios = [batch / one for batch, one in zip(seconds, alone, strict=True)]
            print(
                f"Batch of {len(photos)} photos, {size:.1f} megapixels: {cell(seconds)} s, "
                f"{cell([s / size for s in seconds])} s a megapixel; network and correction of "
                f"each alone {cell(alone)} s; ratio {cell(ratios)}"
            )


if __name__ == "__main__":
    main()

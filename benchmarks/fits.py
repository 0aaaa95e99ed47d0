"""Measure the PSNR gain of fits over time: adapted, from scratch, and by the paper's preset.

    python -m benchmarks.fits DATA_DIR --sets sidd10 renoir30:3 --minutes 1 5 --keep fits.json

DATA_DIR has one folder per set, with `noisy/` and `clean/` pictures of the same names. Each fit is
an `amsnet fit` in its own process, on the noisy pictures that are scored. All fits together take
hours. `--keep` stores the results, and the next run resumes from them if weights and machine are
the same. Prints one Markdown table per set; peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt

from amsnet_cli import __version__, find_weights, load_model, read_photo
from amsnet_cli.atomic import write_whole
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.photos.photo import Photo
from amsnet_cli.research.datasets import pair_photos
from amsnet_cli.research.evaluation import PROTOCOL
from amsnet_cli.weights.manifest import sha256_of
from benchmarks.quality import Method, machine, score

FITS: dict[str, list[str]] = {
    "adapt": [],
    "from scratch": ["--from-scratch"],
    "paper": ["--preset", "paper", "--network", "compact"],
}
"""Options of `amsnet fit`."""
TICKS = (-20, -10, -5, -2, -1, -0.5, 0, 0.2, 0.4)
"""Of the plot, in dB, on a symlog scale."""
_WITH_PEAK_MEMORY = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""

SetResults = dict[str, Any]
"""Of a set: how many "pictures", the PSNR of "photo", and "fits": lists of name, time budget in
minutes, seconds taken, PSNR and peak memory in bytes."""


def run_fit(noisy: Path, model: Path, minutes: float, options: list[str]) -> tuple[float, float]:
    """Fit in another process, for so many minutes or, with 0, as long as it finds worth it.

    Returns its seconds and its peak memory in bytes.
    """
    command = [sys.executable, "-m", "amsnet_cli", "fit", str(noisy), "-o", str(model), "-q"]
    command += [*(["--minutes", str(minutes)] if minutes else []), "--force", *options]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _WITH_PEAK_MEMORY, *command],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    unit = 1 if sys.platform == "darwin" else 1024
    return time.monotonic() - started, int(done.stdout.split()[-1]) * unit


def method_of(path: Path) -> Method:
    """Return a function that denoises with a model, or with the default if there is no file."""
    model = load_model(path if path.exists() else find_weights(None))
    return lambda x: denoise(Photo(pixels=x), model).photo.pixels


def measure(folder: Path, every: int, name: str, minutes: float, results: SetResults) -> None:
    """Fit to each n-th picture of a set, and add the score to `results`."""
    paths = pair_photos(folder / "noisy", folder / "clean")[::every]
    pairs = [tuple(read_photo(p).pixels for p in pair) for pair in paths]
    with TemporaryDirectory() as place:
        noisy, model = Path(place) / "noisy", Path(place) / "m.safetensors"
        noisy.mkdir()
        for path, _ in paths:
            (noisy / path.name).symlink_to(path.resolve())
        if "photo" not in results:
            results |= {"pictures": len(pairs), "photo": score(method_of(model), pairs)["psnr"]}
        seconds, peak = run_fit(noisy, model, minutes, FITS[name])
        psnr = score(method_of(model), pairs)["psnr"]
        results["fits"].append([name, minutes, seconds, psnr, peak])


def table(name: str, results: SetResults) -> None:
    """Print a Markdown table."""
    print(f"\n{name}, {results['pictures']} pictures; `photo` {results['photo']:.2f} dB\n")
    print("| fit | budget, minutes | seconds taken | PSNR | gain | peak memory |")
    print("|---|---:|---:|---:|---:|---:|")
    for fit, minutes, seconds, psnr, peak in sorted(results["fits"]):
        gain = psnr - results["photo"]
        budget = f"{minutes:g}" if minutes else "default"
        print(
            f"| {fit} | {budget} | {seconds:.0f} | {psnr:.2f} | {gain:+.2f} | {peak / 1e9:.1f} GB |"
        )


def plot(sets: dict[str, SetResults], path: Path) -> None:
    """Draw the gain against minutes, one axis per set."""
    figure, axes = plt.subplots(1, len(sets), figsize=(4 * len(sets), 3.4), squeeze=False)
    for (name, results), axis in zip(sets.items(), axes[0], strict=True):
        fits = results["fits"]
        for label in FITS:
            gains = {fit[1]: fit[3] - results["photo"] for fit in fits if fit[0] == label}
            minutes = sorted(gains)
            axis.plot(minutes, [gains[m] for m in minutes], marker="o", label=label)
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set(title=name, xlabel="minutes", ylabel="dB over photo", xscale="log")
        axis.set_yscale("symlog", linthresh=0.5)
        axis.set_yticks(TICKS, [f"{tick:+g}" for tick in TICKS])
        budgets = sorted({fit[1] for fit in fits})
        axis.set_xticks(budgets, [f"{minutes:g}" for minutes in budgets])
        axis.minorticks_off()
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Parse, fit, score, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--sets", nargs="+", required=True, metavar="SET[:N]", help="each n-th picture of a set"
    )
    parser.add_argument(
        "--minutes", type=float, nargs="+", default=[1.0, 5.0], help="0 for the default budget"
    )
    parser.add_argument("--fits", nargs="+", choices=list(FITS), default=list(FITS))
    parser.add_argument("--keep", type=Path, help="JSON file of the results, to resume from")
    parser.add_argument("--plot", type=Path, help="image file of a plot")
    args = parser.parse_args()

    photo = sha256_of(find_weights(None))[:8]
    run = f"amsnet {__version__}, photo {photo}, {machine()}, seed 0. {PROTOCOL}."
    kept: dict[str, Any] = {"run": run, "sets": {}}
    if args.keep and args.keep.exists():
        kept = json.loads(args.keep.read_text("utf-8"))
        if kept["run"] != run:
            parser.error(f"{args.keep} is of another run: {kept['run']}")
    print(run, flush=True)
    for chosen in args.sets:
        name, _, every = chosen.partition(":")
        results = kept["sets"].setdefault(chosen, {"fits": []})
        for fit in args.fits:
            for minutes in args.minutes:
                if not any(done[:2] == [fit, minutes] for done in results["fits"]):
                    measure(args.data / name, int(every or 1), fit, minutes, results)
                    if args.keep:
                        write_whole(args.keep, json.dumps(kept, indent=1).encode())
        table(chosen, results)
    if args.plot:
        plot({chosen: kept["sets"][chosen] for chosen in args.sets}, args.plot)


if __name__ == "__main__":
    main()

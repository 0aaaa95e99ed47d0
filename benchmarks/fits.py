"""Gain against minutes: the default adapted, a fresh network, and the paper's recipe.

    python -m benchmarks.fits DATA_DIR --sets sidd10 renoir30:3 --minutes 1 5 --plot fits.png

DATA_DIR holds one folder a set with `noisy/` and `clean/` of the same names. Every fit is a run of
its own, of `amsnet fit` in a process of its own, on the noisy pictures that are scored; each point
is a fit's last state. Prints one Markdown table a set; peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt

from amsnet_cli import __version__, find_weights, load_model, read_photo
from amsnet_cli.datasets import pair_photos
from amsnet_cli.denoising import denoise
from amsnet_cli.evaluation import PROTOCOL
from amsnet_cli.photos.photo import Photo
from benchmarks.quality import Method, machine, score

RECIPES: dict[str, list[str]] = {
    "adapted": [],
    "from scratch": ["--from-scratch"],
    "paper's recipe": ["--recipe", "paper", "--network", "compact"],
}
TICKS = (-20, -10, -5, -2, -1, -0.5, 0, 0.2, 0.4)
_MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def fitted(noisy: Path, model: Path, minutes: float, recipe: list[str]) -> tuple[float, float]:
    """Fit in a process of its own; returns its seconds, and its peak memory in bytes."""
    command = [sys.executable, "-m", "amsnet_cli", "fit", str(noisy), "-o", str(model), "-q"]
    command += ["--minutes", str(minutes), "--force", *recipe]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command], check=True, stdout=subprocess.PIPE, text=True
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return time.monotonic() - started, int(done.stdout.split()[-1]) * unit


def by(path: Path) -> Method:
    """Denoise with a model, or the default where there is none."""
    model = load_model(path if path.exists() else find_weights(None))
    return lambda x: denoise(Photo(pixels=x), model).pixels


def main() -> None:
    """Parse, fit, score, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--sets", nargs="+", required=True, metavar="SET[:N]", help="each n-th picture of a set"
    )
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 5.0])
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--plot", type=Path, help="picture to draw")
    args = parser.parse_args()

    print(f"amsnet {__version__}, {machine()}, seed 0. {PROTOCOL}.")
    figure, axes = plt.subplots(1, len(args.sets), figsize=(4 * len(args.sets), 3.4), squeeze=False)
    for chosen, axis in zip(args.sets, axes[0], strict=True):
        name, _, every = chosen.partition(":")
        paths = pair_photos(args.data / name / "noisy", args.data / name / "clean")
        paths = paths[:: int(every or 1)]
        pairs = [tuple(read_photo(p).pixels for p in pair) for pair in paths]
        with TemporaryDirectory() as place:
            noisy = Path(place) / "noisy"
            noisy.mkdir()
            for path, _ in paths:
                (noisy / path.name).symlink_to(path.resolve())
            start = score(by(Path(place) / "none"), pairs)["psnr"]
            print(f"\n{name}, {len(pairs)} pictures; `photo` {start:.2f} dB\n")
            print("| fit | minutes allowed | seconds taken | PSNR | gain | peak memory |")
            print("|---|---:|---:|---:|---:|---:|", flush=True)
            for recipe in args.recipes:
                gains = []
                for minutes in args.minutes:
                    model = Path(place) / "m.safetensors"
                    model.unlink(missing_ok=True)
                    seconds, peak = fitted(noisy, model, minutes, RECIPES[recipe])
                    result = score(by(model), pairs)["psnr"]
                    gains.append(result - start)
                    print(
                        f"| {recipe} | {minutes:g} | {seconds:.0f} | {result:.2f} "
                        f"| {gains[-1]:+.2f} | {peak / 1e9:.1f} GB |",
                        flush=True,
                    )
                axis.plot(args.minutes, gains, marker="o", label=recipe)
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set(title=name, xlabel="minutes", ylabel="dB over photo", xscale="log")
        axis.set_yscale("symlog", linthresh=0.5)  # tenths above, tens below
        axis.set_yticks(TICKS, [f"{tick:+g}" for tick in TICKS])
        axis.set_xticks(args.minutes, [f"{m:g}" for m in args.minutes])
        axis.minorticks_off()
        axes[0][0].legend()
        if args.plot:
            figure.tight_layout()
            figure.savefig(args.plot, dpi=110)


if __name__ == "__main__":
    main()

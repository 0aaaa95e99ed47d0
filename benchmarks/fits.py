"""Gain against minutes: the default adapted, a fresh network, and the paper's recipe.

    python -m benchmarks.fits DATA_DIR --sets sidd10 renoir30:3 --minutes 1 5 --keep fits.json

DATA_DIR holds one folder a set with `noisy/` and `clean/` of the same names. Every fit is a run of
its own, of `amsnet fit` in a process of its own, on the noisy pictures that are scored; each point
is a fit's last state. All of them take hours: `--keep` holds what was measured, and a second call
goes on from there, with the same weights on the same kind of machine. Prints one Markdown table a
set; peak memory is that of the process.
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

RECIPES: dict[str, list[str]] = {
    "adapted": [],
    "from scratch": ["--from-scratch"],
    "paper's recipe": ["--recipe", "paper", "--network", "compact"],
}
TICKS = (-20, -10, -5, -2, -1, -0.5, 0, 0.2, 0.4)
"""Of the plot, in dB; its scale has room for tenths above and tens below."""
_MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""

Found = dict[str, Any]
"""Of a set: its "pictures", the PSNR of "photo", and "fits": lists of recipe, minutes allowed,
seconds taken, PSNR and peak memory in bytes."""


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
    return lambda x: denoise(Photo(pixels=x), model).photo.pixels


def measure(folder: Path, every: int, recipe: str, minutes: float, found: Found) -> None:
    """Fit to each n-th picture of a set, and add the result to what was found there."""
    paths = pair_photos(folder / "noisy", folder / "clean")[::every]
    pairs = [tuple(read_photo(p).pixels for p in pair) for pair in paths]
    with TemporaryDirectory() as place:
        noisy, model = Path(place) / "noisy", Path(place) / "m.safetensors"
        noisy.mkdir()
        for path, _ in paths:
            (noisy / path.name).symlink_to(path.resolve())
        if "photo" not in found:
            found |= {"pictures": len(pairs), "photo": score(by(model), pairs)["psnr"]}
        seconds, peak = fitted(noisy, model, minutes, RECIPES[recipe])
        found["fits"].append([recipe, minutes, seconds, score(by(model), pairs)["psnr"], peak])


def table(name: str, found: Found) -> None:
    """Print Markdown."""
    print(f"\n{name}, {found['pictures']} pictures; `photo` {found['photo']:.2f} dB\n")
    print("| fit | minutes allowed | seconds taken | PSNR | gain | peak memory |")
    print("|---|---:|---:|---:|---:|---:|")
    for recipe, minutes, seconds, result, peak in sorted(found["fits"]):
        gain = result - found["photo"]
        print(
            f"| {recipe} | {minutes:g} | {seconds:.0f} | {result:.2f} | {gain:+.2f} "
            f"| {peak / 1e9:.1f} GB |"
        )


def plot(results: dict[str, Found], path: Path) -> None:
    """Draw gain against minutes, one set beside the other."""
    figure, axes = plt.subplots(1, len(results), figsize=(4 * len(results), 3.4), squeeze=False)
    for (name, found), axis in zip(results.items(), axes[0], strict=True):
        allowed = sorted({fit[1] for fit in found["fits"]})
        for recipe in RECIPES:
            gains = {fit[1]: fit[3] - found["photo"] for fit in found["fits"] if fit[0] == recipe}
            there = sorted(gains)
            axis.plot(there, [gains[minutes] for minutes in there], marker="o", label=recipe)
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set(title=name, xlabel="minutes", ylabel="dB over photo", xscale="log")
        axis.set_yscale("symlog", linthresh=0.5)
        axis.set_yticks(TICKS, [f"{tick:+g}" for tick in TICKS])
        axis.set_xticks(allowed, [f"{minutes:g}" for minutes in allowed])
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
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 5.0])
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--keep", type=Path, help="JSON file of what was measured, to go on from")
    parser.add_argument("--plot", type=Path, help="picture to draw")
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
        found = kept["sets"].setdefault(chosen, {"fits": []})
        for recipe in args.recipes:
            for minutes in args.minutes:
                if not any(fit[:2] == [recipe, minutes] for fit in found["fits"]):
                    measure(args.data / name, int(every or 1), recipe, minutes, found)
                    if args.keep:
                        write_whole(args.keep, json.dumps(kept, indent=1).encode())
        table(chosen, found)
    if args.plot:
        plot({chosen: kept["sets"][chosen] for chosen in args.sets}, args.plot)


if __name__ == "__main__":
    main()

"""Compare what fits say of themselves with the truth, over folders drawn with different seeds.

    python -m benchmarks.fit_verdicts DATA_DIR --seeds 3 --steps 80 --batch 4 --keep verdicts.jsonl

DATA_DIR has one folder per kind, as `benchmarks.kinds --save` writes them, or per set: with
`noisy/` and `clean/` pictures of the same names. Of each, and for each seed, some pictures are
drawn and fitted, and the fitted network is scored with the clean ones, whatever the fit says of it.
Prints a Markdown table, and how often what it says is so. `--keep` adds each fit to a file, and the
next run goes on from there.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch

from amsnet_cli import __version__, load_model, read_photo
from amsnet_cli.core.networks import MaskedNetwork
from amsnet_cli.fitting.fit import FitResult
from amsnet_cli.fitting.fit import fit as run_fit
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.model import Model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.research.datasets import pair_photos
from amsnet_cli.research.evaluation import PROTOCOL, psnr
from benchmarks.quality import machine

Pair = tuple[Path, Path]
"""A noisy picture and its clean version."""
MARGIN = 0.02
"""Decibels within which a fit neither gains nor loses."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a fit said of itself, and the truth.

    Attributes:
        kind: folder that was drawn from.
        seed: of the draw and of the fit.
        says: "better", "cannot tell" or "no model".
        reason: of the latter two.
        improvement: of its validation loss, as a fraction; None where it saw nothing to learn.
        error: standard error of that.
        gain: of the mean PSNR over the start, in dB.
    """

    kind: str
    seed: int
    says: Literal["better", "cannot tell", "no model"]
    reason: str
    improvement: float | None = None
    error: float = 0.0
    gain: float = 0.0

    def row(self) -> str:
        """Return a row of the table."""
        if self.improvement is None:
            return f"| {self.kind} | {self.seed} | {self.reason} | | |"
        return (
            f"| {self.kind} | {self.seed} | {self.says} "
            f"| {-self.improvement:+.2%} ± {2 * self.error:.2%} | {self.gain:+.2f} |"
        )


def draw(pairs: list[Pair], seed: int, megapixels: float) -> list[Pair]:
    """Draw two pairs, and more until they have so many megapixels."""
    drawn: list[int] = []
    area = 0
    for i in np.random.default_rng(seed).permutation(len(pairs)).tolist():
        if len(drawn) >= 2 and area >= 1e6 * megapixels:
            break
        drawn.append(i)
        area += read_photo(pairs[i][0]).pixels[..., 0].size
    return [pairs[i] for i in sorted(drawn)]


def judge(kind: str, pairs: list[Pair], start: Model, options: FitOptions) -> Verdict:
    """Fit to the noisy pictures of pairs, and score the network with the clean ones."""

    def mean_psnr(model: Model) -> float:
        pictures = [[read_photo(path).pixels for path in pair] for pair in pairs]
        return float(np.mean([
            psnr(denoise(Photo(pixels=noisy), model).photo.pixels, clean)
            for noisy, clean in pictures
        ]))  # fmt: skip

    with TemporaryDirectory() as place:
        result: FitResult = run_fit(
            [noisy for noisy, _ in pairs], Path(place) / "m.safetensors", options, start=start
        )
    common: dict[str, Any] = {
        "kind": kind, "seed": options.seed, "reason": result.reason or result.doubt,
    }  # fmt: skip
    if result.best is None or not isinstance(result.network, MaskedNetwork):
        return Verdict(**common, says="no model")
    fitted = replace(start, network=result.network)
    return Verdict(
        **common,
        says="no model" if result.reason else "cannot tell" if result.doubt else "better",
        improvement=result.best.improvement, error=result.best.standard_error,
        gain=mean_psnr(fitted) - mean_psnr(start),
    )  # fmt: skip


def main() -> None:
    """Parse, draw, fit, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--kinds", nargs="+", help="folders of DATA_DIR (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="folders drawn of each kind")
    parser.add_argument(
        "--megapixels", type=float, default=0.45, help="of a folder that is drawn, at least"
    )
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, help="patches per step (default: that of fits)")
    parser.add_argument("--keep", type=Path, help="JSON lines of the results, to go on from")
    args = parser.parse_args()

    start = load_model("photo")
    lines = args.keep.read_text("utf-8").splitlines() if args.keep and args.keep.exists() else []
    kept = [Verdict(**json.loads(line)) for line in lines]
    done = {(verdict.kind, verdict.seed): verdict for verdict in kept}
    print(
        f"amsnet {__version__}, torch {torch.__version__}; {machine()}; {args.megapixels} "
        f"megapixels, {args.steps} steps from `photo`. {PROTOCOL}.\n"
    )
    print("| kind | seed | says | validation loss | gain, dB |")
    print("|---|---:|---|---:|---:|")
    verdicts = []
    for kind in args.kinds or sorted(path.name for path in args.data.iterdir()):
        pairs = pair_photos(args.data / kind / "noisy", args.data / kind / "clean")
        for seed in range(args.seeds):
            if (kind, seed) not in done:
                options = FitOptions(preset="adapt", steps=args.steps, batch=args.batch, seed=seed)
                drawn = draw(pairs, seed, args.megapixels)
                done[kind, seed] = judge(kind, drawn, start, options)
                if args.keep:
                    with args.keep.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(asdict(done[kind, seed])) + "\n")
            verdicts.append(done[kind, seed])
            print(verdicts[-1].row(), flush=True)
    judged = [verdict for verdict in verdicts if verdict.improvement is not None]
    print(f"\n{len(judged)} fits:\n\n| | gains | neither | loses |\n|---|---:|---:|---:|")
    for says in ("better", "cannot tell", "no model"):
        gains = [verdict.gain for verdict in judged if verdict.says == says]
        counts = (
            sum(gain > MARGIN for gain in gains), sum(abs(gain) <= MARGIN for gain in gains),
            sum(gain < -MARGIN for gain in gains),
        )  # fmt: skip
        print(f"| {says} |", " | ".join(map(str, counts)), "|")


if __name__ == "__main__":
    main()

"""Compare what fits say of themselves with the truth, over folders drawn with different seeds.

    python -m benchmarks.fit_verdicts DATA_DIR --seeds 3 --pictures 5 --steps 1000

DATA_DIR has one folder per kind, as `benchmarks.kinds --save` writes them, or per set: with
`noisy/` and `clean/` pictures of the same names. Of each, and for each seed, some pictures are
drawn and fitted, and the fitted network is scored with the clean ones, whatever the fit says of it.
Prints a Markdown table, and how often the verdict was wrong: a model that loses, or a gain that is
not written.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

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

MARGIN = 0.02
"""Decibels within which a fit neither gains nor loses."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a fit said of itself, and the truth.

    Attributes:
        says: whether it wrote a model.
        improvement: of its validation loss, as a fraction.
        error: standard error of that.
        gain: of the mean PSNR over the start, in dB.
    """

    says: bool
    improvement: float
    error: float
    gain: float

    @property
    def false_gain(self) -> bool:
        """Whether a model was written that loses."""
        return self.says and self.gain < -MARGIN

    @property
    def missed_gain(self) -> bool:
        """Whether a gain was not written."""
        return not self.says and self.gain > MARGIN


def judge(pairs: list[tuple[Path, Path]], start: Model, options: FitOptions) -> Verdict | None:
    """Fit to the noisy pictures of pairs; None where the fit sees nothing to learn."""

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
        if result.best is None or not isinstance(result.network, MaskedNetwork):
            return None
        fitted = replace(start, network=result.network)
        gain = mean_psnr(fitted) - mean_psnr(start)
        return Verdict(
            says=result.model is not None, improvement=result.best.improvement,
            error=result.best.standard_error, gain=gain,
        )  # fmt: skip


def main() -> None:
    """Parse, draw, fit, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--kinds", nargs="+", help="folders of DATA_DIR (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="folders drawn of each kind")
    parser.add_argument("--pictures", type=int, default=5, help="of a folder that is drawn")
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()

    start = load_model("photo")
    print(
        f"amsnet {__version__}, torch {torch.__version__}; {machine()}; {args.pictures} pictures, "
        f"{args.steps} steps from `photo`. {PROTOCOL}.\n"
    )
    print("| kind | seed | says | validation loss | gain, dB | |")
    print("|---|---:|---|---:|---:|---|")
    verdicts = []
    for kind in args.kinds or sorted(path.name for path in args.data.iterdir()):
        pairs = pair_photos(args.data / kind / "noisy", args.data / kind / "clean")
        for seed in range(args.seeds):
            rng = np.random.default_rng(seed)
            drawn = rng.permutation(len(pairs))[: args.pictures].tolist()
            options = FitOptions(preset="adapt", steps=args.steps, seed=seed)
            verdict = judge([pairs[i] for i in sorted(drawn)], start, options)
            if verdict is None:
                print(f"| {kind} | {seed} | nothing to learn | | | |", flush=True)
                continue
            verdicts.append(verdict)
            wrong = "loses" * verdict.false_gain + "missed" * verdict.missed_gain
            print(
                f"| {kind} | {seed} | {'gains' if verdict.says else 'no model'} "
                f"| {-verdict.improvement:+.2%} ± {2 * verdict.error:.2%} | {verdict.gain:+.2f} "
                f"| {wrong} |",
                flush=True,
            )
    lost, missed = (
        sum(getattr(v, name) for v in verdicts) for name in ("false_gain", "missed_gain")
    )
    print(f"\n{len(verdicts)} fits: {lost} models that lose, {missed} gains that were not written")


if __name__ == "__main__":
    main()

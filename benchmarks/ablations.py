"""The paper's ablations in small: denoiser, mask share, strides, refinement, smoothing.

    python -m benchmarks.ablations DATA/sidd_val32 --minutes 5 --networks compact dncnn

The folder holds `noisy/` and `clean/` of the same names. Each row's network is fitted from fresh
weights to the noisy pictures alone, for as long, by the paper's recipe or our own (`--recipe
masked`); rows differ from the base in one thing. The strengths of NLM and BM3D are chosen with the
clean pictures, which flatters them. Prints one Markdown table. Models are kept in --models, and
used again by the next run.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch

from amsnet_cli import __version__, load_model, read_photo
from amsnet_cli.core.networks import PaperNetwork
from amsnet_cli.device import choose_device
from amsnet_cli.fitting.fit import FitOptions, fit
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import Model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.research.datasets import pair_photos
from amsnet_cli.research.evaluation import PROTOCOL
from benchmarks.quality import NLM_STRENGTHS, Method, best_sigma, bm3d_at, nlm, score

NetworkName = Literal["compact"] | PaperNetwork
NETWORKS = ("compact", *get_args(PaperNetwork))
REFINE = 0.16


BARE = DenoiseOptions(strength=1)
"""The networks as they are, without what this project does to their results."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a fit, a second one that smooths it if wanted, and how it is run."""

    title: str
    fit: FitOptions
    smooth: bool = False
    run: DenoiseOptions = BARE


def plan(base: FitOptions, networks: list[NetworkName]) -> list[Row]:
    """All rows; those that share a fit are run on the same model."""
    first, *others = (replace(base, network=n) for n in networks)
    rows = [Row(title=f"B: {first.network}, k = 2, strides 5 and 2", fit=first)]
    rows += [Row(title=f"denoiser {other.network}", fit=other) for other in others]
    rows += [Row(title=f"k = {k}", fit=replace(first, hidden_share=1 / k)) for k in (3, 4, 8)]
    rows += [
        Row(title=f"training stride {s}", fit=replace(first, stride=s, infer_stride=2))
        for s in (1, 2, 3)
    ]
    rows += [
        Row(title=f"inference stride {s}", fit=first, run=replace(BARE, stride=s)) for s in (1, 5)
    ]
    rows += [
        Row(title="4 mask sets averaged", fit=first, run=replace(BARE, repeats=4)),
        Row(title="B-E: refinement", fit=first, run=replace(BARE, refine=REFINE)),
        Row(title="P: smoothing", fit=first, smooth=True),
        Row(title="P-E: both", fit=first, smooth=True, run=replace(BARE, refine=REFINE)),
    ]
    return rows


def fitted(row: Row, folder: Path, models: Path, device: torch.device) -> Model:
    """The row's model, fitted now or by an earlier row or run."""
    options = row.fit
    path = models / (
        f"{options.recipe}-{options.network}-{options.hidden_share:.3f}-{options.stride}"
        f"-{options.infer_stride}-{options.minutes}min-{options.rate}-{options.seed}-{folder.parent.name}.safetensors"
    )
    if not path.exists():
        fit(folder, path, options, device=device)
    model = load_model(path)
    if not row.smooth:
        return model
    smoothed = path.with_suffix(".P.safetensors")
    if not smoothed.exists():
        assert options.minutes is not None and options.rate is not None
        second = replace(
            options, network="compact", smooth=True,
            minutes=options.minutes / 5, rate=options.rate / 10,
        )  # fmt: skip
        fit(folder, smoothed, second, start=model, device=device)
    return load_model(smoothed)


def main() -> None:
    """Parse, fit, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0, help="a fit; smoothing adds a fifth")
    parser.add_argument("--recipe", choices=("paper", "masked"), default="paper")
    parser.add_argument("--rows", nargs="+", metavar="START", help="only rows that begin so")
    parser.add_argument("--rate", type=float, default=3e-4, help="the paper's is 1e-4, for hours")
    parser.add_argument("--networks", nargs="+", default=["compact"], choices=NETWORKS)
    parser.add_argument("--every", type=int, default=1, help="score each n-th picture")
    parser.add_argument("--no-bm3d", action="store_true", help="it takes a minute a megapixel")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", type=Path, help="folder of the fitted models")
    args = parser.parse_args()

    noisy = args.data / "noisy"
    paths = pair_photos(noisy, args.data / "clean")[:: args.every]
    pairs = [tuple(read_photo(p).pixels for p in pair) for pair in paths]
    base = FitOptions(
        recipe=args.recipe, minutes=args.minutes, rate=args.rate, stride=5, hidden_share=0.5
    )
    device = choose_device(args.device)
    print(
        f"{args.data.name}, {len(pairs)} pictures; each fit {args.minutes:g} minutes at rate "
        f"{args.rate:g}, smoothing a fifth of both; amsnet {__version__}, torch "
        f"{torch.__version__}, {device}, {torch.get_num_threads()} threads; seed 0. {PROTOCOL}.\n"
    )
    print("| | PSNR | SSIM | worse than noisy | steps | s/megapixel |")
    print("|---|---:|---:|---:|---:|---:|")

    def show(title: str, result: dict[str, float], steps: str = "") -> None:
        print(
            f"| {title} | {result['psnr']:.2f} | {result['ssim']:.4f} | {result['worse']} | "
            f"{steps} | {result['seconds']:.2f} |",
            flush=True,
        )

    show("noisy", score(lambda x: x, pairs))
    results = {h: score(nlm(h), pairs) for h in NLM_STRENGTHS}
    best = max(results, key=lambda h: results[h]["psnr"])
    show(f"OpenCV NLM, best h = {best}", results[best])
    if not args.no_bm3d:
        sigma = best_sigma(pairs)
        show(f"BM3D, sigma = {sigma}", score(bm3d_at(sigma), pairs))
    with tempfile.TemporaryDirectory() as temporary:
        models = args.models or Path(temporary)
        for row in plan(base, args.networks):
            if not row.title.startswith(tuple(args.rows or [""])):
                continue
            model = fitted(row, noisy, models, device)
            result = score(_method(model, row.run, device), pairs)
            show(row.title, result, str(model.config.provenance["steps"]))


def _method(model: Model, options: DenoiseOptions, device: torch.device) -> Method:
    return lambda x: denoise(Photo(pixels=x), model, options, device=device).pixels


if __name__ == "__main__":
    main()

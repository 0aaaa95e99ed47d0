"""The paper's ablations at a small scale: denoiser, mask ratio, strides, refinement, smoothing.

    python -m benchmarks.ablations DATA/sidd_val32 --minutes 5 --networks compact dncnn

The folder has `noisy/` and `clean/` pictures of the same names. Each row's network is fitted from
scratch to the noisy pictures, with the same time budget, by the paper's preset or our own
(`--preset masked`). Each row changes one setting of the base. The strengths of NLM and BM3D are
chosen with the clean pictures, which favours them. Prints one Markdown table. `--models` keeps the
models for the next run.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch

from amsnet_cli import __version__, load_model, read_photo
from amsnet_cli.core.network_names import NetworkName
from amsnet_cli.device import choose_device
from amsnet_cli.fitting.fit import fit
from amsnet_cli.fitting.options import FitOptions
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import Model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.research.datasets import pair_photos
from amsnet_cli.research.evaluation import PROTOCOL
from benchmarks.quality import NLM_STRENGTHS, Method, best_sigma, bm3d_at, nlm, score

NETWORKS = get_args(NetworkName)
REFINE = 0.16
"""The paper's ratio."""
RAW_OUTPUT = DenoiseOptions(strength=1)
"""Without post-processing."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table.

    Attributes:
        title: of the row.
        fit: options of the fit.
        smooth: whether a second fit fine-tunes it with the total-variation prior.
        denoise: options of inference.
    """

    title: str
    fit: FitOptions
    smooth: bool = False
    denoise: DenoiseOptions = RAW_OUTPUT


def plan(base: FitOptions, networks: list[NetworkName]) -> list[Row]:
    """Return all rows; rows with the same fit share a model."""
    first, *others = (replace(base, network=n) for n in networks)
    rows = [Row(title=f"B: {first.network}, k = 2, strides 5 and 2", fit=first)]
    rows += [Row(title=f"denoiser {other.network}", fit=other) for other in others]
    rows += [Row(title=f"k = {k}", fit=replace(first, mask_ratio=1 / k)) for k in (3, 4, 8)]
    rows += [
        Row(title=f"training stride {s}", fit=replace(first, pd_stride=s, pd_stride_test=2))
        for s in (1, 2, 3)
    ]
    rows += [
        Row(title=f"inference stride {s}", fit=first, denoise=replace(RAW_OUTPUT, stride=s))
        for s in (1, 5)
    ]
    rows += [
        Row(title="4 mask sets averaged", fit=first, denoise=replace(RAW_OUTPUT, repeats=4)),
        Row(title="B-E: refinement", fit=first, denoise=replace(RAW_OUTPUT, refine=REFINE)),
        Row(title="P: smoothing", fit=first, smooth=True),
        Row(title="P-E: both", fit=first, smooth=True, denoise=replace(RAW_OUTPUT, refine=REFINE)),
    ]
    return rows


def fitted_model(row: Row, folder: Path, models: Path, device: torch.device) -> Model:
    """Return the row's model, fitted now or by an earlier row or run."""
    options = row.fit
    name = "-".join(
        str(value)
        for value in (
            options.preset, options.network, f"{options.mask_ratio:.3f}", options.pd_stride,
            options.pd_stride_test, f"{options.minutes}min", options.learning_rate, options.seed,
            folder.parent.name,
        )
    )  # fmt: skip
    path = models / f"{name}.safetensors"
    if not path.exists():
        fit(folder, path, options, device=device)
    model = load_model(path)
    if not row.smooth:
        return model
    smoothed = path.with_suffix(".P.safetensors")
    if not smoothed.exists():
        assert options.minutes is not None and options.learning_rate is not None
        second = replace(
            options, network="compact", smooth=True,
            minutes=options.minutes / 5, learning_rate=options.learning_rate / 10,
        )  # fmt: skip
        fit(folder, smoothed, second, start=model, device=device)
    return load_model(smoothed)


def main() -> None:
    """Parse, fit, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0, help="per fit, and a fifth to smooth")
    parser.add_argument("--rows", nargs="+", metavar="START", help="only rows with such titles")
    parser.add_argument("--lr", type=float, default=3e-4, help="the paper's is 1e-4, for hours")
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
        preset="paper", minutes=args.minutes, learning_rate=args.lr, pd_stride=5, mask_ratio=0.5
    )
    device = choose_device(args.device)
    print(
        f"{args.data.name}, {len(pairs)} pictures; each fit {args.minutes:g} minutes at learning "
        f"rate {args.lr:g}, smoothing a fifth of both; amsnet {__version__}, torch "
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
            model = fitted_model(row, noisy, models, device)
            result = score(_method(model, row.denoise, device), pairs)
            show(row.title, result, str(model.config.provenance["steps"]))


def _method(model: Model, options: DenoiseOptions, device: torch.device) -> Method:
    return lambda x: denoise(Photo(pixels=x), model, options, device=device).photo.pixels


if __name__ == "__main__":
    main()

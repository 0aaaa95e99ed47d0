"""White noise: amsnet, told its strength or not, beside BM3D, which is told.

    python -m benchmarks.white_noise KODAK MCMASTER --weights photo fine

Each folder of clean pictures is a row for each strength. The noise is normal, the same in all
channels and everywhere. "8 bits": the noisy picture is rounded and clipped, as a file is, and goes
through all of `denoise`, with `--noise` and without. "As in papers": it is neither rounded nor
clipped, and only the network sees it, which is told the strength; that is how FFDNet (Zhang et al.,
TIP 2018) and others measure. NLM has the best of its strengths for the row, chosen with the clean
pictures. Prints one Markdown table.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import bm3d
import numpy as np
import torch
from numpy.typing import NDArray

from amsnet_cli import (
    DenoiseOptions,
    Model,
    Photo,
    __version__,
    find_weights,
    load_model,
    read_photo,
)
from amsnet_cli.core.multi_mask import self_ensemble
from amsnet_cli.core.photo_noise import PhotoNoise
from amsnet_cli.device import fast_precision
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.photos.find import find_photos
from amsnet_cli.research.evaluation import PROTOCOL, psnr
from benchmarks.quality import NLM_STRENGTHS, Picture, machine, nlm

SIGMAS = (5, 15, 25, 50)
"""On a scale of 255."""

Noisy = NDArray[np.float64]
"""(H, W, 3) on a scale of 255, of any range."""
Method = Callable[[Noisy], Picture]


def to_8_bits(picture: Noisy) -> Picture:
    """Round and clip."""
    return picture.round().clip(0, 255).astype(np.uint8)


def bm3d_told(sigma: float, noisy: Noisy) -> Picture:
    """BM3D, told the strength."""
    return to_8_bits(255 * bm3d.bm3d_rgb(noisy / 255, sigma / 255))


def in_8_bits(model: Model, told: float | None, noisy: Noisy) -> Picture:
    """All of `denoise` on what a file would hold; `told` is the strength, None to measure it."""
    photo = Photo(pixels=to_8_bits(noisy))
    return denoise(photo, model, DenoiseOptions(noise=told)).photo.pixels


def network_alone(model: Model, sigma: float, noisy: Noisy) -> Picture:
    """The network's passes, told the strength."""
    x = torch.from_numpy(noisy / 255).float().permute(2, 0, 1)[None]
    told = partial(model.network.eval(), noise=PhotoNoise.white(sigma))
    with torch.inference_mode(), fast_precision(torch.device("cpu")):
        denoised = self_ensemble(told, x, model.config.inference.ensemble)
    return to_8_bits(255 * denoised[0].permute(1, 2, 0).double().numpy())


def main() -> None:
    """Parse, draw, denoise, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clean", type=Path, nargs="+", help="folders of clean pictures")
    parser.add_argument("--every", type=int, default=1, help="take each n-th picture of a folder")
    parser.add_argument("--weights", nargs="+", default=["photo"])
    parser.add_argument("--no-nlm", action="store_true")
    parser.add_argument("--no-bm3d", action="store_true", help="it takes a minute a megapixel")
    args = parser.parse_args()

    models = {name: load_model(find_weights(name), name) for name in args.weights}
    for name, model in models.items():
        if not model.network.is_told:
            parser.error(f"{name} is not told the noise")
    print(
        f"amsnet {__version__}, torch {torch.__version__}, bm3d {version('bm3d')}; {machine()}; "
        f"weights {', '.join(models)}; seed 0. {PROTOCOL}.\n"
    )
    titles = ["noisy"] + ["NLM"] * (not args.no_nlm) + ["BM3D, told"] * (not args.no_bm3d)
    for name in models:
        titles += [f"{name}, measured", f"{name}, told"]
    papers = ["BM3D"] * (not args.no_bm3d) + list(models)
    titles += [f"{name}, told, as in papers" for name in papers]
    print("| pictures | sigma |", *(f"{title} |" for title in titles))
    print("|---|---:|" + "---:|" * len(titles))
    for folder in args.clean:
        pictures = [read_photo(path).pixels for path in find_photos(folder)[:: args.every]]
        for sigma in SIGMAS:
            scores = mean_scores(
                pictures, sigma, models, nlm=not args.no_nlm, bm3d=not args.no_bm3d
            )
            cells = [f"{scores[title]:.2f} |" for title in titles]
            print(f"| {folder.name} ({len(pictures)}) | {sigma} |", *cells, flush=True)


def mean_scores(
    pictures: list[Picture], sigma: float, models: dict[str, Model], *, nlm: bool, bm3d: bool
) -> dict[str, float]:
    """PSNR by the titles of the columns, means over the pictures."""
    noisy = [
        picture + sigma * np.random.default_rng(i).standard_normal(picture.shape)
        for i, picture in enumerate(pictures)
    ]
    files: list[Noisy] = [to_8_bits(x).astype(np.float64) for x in noisy]

    def mean(method: Method, inputs: list[Noisy]) -> float:
        pairs = zip(inputs, pictures, strict=True)
        return float(np.mean([psnr(method(x), clean) for x, clean in pairs]))

    scores = {"noisy": mean(to_8_bits, files)}
    if nlm:
        scores["NLM"] = max(mean(partial(nlm_at, h), files) for h in NLM_STRENGTHS)
    if bm3d:
        scores["BM3D, told"] = mean(partial(bm3d_told, sigma), files)
        scores["BM3D, told, as in papers"] = mean(partial(bm3d_told, sigma), noisy)
    for name, model in models.items():
        scores[f"{name}, measured"] = mean(partial(in_8_bits, model, None), files)
        scores[f"{name}, told"] = mean(partial(in_8_bits, model, sigma), files)
        scores[f"{name}, told, as in papers"] = mean(partial(network_alone, model, sigma), noisy)
    return scores


def nlm_at(strength: int, noisy: Noisy) -> Picture:
    """OpenCV's non-local means for colour pictures."""
    return nlm(strength)(to_8_bits(noisy))


if __name__ == "__main__":
    main()

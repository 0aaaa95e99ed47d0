"""Compare quality and speed of OpenCV's NLM, BM3D and amsnet on the same pictures.

    python -m benchmarks.quality DATA_DIR --sets sidd10 polyu100 --weights photo sidd --fit 5

DATA_DIR has one folder per set, with `noisy/` and `clean/` pictures of the same names. NLM runs at
the strength that is best for the set, BM3D at the sigma that is best for crops of four of its
pictures. Both are chosen with the clean pictures, which favours them. Prints one Markdown table per
set.
"""

from __future__ import annotations

import argparse
import io
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import bm3d
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from amsnet_cli import __version__, denoise, fit, load_model, read_photo
from amsnet_cli.device import computes_bfloat16_fast
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.photo import Photo
from amsnet_cli.research.datasets import pair_photos
from amsnet_cli.research.evaluation import PROTOCOL, psnr, ssim

NLM_STRENGTHS = (3, 5, 7, 10, 15, 20, 30)
BM3D_SIGMAS = (5, 8, 10, 15, 25, 40, 60)
WORSE = 0.05
"""Loss in dB from which a result counts as worse than the noisy picture."""

Picture = NDArray[np.uint8]
Method = Callable[[Picture], Picture]


def nlm(strength: int) -> Method:
    """OpenCV's non-local means for colour pictures."""
    return lambda x: cv2.fastNlMeansDenoisingColored(x, None, strength, strength, 7, 21)


def bm3d_at(sigma: int) -> Method:
    """BM3D on RGB for white noise; `sigma` on a scale of 255."""

    def method(noisy: Picture) -> Picture:
        clean = bm3d.bm3d_rgb(noisy / 255.0, sigma / 255)
        return (clean * 255).round().clip(0, 255).astype(np.uint8)

    return method


def best_sigma(pairs: list[tuple[Picture, Picture]]) -> int:
    """Choose BM3D's sigma for a set on the centres of four pictures, as it is slow."""
    middles = []
    for noisy, clean in pairs[:: -(-len(pairs) // 4)]:
        y, x = (max(0, side // 2 - 128) for side in noisy.shape[:2])
        middles.append((noisy[y : y + 256, x : x + 256], clean[y : y + 256, x : x + 256]))
    found = {s: score(bm3d_at(s), middles)["psnr"] for s in BM3D_SIGMAS}
    return max(found, key=lambda s: found[s])


def amsnet(name: str, masks: int | None = None) -> Method:
    """Denoise with weights or a model; `masks` is the number of masks, None for the default."""
    model = load_model(name)

    def method(noisy: Picture) -> Picture:
        photo = Photo(pixels=noisy)
        return denoise(photo, weights=model, device="cpu", n_masks=masks).photo.pixels

    return method


def score(method: Method, pairs: list[tuple[Picture, Picture]]) -> dict[str, float]:
    """Mean PSNR and SSIM, number of pictures that became worse, seconds per megapixel."""
    psnrs, ssims, worse, seconds, pixels = [], [], 0, 0.0, 0
    for noisy, clean in pairs:
        started = time.perf_counter()
        denoised = method(noisy)
        seconds += time.perf_counter() - started
        pixels += noisy.shape[0] * noisy.shape[1]
        psnrs.append(psnr(denoised, clean))
        ssims.append(ssim(denoised, clean))
        worse += psnrs[-1] < psnr(noisy, clean) - WORSE
    return {
        "psnr": float(np.mean(psnrs)), "ssim": float(np.mean(ssims)),
        "worse": worse, "seconds": seconds / pixels * 1e6,
    }  # fmt: skip


def results_of(folder: Path, paths: list[tuple[Path, Path]]) -> Method:
    """Another tool's results: the pictures in `folder` with the stems of the noisy ones, in order.

    Only for one pass over the pairs of `paths`.
    """
    outputs = {p.stem: p for p in folder.iterdir()}
    results = iter([read_photo(outputs[noisy.stem]).pixels for noisy, _ in paths])
    return lambda x: next(results)


def fitted(paths: list[tuple[Path, Path]], minutes: float) -> Method:
    """The default weights, after `amsnet fit` on the noisy pictures if it gains anything."""
    with TemporaryDirectory() as place:
        folder, model = Path(place) / "noisy", Path(place) / "fitted.safetensors"
        folder.mkdir()
        for path, _ in paths:
            (folder / path.name).symlink_to(path.resolve())
        fitted_model = fit(folder, model, device="cpu", minutes=minutes).model
        return amsnet(str(fitted_model or "photo"))


def machine() -> str:
    """Describe the processor, the number of threads and the precision."""
    abilities = torch.cpu.get_capabilities()
    name = abilities.get("cpu_name", platform.processor())
    fast = computes_bfloat16_fast(torch.device("cpu"))
    precision = "bfloat16" if fast else "float32"
    return f"{torch.get_num_threads()} threads of {name}, {precision}"


def table(title: str, rows: dict[str, dict[str, float]]) -> None:
    """Print a Markdown table."""
    print(f"\n{title}\n")
    print("| method | PSNR | SSIM | worse than noisy | s/megapixel |")
    print("|---|---:|---:|---:|---:|")
    for method, r in rows.items():
        speed = f"{r['seconds']:.2f}" if r["seconds"] > 0.001 else "-"
        print(
            f"| {method} | {r['psnr']:.2f} | {r['ssim']:.4f} | {r['worse']:.0f} | {speed} |",
            flush=True,
        )


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--weights", nargs="*", default=["photo"], metavar="NAME[:MASKS]")
    parser.add_argument("--every", type=int, default=1, help="take each n-th picture")
    parser.add_argument("--no-nlm", action="store_true")
    parser.add_argument("--no-bm3d", action="store_true", help="it takes a minute a megapixel")
    parser.add_argument(
        "--against", nargs="*", default=[], metavar="NAME=FOLDER",
        help="results of other tools; FOLDER/SET/ has a picture for each noisy one",
    )  # fmt: skip
    parser.add_argument("--fit", type=float, metavar="MINUTES", help="also `photo` after a fit")
    parser.add_argument(
        "--clean", type=Path, help="folder of clean pictures, to measure how much they change"
    )
    parser.add_argument(
        "--jpeg", type=int, nargs="+", default=[], metavar="QUALITY",
        help="also measure what these JPEGs of the clean pictures gain",
    )  # fmt: skip
    args = parser.parse_args()
    if args.jpeg and not args.clean:
        parser.error("--jpeg needs --clean")

    print(
        f"amsnet {__version__}, torch {torch.__version__}, OpenCV {cv2.__version__}, "
        f"bm3d {version('bm3d')}, Python {platform.python_version()}; {machine()}; "
        f"seed 0. {PROTOCOL}."
    )
    methods = {
        f"amsnet {name.replace(':', ', ')}{' masks' * (':' in name)}": amsnet(
            name.partition(":")[0], int(name.partition(":")[2] or 0) or None
        )
        for name in args.weights
    }
    for name in args.sets:
        folder = args.data / name
        paths = pair_photos(folder / "noisy", folder / "clean")[:: args.every]
        pairs = [tuple(read_photo(p).pixels for p in pair) for pair in paths]
        rows = {"noisy": score(lambda x: x, pairs)}
        if not args.no_nlm:
            nlm_rows = {h: score(nlm(h), pairs) for h in NLM_STRENGTHS}
            best = max(nlm_rows, key=lambda h: nlm_rows[h]["psnr"])
            rows[f"OpenCV NLM, best h = {best}"] = nlm_rows[best]
        if not args.no_bm3d:
            sigma = best_sigma(pairs)
            rows[f"BM3D, sigma = {sigma}"] = score(bm3d_at(sigma), pairs)
        for other in args.against:
            label, _, place = other.partition("=")
            rows[label] = score(results_of(Path(place) / name, paths), pairs)
        for label, method in methods.items():
            rows[label] = score(method, pairs)
        if args.fit:
            label = f"amsnet photo, fitted to these for at most {args.fit:g} min"
            rows[label] = score(fitted(paths, args.fit), pairs)
        table(f"{name}, {len(pairs)} pictures", rows)
    if args.clean:
        photos = (read_photo(p) for p in find_photos(args.clean)[:: args.every])
        clean = [p.pixels for p in photos if p.pixels.shape[2] == 3]
        for label, method in methods.items():
            changes = [psnr(method(x), x) for x in clean]
            drift = max(abs(float(method(x).mean() - x.mean())) for x in clean[:10])
            print(
                f"\n{args.clean.name}, {len(clean)} clean pictures, {label}: changed by "
                f"{np.mean(changes):.1f} dB, at most {min(changes):.1f} dB; mean brightness by at "
                f"most {drift:.2f} of 255"
            )
        for quality in args.jpeg:
            pairs = [(as_jpeg(x, quality), x) for x in clean]
            rows = {"file": score(lambda x: x, pairs)}
            rows |= {label: score(method, pairs) for label, method in methods.items()}
            table(f"{args.clean.name}, {len(clean)} clean pictures as JPEG {quality}", rows)


def as_jpeg(picture: Picture, quality: int) -> Picture:
    """Compress and decode; 4:2:0."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


if __name__ == "__main__":
    main()

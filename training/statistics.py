"""Noise statistics of real sets and of the simulated cameras.

    python -m training.statistics --photos CLEAN_DIR SET_DIR ...

Each SET_DIR holds `noisy/` and `clean/` pictures of the same names. Prints one Markdown table: the
10 %, 50 % and 90 % quantile over pictures of each quantity, for real sets and for simulated
patches. A network can only learn noise within the range of the simulation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

LAGS = (1, 2, 3, 4, 5)
BRIGHTNESS = ((0.02, 0.15), (0.15, 0.4), (0.4, 0.8))

Picture = NDArray[np.float32]


def noise_statistics(noisy: Picture, clean: Picture) -> dict[str, float]:
    """Noise statistics of a picture, in the flat areas of the clean one.

    Args:
        noisy: (H, W, 3) float32 in [0, 1].
        clean: the same scene without noise.

    Returns:
        - Standard deviation on a scale of 255, overall and by brightness.
        - Autocorrelation of luma (mean of the channels) at `LAGS`, along rows and columns.
        - Fraction of the noise power in luma, and correlation of the channels.
        - Ratio of the finest noise at edges to that in flat areas.
        - Kurtosis.

        NaN where too few pixels are flat.
    """
    noise = noisy - clean
    noise -= cv2.GaussianBlur(noise, (0, 0), 12)
    slope = np.hypot(*np.gradient(cv2.GaussianBlur(clean.mean(2), (0, 0), 1.0)))
    flat = slope <= np.quantile(slope, 0.4)
    bright = clean.mean(2)
    luma = noise.mean(2)
    chroma = noise - luma[..., None]

    def power(mask: NDArray[np.bool_]) -> float:
        return float(np.square(noise[mask]).mean()) if mask.sum() > 400 else float("nan")

    def correlation(lag: int) -> float:
        pairs = [
            (luma[:-lag][flat[:-lag]], luma[lag:][flat[:-lag]]),
            (luma[:, :-lag][flat[:, :-lag]], luma[:, lag:][flat[:, :-lag]]),
        ]
        return float(np.mean([np.mean(a * b) for a, b in pairs]) / np.square(luma[flat]).mean())

    fine = luma - cv2.blur(luma, (3, 3))
    rough = slope >= np.quantile(slope, 0.9)
    red, green, blue = (noise[..., i][flat] for i in range(3))
    found = {"sigma": 255 * power(flat) ** 0.5}
    for low, high in BRIGHTNESS:
        inside = flat & (bright >= low) & (bright < high)
        found[f"sigma at {low} to {high}"] = 255 * power(inside) ** 0.5
    found |= {f"luma, lag {lag}": correlation(lag) for lag in LAGS}
    found |= {
        "luma's share": float(
            3 * np.square(luma[flat]).mean()
            / (3 * np.square(luma[flat]).mean() + np.square(chroma[flat]).sum(1).mean())
        ),
        "red with green": float(np.corrcoef(red, green)[0, 1]),
        "red with blue": float(np.corrcoef(red, blue)[0, 1]),
        "fine noise, edges over flats": float(
            (np.square(fine[rough]).mean() / np.square(fine[flat]).mean()) ** 0.5
        ),
        "kurtosis": float(np.mean(luma[flat] ** 4) / np.mean(luma[flat] ** 2) ** 2),
    }  # fmt: skip
    return found


def of_set(folder: Path, every: int = 1) -> list[dict[str, float]]:
    """Statistics of each picture of a set."""
    found = []
    for path in sorted((folder / "noisy").iterdir())[::every]:
        pair = (cv2.imread(str(p)) for p in (path, folder / "clean" / path.name))
        noisy, clean = (x[..., ::-1].astype(np.float32) / 255 for x in pair)
        found.append(noise_statistics(noisy, clean))
    return found


def of_simulation(photos: Path, patches: int, patch: int = 160) -> Iterator[dict[str, float]]:
    """Statistics of simulated patches."""
    from training.patches import CleanPatches, add_noise

    clean = CleanPatches(photos, patch_size=patch, batch=8, first=0, count=patches // 8, seed=0)
    for i in range(len(clean)):
        noisy, target, _ = add_noise(clean[i])
        for a, b in zip(noisy, target, strict=True):
            if (a - b).abs().max() > 0:
                yield noise_statistics(a.permute(1, 2, 0).numpy(), b.permute(1, 2, 0).numpy())


def quantiles(found: list[dict[str, float]]) -> dict[str, tuple[float, float, float]]:
    """The 10 %, 50 % and 90 % quantile of each quantity."""
    out = {}
    for key in found[0]:
        values = np.array([f[key] for f in found])
        values = values[np.isfinite(values)]
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9)) if values.size else [np.nan] * 3
        out[key] = (float(low), float(middle), float(high))
    return out


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", type=Path, nargs="*")
    parser.add_argument("--photos", type=Path, required=True, help="folder of clean photos")
    parser.add_argument("--patches", type=int, default=400)
    parser.add_argument("--every", type=int, default=1, help="take each n-th picture of a set")
    args = parser.parse_args()
    columns = {"simulated": quantiles(list(of_simulation(args.photos, args.patches)))}
    columns |= {folder.name: quantiles(of_set(folder, args.every)) for folder in args.sets}
    print("| | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for key in columns["simulated"]:
        cells = (" / ".join(f"{v:.2f}" for v in column[key]) for column in columns.values())
        print(f"| {key} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

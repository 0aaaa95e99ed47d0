"""What mending hot pixels changes in photos that are known clean.

    python benchmarks/hot_pixels.py SET...

Each SET is a folder with noisy/ and clean/ in it, of pictures of the same order. For each the
number of values that were taken for hot pixels, and what that changes in the PSNR of the noisy
pictures: the mean over all of them, and the worst.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from amsnet_cli.inference.hot_pixels import mend_hot_pixels
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.photo import Pixels
from amsnet_cli.photos.read import read_photo


def main() -> None:
    """Print one line for each set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", type=Path, metavar="SET")
    for folder in parser.parse_args().sets:
        changes, hot, seconds, pixels = [], 0, 0.0, 0
        pairs = zip(find_photos(folder / "noisy"), find_photos(folder / "clean"), strict=True)
        for noisy_path, clean_path in pairs:
            noisy, clean = read_photo(noisy_path), read_photo(clean_path)
            started = time.monotonic()
            mended, count = mend_hot_pixels(noisy)
            seconds += time.monotonic() - started
            hot, pixels = hot + count, pixels + noisy.pixels[..., 0].size
            error, before = (_squared(p.pixels, clean.pixels) for p in (mended, noisy))
            changes.append(10 * np.log10(before / error) if count else 0.0)
        print(
            f"{folder.name}: {hot} values mended in {len(changes)} pictures of {pixels / 1e6:.1f} "
            f"MP, PSNR {np.mean(changes):+.4f} dB, at worst {min(changes):+.4f} dB, "
            f"{1e6 * seconds / pixels:.2f} s/MP"
        )


def _squared(one: Pixels, other: Pixels) -> float:
    return float(np.square(one.astype(np.float64) - other).mean())


if __name__ == "__main__":
    main()

r"""Reduce the photographs of two wallpaper packages, as clean photos.

    apt-get download budgie-backgrounds=4.2-1 ukui-wallpapers=20.04.4-1
    for file in *.deb; do dpkg-deb -x $file unpacked; done
    python -m training.wallpapers unpacked/usr/share/backgrounds CLEAN_PHOTOS

`wallpapers.txt` lists the photographs and by how much each is reduced: at least twice, to hide the
traces of compression, and more where grain is left. Drawings and grainy photos were left out by
eye. CREDITS.md names authors and licences. JPEG XL needs the extra `codecs`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from amsnet_cli import read_photo

LIST = Path(__file__).with_name("wallpapers.txt")


def reduced(photo: np.ndarray, divisor: int) -> np.ndarray:
    """Average squares of `divisor` pixels a side of (H, W, C); rows and columns over are cut."""
    height, width = (side // divisor for side in photo.shape[:2])
    whole = photo[: height * divisor, : width * divisor]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)


def main() -> None:
    """Parse, read, reduce, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("unpacked", type=Path, help="the packages' folder of backgrounds")
    parser.add_argument("folder", type=Path, help="where PNG files are written")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for line in LIST.read_text("utf-8").splitlines():
        name, divisor = line.split()
        photo = reduced(read_photo(args.unpacked / name).pixels, int(divisor))
        target = args.folder / Path(name).with_suffix(".png").name
        if not cv2.imwrite(str(target), photo[..., ::-1]):
            parser.error(f"{target} cannot be written")


if __name__ == "__main__":
    main()

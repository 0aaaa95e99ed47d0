r"""Take the photographs of surfaces out of the game UFO: Alien Invasion, as clean photos.

    apt-get download ufoai-textures && dpkg-deb -x ufoai-textures_*.deb ufoai
    python -m training.textures ufoai/usr/share/games/ufoai/base/*.pk3 CLEAN_PHOTOS

Free wallpapers hold much sky and blur. These hold brick, wood, grass, gravel and plaster, which is
what noise is hardest to tell from. `textures.txt` lists the files: photographs, chosen by eye, few
of the same surface. JPEGs are reduced in size, to hide the traces of their compression;
the smallest are mirrored, so that a patch fits in. Debian's package names author and licence of
each file, and CREDITS.md all of them together.
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import cv2
import numpy as np

LIST = Path(__file__).with_name("textures.txt")
LARGE = 1024
"""Shorter side, in pixels, from which a JPEG is halved. Of smaller ones two thirds are kept."""
SMALL, MIRRORED = 500, 700
"""Pictures with a side of fewer pixels than the first are mirrored to the second."""


def photo_of(content: bytes, *, jpeg: bool) -> np.ndarray:
    """Decode a texture, reduce and mirror it; (H, W, 3) uint8, blue first."""
    photo = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if jpeg:
        divisor = 2.0 if min(photo.shape[:2]) >= LARGE else 1.5
        size = [int(side / divisor) for side in photo.shape[1::-1]]
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    if min(photo.shape[:2]) < SMALL:
        more = [(0, max(0, MIRRORED - side)) for side in photo.shape[:2]]
        photo = np.pad(photo, (*more, (0, 0)), mode="symmetric")
    return photo


def main() -> None:
    """Parse, unpack, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="the package's .pk3, a zip file")
    parser.add_argument("folder", type=Path, help="where PNG files are written")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(args.archive) as archive:
        for name in LIST.read_text("utf-8").split():
            photo = photo_of(archive.read(name), jpeg=name.endswith(".jpg"))
            target = "-".join(Path(name).with_suffix(".png").parts[1:])
            if not cv2.imwrite(str(args.folder / target), photo):
                parser.error(f"{args.folder / target} cannot be written")


if __name__ == "__main__":
    main()

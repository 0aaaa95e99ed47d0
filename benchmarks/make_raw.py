"""Make a benchmark of RAW files from clean photos: simulated mosaics whose noise is known.

    python -m benchmarks.make_raw CLEAN OUT --pattern xtrans --every 3

A photo is brought back to what a sensor would have recorded: gamma 2.2 off, exposure, gains off,
through a colour filter array. At each ISO it gets noise of the variance a x + b, x in 0..1, and is
rounded. OUT gets NAME_clean.dng and NAME_ISO.dng, which any converter opens, and `laws.json` with
a and b of each ISO. `benchmarks.raw` measures on it. A tile in the corner is white: some converters
look for the brightest value. LibRaw develops X-Trans from 512 photosites a side on: `--side 512`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from amsnet_cli.atomic import write_whole
from amsnet_cli.photos import ifd
from amsnet_cli.photos.formats.dng import doubles, longs, octets, rationals, shorts, text
from amsnet_cli.photos.mosaic import tiled

GAMMA = 2.2
LAWS = {
    100: (1.67e-5, 5e-9), 1600: (1.78e-4, 4.2e-7), 6400: (6.9e-4, 2.1e-6), 25600: (2.6e-3, 6.1e-6),
}  # fmt: skip
"""a and b by ISO of a full-frame camera."""
LAWS_FILE = "laws.json"
PATTERNS = {
    "rggb": np.array([[0, 1], [1, 2]]),
    "grbg": np.array([[1, 0], [2, 1]]),
    "gbrg": np.array([[1, 2], [0, 1]]),
    "bggr": np.array([[2, 1], [1, 0]]),
    "xtrans": np.array([
        [1, 1, 0, 1, 1, 2], [1, 1, 2, 1, 1, 0], [2, 0, 1, 0, 2, 1],
        [1, 1, 2, 1, 1, 0], [1, 1, 0, 1, 1, 2], [0, 2, 1, 2, 0, 1],
    ]),
    "mono": np.array([[0]]),
}  # fmt: skip
"""Colours of the tile that repeats: 0 red, 1 green, 2 blue; `mono` has no filters."""
XYZ_TO_SRGB = np.array(
    [[3.2405, -1.5371, -0.4985], [-0.9693, 1.8760, 0.0416], [0.0556, -0.2040, 1.0572]]
)
"""For D65 (IEC 61966-2-1): the camera sees as sRGB does, but for the gains."""


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """What records the photos.

    Attributes:
        pattern: a name in `PATTERNS`.
        gains: of red, green and blue: the white balance is their inverse.
        black: level of black.
        white: level of white.
        camera: maker and model; converters look up what they know of it.
    """

    pattern: str = "rggb"
    gains: tuple[float, ...] = (2.0, 1.0, 1.6)
    black: int = 512
    white: int = 16383
    camera: str = "Sony ILCE-7M3"

    @property
    def tile(self) -> np.ndarray:
        """Colours of the tile that repeats."""
        return PATTERNS[self.pattern]

    def light(self, photo: np.ndarray, exposure: float) -> np.ndarray:
        """Return what reaches the photosites, (H, W) in 0..1, of a photo (H, W, 3) in 0..1."""
        linear = exposure * photo**GAMMA
        if self.pattern == "mono":
            return linear.mean(2)
        index = tiled(self.tile, photo.shape[:2])
        return np.take_along_axis(linear / np.array(self.gains), index[..., None], 2)[..., 0]

    def recorded(self, light: np.ndarray) -> np.ndarray:
        """Round to the sensor's levels, (H, W) uint16, with a white tile in the corner."""
        values = light * (self.white - self.black) + self.black
        values = np.rint(values).clip(0, self.white).astype(np.uint16)
        values[: len(self.tile), : len(self.tile)] = self.white
        return values

    def dng(
        self, values: np.ndarray, iso: int, noise_profile: tuple[float, float] | None = None
    ) -> bytes:
        """Make a DNG file of a mosaic, (H, W) uint16, with what converters need."""
        height, width = values.shape
        make, _, model = self.camera.partition(" ")
        pixels = values.astype("<u2").tobytes()
        side = len(self.tile)
        exposure: ifd.Directory = {
            33434: rationals([0.01]), 33437: rationals([4]), 34855: shorts(min(iso, 65535)),
            34864: shorts(2), 34866: longs(iso), 36864: ifd.Entry(type=7, count=4, value=b"0230"),
        }  # fmt: skip
        tree: ifd.Directory = {
            254: longs(0), 256: longs(width), 257: longs(height), 258: shorts(16), 259: shorts(1),
            262: shorts(34892), 271: text(make), 272: text(model), 273: longs(8), 274: shorts(1),
            277: shorts(1), 278: longs(height), 279: longs(len(pixels)), 282: rationals([300]),
            283: rationals([300]), 284: shorts(1), 296: shorts(2), 305: text("benchmarks.make_raw"),
            50706: octets(1, 4, 0, 0), 50707: octets(1, 2, 0, 0), 50708: text(self.camera),
            50713: shorts(side, side), 50714: shorts(*[self.black] * side**2),
            50717: longs(self.white), 50718: rationals([1, 1]), 50719: longs(0, 0),
            50720: longs(width, height), 50730: rationals([0], signed=True),
            50829: longs(0, 0, height, width), ifd.EXIF_IFD: exposure,
        }  # fmt: skip
        if self.pattern != "mono":
            neutral = 1 / np.array(self.gains)
            tree |= {
                262: shorts(32803), 33421: shorts(side, side), 33422: octets(*self.tile.ravel()),
                50710: octets(0, 1, 2), 50711: shorts(1), 50778: shorts(21),
                50721: rationals((neutral[:, None] * XYZ_TO_SRGB).ravel(), signed=True),
                50728: rationals(neutral),
            }  # fmt: skip
        if noise_profile:
            tree[51041] = doubles(noise_profile)
        return ifd.append_tree(b"II*\0\0\0\0\0" + pixels, tree)


def noisy(
    light: np.ndarray, law: tuple[float, float], rows: float, rng: np.random.Generator
) -> np.ndarray:
    """Add noise of the variance a x + b, and what the photosites of a row share.

    Args:
        light: (H, W) in 0..1.
        law: a and b.
        rows: standard deviation of what they share, in units of sqrt(b).
        rng: of numpy.
    """
    a, b = law
    shared = rows * rng.standard_normal((len(light), 1))
    return a * rng.poisson(light / a) + np.sqrt(b) * (rng.standard_normal(light.shape) + shared)


def middle(path: Path, side: int) -> np.ndarray:
    """Read the middle of a photo, at most `side` to a side, (H, W, 3) in 0..1."""
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float64) / 255
    height, width = (min(side, length) // 2 * 2 for length in pixels.shape[:2])
    top, left = (
        (length - part) // 2 for length, part in zip(pixels.shape[:2], (height, width), strict=True)
    )
    return pixels[top : top + height, left : left + width]


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clean", type=Path, help="folder of clean photos")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--pattern", choices=PATTERNS, default="rggb")
    parser.add_argument("--every", type=int, default=1, help="take every Nth photo")
    parser.add_argument("--side", type=int, default=480, help="longest side of what is cut out")
    parser.add_argument("--exposure", type=float, default=0.8, help="of white, before the gains")
    parser.add_argument("--gains", type=float, nargs=3, default=Sensor.gains, metavar="GAIN")
    parser.add_argument("--black", type=int, default=Sensor.black, help="level")
    parser.add_argument("--white", type=int, default=Sensor.white, help="level")
    parser.add_argument("--camera", default=Sensor.camera, help="maker and model")
    parser.add_argument("--law", nargs="+", metavar="ISO=A,B", help="of the noise")
    parser.add_argument(
        "--row-noise", type=float, default=0, help="at the highest ISO, in units of sqrt(b)"
    )
    parser.add_argument(
        "--noise-profile", action="store_true", help="state a and b in every second photo's files"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    laws = laws_of(args.law) if args.law else LAWS
    sensor = Sensor(
        pattern=args.pattern, gains=tuple(args.gains), black=args.black, white=args.white,
        camera=args.camera,
    )  # fmt: skip
    paths = sorted(
        p for p in args.clean.iterdir() if p.suffix.lower() in Image.registered_extensions()
    )
    args.out.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths[:: args.every]):
        light = sensor.light(middle(path, args.side), args.exposure)
        clean = sensor.dng(sensor.recorded(light), min(laws))
        write_whole(args.out / f"{path.stem}_clean.dng", clean)
        for iso, law in laws.items():
            rng = np.random.default_rng((args.seed, number, iso))
            rows = args.row_noise if iso == max(laws) else 0.0
            values = sensor.recorded(noisy(light, law, rows, rng))
            stated = law if args.noise_profile and number % 2 else None
            write_whole(args.out / f"{path.stem}_{iso}.dng", sensor.dng(values, iso, stated))
    write_whole(args.out / LAWS_FILE, json.dumps(laws).encode())
    print(f"{args.out}: {len(paths[:: args.every])} photos at {len(laws)} ISO speeds")


def laws_of(told: list[str]) -> dict[int, tuple[float, float]]:
    """Parse ISO=A,B."""
    found = {}
    for law in told:
        iso, a, b = law.replace("=", ",").split(",")
        found[int(iso)] = float(a), float(b)
    return found


if __name__ == "__main__":
    main()

"""Kinds of noise that the four sets do not hold: what other cameras and other lives may bring.

    python -m benchmarks.kinds CLEAN_FOLDER --every 5 --weights photo fine

Middles of clean pictures are taken by cameras that are drawn here, apart from those of `training`:
each kind has its own sensor and its own way to the file. NLM runs at the strength that is best for
the kind, chosen with the clean pictures. Prints one Markdown table; "least" is the gain, in dB over
the noisy picture, of the picture that gains least. `--save` keeps what was drawn as
FOLDER/KIND/noisy and FOLDER/KIND/clean, which `benchmarks.fits` takes for sets.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from amsnet_cli import __version__, read_photo
from amsnet_cli.photos.find import find_photos
from amsnet_cli.research.evaluation import PROTOCOL, psnr
from benchmarks.quality import Method, Picture, amsnet, machine, nlm

SIDE = 480
STRENGTHS = (5, 10, 20)
GAMMA = 2.2
BLACK, RANGE = 0.2, 1.4
"""What lies below black, and how much all of it spans, where light is held in whole numbers."""
X_TRANS = ("GRGGBG", "BGBRGR", "GRGGBG", "GBGGRG", "RGRBGB", "GBGGRG")

Light = NDArray[np.float64]
"""(H, W, 3): what reaches a sensor, 1 where it is full."""
Coded = NDArray[np.float64]
"""(H, W, 3) in [0, 1], as files hold it."""


def counted(shot: float, read: float = 0.0) -> Callable[[Light, np.random.Generator], Light]:
    """A sensor: variance grows with the light, from that of reading it."""

    def sensor(light: Light, rng: np.random.Generator) -> Light:
        return light + np.sqrt(shot * light + read**2) * rng.standard_normal(light.shape)

    return sensor


def in_rows(light: Light, rng: np.random.Generator) -> Light:
    """Each row is read with an error of its own."""
    return counted(0.004)(light, rng) + 0.012 * rng.standard_normal((len(light), 1, 1))


def pushed(light: Light, rng: np.random.Generator) -> Light:
    """Four stops too little light, made up for afterwards."""
    return 16 * counted(0.001, 0.002)(light / 16, rng).clip(0, 1)


def without_colours(light: Light, rng: np.random.Generator) -> Light:
    """A monochrome sensor, of a grey scene, saved as RGB."""
    return np.repeat(counted(0.02)(light[..., :1], rng), 3, 2)


def coded(light: Light) -> Coded:
    """No mosaic."""
    return light.clip(0, 1) ** (1 / GAMMA)


def bayer(light: Light) -> Coded:
    """Keep one colour a pixel, interpolate the others along edges."""
    mosaic = light[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = light[0::2, 0::2, 0], light[1::2, 1::2, 2]
    whole = ((mosaic + BLACK) / RANGE * 65535).clip(0, 65535).astype(np.uint16)
    return coded(cv2.cvtColor(whole, cv2.COLOR_BayerRGGB2RGB_EA) / 65535 * RANGE - BLACK)


def x_trans(light: Light) -> Coded:
    """Fuji's mosaic of 6 x 6, each colour interpolated by a Gaussian."""
    cells = np.array([list(row) for row in X_TRANS])
    height, width = light.shape[:2]
    mosaic = np.tile(cells, (height // 6 + 1, width // 6 + 1))[:height, :width]
    planes = []
    for plane, colour in zip(np.moveaxis(light, 2, 0), "RGB", strict=True):
        here = (mosaic == colour).astype(np.float64)
        reach = 0.8 if colour == "G" else 1.1
        planes.append(blurred(plane * here, reach) / blurred(here, reach))
    return coded(np.stack(planes, 2))


def zoomed(times: int) -> Callable[[Light], Coded]:
    """The upper left part, enlarged to the size of all."""

    def develop(light: Light) -> Coded:
        height, width = light.shape[:2]
        part = bayer(light)[: height // times, : width // times]
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)

    return develop


def halved(light: Light) -> Coded:
    """Made half as large."""
    return cv2.resize(bayer(light), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def sharpened(light: Light) -> Coded:
    """An unsharp mask, as cameras set to "vivid" apply it."""
    picture = bayer(light)
    return picture + 1.5 * (picture - blurred(picture, 1.0))


def as_jpeg(picture: Coded, rng: np.random.Generator) -> Coded:
    """JPEG at quality 75, 4:2:0."""
    file = io.BytesIO()
    Image.fromarray(stored(picture)).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file)) / 255


def grained(picture: Coded, rng: np.random.Generator) -> Coded:
    """Film: grain without colour, softer than a pixel, strongest in mid-tones."""
    grain = blurred(rng.standard_normal(picture.shape[:2]), 0.8)[..., None]
    return picture + 14 / 255 * grain / grain.std() * (0.4 + 1.2 * np.sqrt(picture * (1 - picture)))


def white(sigma: float) -> Callable[[Coded, np.random.Generator], Coded]:
    """Gaussian noise, as papers add it; sigma of 255."""
    return lambda picture, rng: picture + sigma / 255 * rng.standard_normal(picture.shape)


def as_it_is(x: Light | Coded, rng: np.random.Generator) -> Light | Coded:
    """Nothing is done."""
    return x


def grey(picture: Coded, rng: np.random.Generator) -> Coded:
    """The picture without its colours."""
    return np.repeat(picture.mean(2, keepdims=True), 3, 2)


def print_(picture: Coded, rng: np.random.Generator) -> Coded:
    """A page of small print, lit from one side."""
    page = Image.new("L", (SIDE, SIDE))
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz    "), (SIDE // 20, 80))
    text = "\n".join("".join(line) for line in letters)
    font = ImageFont.load_default(14)
    ImageDraw.Draw(page).multiline_text((8, 4), text, fill=255, font=font, spacing=4)
    ink = blurred(np.asarray(page) / 255, 0.8)[..., None]
    return (np.array((0.88, 0.86, 0.82)) * (1 - 0.82 * ink)) * np.linspace(0.6, 1, SIDE)[:, None]


def stars(picture: Coded, rng: np.random.Generator) -> Coded:
    """A sky of points, each about as wide as a pixel."""
    sky = np.full((SIDE, SIDE, 3), 0.01)
    y, x = np.mgrid[-4:5, -4:5]
    for _ in range(400):
        top, left = rng.integers(0, SIDE - 9, 2)
        (dy, dx), width, bright = rng.random(2), rng.uniform(0.7, 1.2), 10 ** rng.uniform(-1.7, 0)
        point = np.exp(-((y - dy) ** 2 + (x - dx) ** 2) / (2 * width**2))
        tint = rng.uniform(0.8, 1.2, 3)
        sky[top : top + 9, left : left + 9] += bright * point[..., None] * tint
    return coded(sky)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A way from a scene to a file; the noise-free twin goes without `noise` and `afterwards`.

    Attributes:
        scene: made of a clean picture, or beside it.
        noise: of the sensor.
        develop: what the camera makes of the light.
        afterwards: done to the noisy file alone.
    """

    scene: Callable[[Coded, np.random.Generator], Coded] = as_it_is
    noise: Callable[[Light, np.random.Generator], Light] = as_it_is
    develop: Callable[[Light], Coded] = bayer
    afterwards: Callable[[Coded, np.random.Generator], Coded] = as_it_is

    def pair(self, clean: Picture, rng: np.random.Generator) -> tuple[Picture, Picture]:
        """Take a picture of a picture, noisy and clean."""
        light = self.scene(clean / 255, rng) ** GAMMA
        noisy = self.afterwards(self.develop(self.noise(light, rng)).clip(0, 1), rng)
        return stored(noisy), stored(self.develop(light))


KINDS = {
    "white, sigma 5": Kind(develop=coded, afterwards=white(5)),
    "white, sigma 25": Kind(develop=coded, afterwards=white(25)),
    "Bayer, low ISO": Kind(noise=counted(0.002, 0.002)),
    "Bayer, high ISO": Kind(noise=counted(0.05, 0.05)),
    "X-Trans": Kind(noise=counted(0.01, 0.01), develop=x_trans),
    "monochrome": Kind(scene=grey, noise=without_colours, develop=coded),
    "rows": Kind(noise=in_rows),
    "pushed 4 stops": Kind(noise=pushed),
    "zoomed twice": Kind(noise=counted(0.006, 0.006), develop=zoomed(2)),
    "zoomed 3 times": Kind(noise=counted(0.006, 0.006), develop=zoomed(3)),
    "half as large": Kind(noise=counted(0.04, 0.04), develop=halved),
    "sharpened": Kind(noise=counted(0.004, 0.004), develop=sharpened),
    "JPEG 75": Kind(noise=counted(0.01, 0.01), afterwards=as_jpeg),
    "film grain": Kind(develop=coded, afterwards=grained),
    "print": Kind(scene=print_, noise=counted(0.012, 0.012)),
    "stars": Kind(scene=stars, noise=counted(0.003, 0.004)),
}


def blurred(x: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian blur."""
    return cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def stored(picture: Coded) -> Picture:
    """Round to 8 bits."""
    return (picture * 255).round().clip(0, 255).astype(np.uint8)


def middle(picture: Picture) -> Picture:
    """Cut the middle out."""
    y, x = (max(0, side - SIDE) // 2 for side in picture.shape[:2])
    return picture[y : y + SIDE, x : x + SIDE]


def gains(method: Method, pairs: list[tuple[Picture, Picture]]) -> NDArray[np.float64]:
    """Each picture's gain in dB over the noisy one."""
    return np.array([psnr(method(x), clean) - psnr(x, clean) for x, clean in pairs])


def save(folder: Path, pairs: dict[str, tuple[Picture, Picture]]) -> None:
    """Write pairs as PNG, in folders of their own."""
    for name, pair in pairs.items():
        for side, picture in zip(("noisy", "clean"), pair, strict=True):
            (folder / side).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / side / f"{name}.png")


def main() -> None:
    """Parse, draw, denoise, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clean", type=Path, nargs="+", help="folders of clean pictures")
    parser.add_argument("--every", type=int, default=1, help="take each n-th picture of a folder")
    parser.add_argument("--weights", nargs="+", default=["photo"])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep what was drawn")
    args = parser.parse_args()

    chosen = [path for folder in args.clean for path in find_photos(folder)[:: args.every]]
    pictures = {path.stem: middle(read_photo(path).pixels) for path in chosen}
    if len(pictures) < len(chosen):
        parser.error("two pictures have the same name")
    pictures = {name: p for name, p in pictures.items() if p.shape == (SIDE, SIDE, 3)}
    methods = {name: amsnet(name, None) for name in args.weights}
    print(
        f"amsnet {__version__}, torch {torch.__version__}; {machine()}; {len(pictures)} pictures; "
        f"seed 0. {PROTOCOL}.\n"
    )
    print("| kind | noisy | NLM |", *(f"{name} | least |" for name in methods))
    print("|---|---:|---:|" + "---:|---:|" * len(methods))
    for kind in args.kinds:
        pairs = [
            KINDS[kind].pair(picture, np.random.default_rng(i))
            for i, picture in enumerate(pictures.values())
        ]
        if args.save:
            save(args.save / kind, dict(zip(pictures, pairs, strict=True)))
        noisy = np.mean([psnr(*pair) for pair in pairs])
        best = max(gains(nlm(strength), pairs).mean() for strength in STRENGTHS)
        line = [f"| {kind} | {noisy:.2f} | {noisy + best:.2f} |"]
        for method in methods.values():
            gained = gains(method, pairs)
            line.append(f"{noisy + gained.mean():.2f} | {gained.min():+.2f} |")
        print(*line, flush=True)


if __name__ == "__main__":
    main()

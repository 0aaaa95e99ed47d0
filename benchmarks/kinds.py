"""PSNR on kinds of simulated noise that the four test sets do not contain.

    python -m benchmarks.kinds CLEAN_FOLDER --every 5 --weights photo fine

The centres of clean pictures get noise from cameras that are simulated here, independently of
`training`. Each kind has its own sensor and processing. NLM runs at the strength that is best for
the kind, chosen with the clean pictures. Prints one Markdown table; "least" is the smallest gain of
a picture, in dB over the noisy one. `--save` writes the pictures to FOLDER/KIND/noisy and
FOLDER/KIND/clean, which `benchmarks.fits` accepts as sets.
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
"""Of the pictures, in pixels."""
STRENGTHS = (5, 10, 20)
"""Of NLM."""
GAMMA = 2.2
BLACK, RANGE = 0.2, 1.4
"""Light from -BLACK to RANGE - BLACK is stored in 16 bits for OpenCV's demosaicking."""
X_TRANS = ("GRGGBG", "BGBRGR", "GRGGBG", "GBGGRG", "RGRBGB", "GBGGRG")

Linear = NDArray[np.float64]
"""(H, W, 3) linear light, 1 at saturation."""
Encoded = NDArray[np.float64]
"""(H, W, 3) gamma-encoded, in [0, 1]."""


def shot_and_read_noise(
    shot: float, read: float = 0.0
) -> Callable[[Linear, np.random.Generator], Linear]:
    """Shot and read noise, of variance `shot * light + read**2`."""

    def sensor(light: Linear, rng: np.random.Generator) -> Linear:
        return light + np.sqrt(shot * light + read**2) * rng.standard_normal(light.shape)

    return sensor


def row_noise(light: Linear, rng: np.random.Generator) -> Linear:
    """Shot noise, and an offset for each row."""
    return shot_and_read_noise(0.004)(light, rng) + 0.012 * rng.standard_normal((len(light), 1, 1))


def underexposed(light: Linear, rng: np.random.Generator) -> Linear:
    """Underexposure by four stops, amplified afterwards."""
    return 16 * shot_and_read_noise(0.001, 0.002)(light / 16, rng).clip(0, 1)


def monochrome_noise(light: Linear, rng: np.random.Generator) -> Linear:
    """Shot noise of a monochrome sensor, the same in all channels."""
    return np.repeat(shot_and_read_noise(0.02)(light[..., :1], rng), 3, 2)


def encode(light: Linear) -> Encoded:
    """Encode without a mosaic."""
    return light.clip(0, 1) ** (1 / GAMMA)


def bayer(light: Linear) -> Encoded:
    """Bayer mosaic, demosaicked along edges."""
    mosaic = light[..., 1].copy()
    mosaic[0::2, 0::2], mosaic[1::2, 1::2] = light[0::2, 0::2, 0], light[1::2, 1::2, 2]
    whole = ((mosaic + BLACK) / RANGE * 65535).clip(0, 65535).astype(np.uint16)
    return encode(cv2.cvtColor(whole, cv2.COLOR_BayerRGGB2RGB_EA) / 65535 * RANGE - BLACK)


def x_trans(light: Linear) -> Encoded:
    """Fuji's mosaic of 6 x 6; each colour is interpolated with a Gaussian."""
    pattern = np.array([list(row) for row in X_TRANS])
    height, width = light.shape[:2]
    mosaic = np.tile(pattern, (height // 6 + 1, width // 6 + 1))[:height, :width]
    planes = []
    for plane, colour in zip(np.moveaxis(light, 2, 0), "RGB", strict=True):
        measured = (mosaic == colour).astype(np.float64)
        sigma = 0.8 if colour == "G" else 1.1
        planes.append(blurred(plane * measured, sigma) / blurred(measured, sigma))
    return encode(np.stack(planes, 2))


def digital_zoom(times: int) -> Callable[[Linear], Encoded]:
    """The upper left part, enlarged to the full size."""

    def develop(light: Linear) -> Encoded:
        height, width = light.shape[:2]
        part = bayer(light)[: height // times, : width // times]
        return cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC)

    return develop


def halved(light: Linear) -> Encoded:
    """Downscaled to half the size."""
    return cv2.resize(bayer(light), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def sharpened(light: Linear) -> Encoded:
    """A strong unsharp mask, as in a camera's "vivid" setting."""
    picture = bayer(light)
    return picture + 1.5 * (picture - blurred(picture, 1.0))


def as_jpeg(picture: Encoded, rng: np.random.Generator) -> Encoded:
    """JPEG at quality 75, 4:2:0."""
    file = io.BytesIO()
    Image.fromarray(to_8_bits(picture)).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file)) / 255


def film_grain(picture: Encoded, rng: np.random.Generator) -> Encoded:
    """Film grain: without colour, correlated, strongest in mid-tones."""
    grain = blurred(rng.standard_normal(picture.shape[:2]), 0.8)[..., None]
    return picture + 14 / 255 * grain / grain.std() * (0.4 + 1.2 * np.sqrt(picture * (1 - picture)))


def white(sigma: float) -> Callable[[Encoded, np.random.Generator], Encoded]:
    """White Gaussian noise; `sigma` on a scale of 255."""
    return lambda picture, rng: picture + sigma / 255 * rng.standard_normal(picture.shape)


def unchanged(x: Linear | Encoded, rng: np.random.Generator) -> Linear | Encoded:
    """Change nothing."""
    return x


def greyscale(picture: Encoded, rng: np.random.Generator) -> Encoded:
    """Remove the colours."""
    return np.repeat(picture.mean(2, keepdims=True), 3, 2)


def small_print(picture: Encoded, rng: np.random.Generator) -> Encoded:
    """Draw a page of small print, lit from one side."""
    page = Image.new("L", (SIDE, SIDE))
    letters = rng.choice(list("abcdefghijklmnopqrstuvwxyz    "), (SIDE // 20, 80))
    text = "\n".join("".join(line) for line in letters)
    font = ImageFont.load_default(14)
    ImageDraw.Draw(page).multiline_text((8, 4), text, fill=255, font=font, spacing=4)
    ink = blurred(np.asarray(page) / 255, 0.8)[..., None]
    return (np.array((0.88, 0.86, 0.82)) * (1 - 0.82 * ink)) * np.linspace(0.6, 1, SIDE)[:, None]


def stars(picture: Encoded, rng: np.random.Generator) -> Encoded:
    """Draw a night sky: 400 points, each about as wide as a pixel."""
    sky = np.full((SIDE, SIDE, 3), 0.01)
    y, x = np.mgrid[-4:5, -4:5]
    for _ in range(400):
        top, left = rng.integers(0, SIDE - 9, 2)
        (dy, dx), width, bright = rng.random(2), rng.uniform(0.7, 1.2), 10 ** rng.uniform(-1.7, 0)
        point = np.exp(-((y - dy) ** 2 + (x - dx) ** 2) / (2 * width**2))
        tint = rng.uniform(0.8, 1.2, 3)
        sky[top : top + 9, left : left + 9] += bright * point[..., None] * tint
    return encode(sky)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A simulated camera. The clean version is made without `noise` and `afterwards`.

    Attributes:
        scene: changes or replaces the clean picture.
        noise: adds the noise of the sensor to linear light.
        develop: turns linear light into an encoded picture.
        afterwards: changes the developed noisy picture.
    """

    scene: Callable[[Encoded, np.random.Generator], Encoded] = unchanged
    noise: Callable[[Linear, np.random.Generator], Linear] = unchanged
    develop: Callable[[Linear], Encoded] = bayer
    afterwards: Callable[[Encoded, np.random.Generator], Encoded] = unchanged

    def pair(self, clean: Picture, rng: np.random.Generator) -> tuple[Picture, Picture]:
        """Return the noisy and the clean version of a picture, in 8 bits."""
        light = self.scene(clean / 255, rng) ** GAMMA
        noisy = self.afterwards(self.develop(self.noise(light, rng)).clip(0, 1), rng)
        return to_8_bits(noisy), to_8_bits(self.develop(light))


KINDS = {
    "white, sigma 5": Kind(develop=encode, afterwards=white(5)),
    "white, sigma 25": Kind(develop=encode, afterwards=white(25)),
    "Bayer, low ISO": Kind(noise=shot_and_read_noise(0.002, 0.002)),
    "Bayer, high ISO": Kind(noise=shot_and_read_noise(0.05, 0.05)),
    "X-Trans": Kind(noise=shot_and_read_noise(0.01, 0.01), develop=x_trans),
    "monochrome": Kind(scene=greyscale, noise=monochrome_noise, develop=encode),
    "rows": Kind(noise=row_noise),
    "pushed 4 stops": Kind(noise=underexposed),
    "zoomed twice": Kind(noise=shot_and_read_noise(0.006, 0.006), develop=digital_zoom(2)),
    "zoomed 3 times": Kind(noise=shot_and_read_noise(0.006, 0.006), develop=digital_zoom(3)),
    "half as large": Kind(noise=shot_and_read_noise(0.04, 0.04), develop=halved),
    "sharpened": Kind(noise=shot_and_read_noise(0.004, 0.004), develop=sharpened),
    "JPEG 75": Kind(noise=shot_and_read_noise(0.01, 0.01), afterwards=as_jpeg),
    "film grain": Kind(develop=encode, afterwards=film_grain),
    "print": Kind(scene=small_print, noise=shot_and_read_noise(0.012, 0.012)),
    "stars": Kind(scene=stars, noise=shot_and_read_noise(0.003, 0.004)),
}


def blurred(x: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Gaussian blur."""
    return cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def to_8_bits(picture: Encoded) -> Picture:
    """Round to 8 bits."""
    return (picture * 255).round().clip(0, 255).astype(np.uint8)


def middle(picture: Picture) -> Picture:
    """Crop to the central `SIDE` x `SIDE` pixels."""
    y, x = (max(0, side - SIDE) // 2 for side in picture.shape[:2])
    return picture[y : y + SIDE, x : x + SIDE]


def gains(method: Method, pairs: list[tuple[Picture, Picture]]) -> NDArray[np.float64]:
    """Each picture's gain in dB over the noisy one."""
    return np.array([psnr(method(x), clean) - psnr(x, clean) for x, clean in pairs])


def save(folder: Path, pairs: dict[str, tuple[Picture, Picture]]) -> None:
    """Write pairs as PNG files in the folders `noisy` and `clean`."""
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
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the simulated pictures")
    args = parser.parse_args()

    paths = [path for folder in args.clean for path in find_photos(folder)[:: args.every]]
    pictures = {path.stem: middle(read_photo(path).pixels) for path in paths}
    if len(pictures) < len(paths):
        parser.error("two pictures have the same name")
    pictures = {name: p for name, p in pictures.items() if p.shape == (SIDE, SIDE, 3)}
    methods = {name: amsnet(name) for name in args.weights}
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

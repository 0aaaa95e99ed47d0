"""What users get, frozen: results of `denoise`, models of `fit`, and all that is printed as JSON.

Everything goes through the command line, so these tests hold whatever becomes of the package
behind it. What they expect lies in `tests/snapshots/`. A change that is meant is taken over by

    python -m pytest tests/test_snapshots.py --update-snapshots

and `git diff tests/snapshots` then shows what has changed for users.

Where `machine` gives what `machine.json` says, results are equal byte by byte and printed numbers
digit by digit. Elsewhere, processors and libraries round differently: the PSNR against the clean
picture agrees within `PSNR_TOLERANCE`, numbers within `NUMBER_TOLERANCE` or `LEVEL_TOLERANCE`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import pyvips
import skimage.data
import tifffile
import torch
from safetensors.numpy import load_file

SNAPSHOTS = Path(__file__).parent / "snapshots"
PSNR_TOLERANCE = 0.02
"""Float32 in place of bfloat16 moves the cases by at most .017 dB, but for the clean picture."""
NUMBER_TOLERANCE = 0.02
"""Of losses, gains, SSIM and the like: absolute, or a share of the number."""
LEVEL_TOLERANCE = 0.15
"""Of noise levels, on a scale of 255; float32 in place of bfloat16 moves them by up to .08."""


def machine() -> dict[str, object]:
    """What rounding depends on: the processor's abilities, and the libraries that compute."""
    abilities = torch.cpu.get_capabilities()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": abilities["cpu_name"],
        "abilities": sorted(
            name for name, there in abilities.items()
            if there is True and name.startswith(("avx", "amx", "fma"))
        ),
        "caches": [abilities["l1d_cache_size"], abilities["l2_cache_size"]],
        "torch_kernels": torch.backends.cpu.get_cpu_capability(),
        "onednn_limit": os.environ.get("ONEDNN_MAX_CPU_ISA"),
        "libvips": [pyvips.version(i) for i in range(3)],
        **{name: version(name) for name in ("torch", "numpy", "pillow", "rawpy")},
    }  # fmt: skip


class Snapshots:
    """The files of what is expected, or with `--update-snapshots` the pen that writes them."""

    def __init__(self, *, update: bool) -> None:
        self.update = update
        here = machine()
        if update:
            if self._read("machine") != here:
                for old in SNAPSHOTS.glob("*.json"):
                    old.unlink()
            self._write("machine", here)
        self.exact = self._read("machine") == here

    def expected(self, file: str, now: object, *, key: str | None = None) -> object:
        """Read what is expected of a file, or of one `key` in it; when updating, take `now`."""
        stored = self._read(file)
        if self.update:
            self._write(file, now if key is None else {**(stored or {}), key: now})
            return now
        expected = stored if key is None or stored is None else stored.get(key)
        assert expected is not None, f"no snapshot {file} {key or ''}: see --update-snapshots"
        return expected

    def check(self, file: str, now: object, *, key: str | None = None) -> None:
        """Compare what was printed: digit by digit on the same machine, else nearly."""
        expected = self.expected(file, now, key=key)
        assert now == (expected if self.exact else nearly(expected))

    @staticmethod
    def _read(file: str):
        path = SNAPSHOTS / f"{file}.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    @staticmethod
    def _write(file: str, content: object) -> None:
        if isinstance(content, dict):
            content = dict(sorted(content.items()))
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        (SNAPSHOTS / f"{file}.json").write_text(text, "utf-8")


def nearly(expected: object, key: str = "") -> object:
    """Let all floats in lists and dictionaries be equal to those nearby."""
    if isinstance(expected, float):
        nearby = LEVEL_TOLERANCE if key in ("noise_before", "noise_after") else NUMBER_TOLERANCE
        return pytest.approx(expected, rel=NUMBER_TOLERANCE, abs=nearby)
    if isinstance(expected, list):
        return [nearly(x) for x in expected]
    if isinstance(expected, dict):
        return {k: nearly(x, k) for k, x in expected.items()}
    return expected


@pytest.fixture(autouse=True)
def one_thread():
    """The number of threads decides in which order sums are taken, and so how they are rounded."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def snapshots(request: pytest.FixtureRequest) -> Snapshots:
    return Snapshots(update=request.config.getoption("--update-snapshots"))


# Pictures


def astronaut() -> np.ndarray:
    return skimage.data.astronaut()[40:168, 160:288] / 255


def coffee() -> np.ndarray:
    return skimage.data.coffee()[120:248, 200:344] / 255


def chelsea() -> np.ndarray:
    return skimage.data.chelsea()[60:188, 120:264] / 255


def rocket() -> np.ndarray:
    return skimage.data.rocket()[90:218, 250:378] / 255


def cameraman() -> np.ndarray:
    return skimage.data.camera()[60:204, 180:308, None] / 255


def graphics() -> np.ndarray:
    """Lines, letters of straight strokes and a chart, on white."""
    picture = np.ones((112, 144, 3))
    for row in range(8, 72, 12):
        for column in range(8, 136, 8):
            strokes = (row * 7 + column * 5) % 16
            picture[row : row + 8, column] = 0.1
            for bit, line in enumerate((0, 3, 7)):
                if strokes >> bit & 1:
                    picture[row + line, column : column + 5] = 0.1
    for i, colour in enumerate([(0.8, 0.1, 0.1), (0.1, 0.6, 0.2), (0.1, 0.2, 0.7)]):
        picture[80 + 8 * i : 106, 10 + 30 * i : 32 + 30 * i] = colour
    picture[108, 4:140] = 0
    return picture


def noise(clean: np.ndarray, strength: float, *, shared: bool = True, seed: int = 0) -> np.ndarray:
    """Add noise that grows with the light; `shared` by neighbours as after demosaicking.

    Args:
        clean: (H, W, C) in [0, 1].
        strength: standard deviation at half the light, on a scale of 255.
        shared: or white.
        seed: of the noise.
    """
    drawn = np.random.default_rng(seed).normal(size=clean.shape)
    if shared:
        for axis in (0, 1):
            drawn = np.roll(drawn, 1, axis) + 2 * drawn + np.roll(drawn, -1, axis)
        drawn /= 6  # sqrt(1 + 4 + 1) for each axis
        return clean + drawn * strength / 255 * np.sqrt(0.2 + 1.6 * clean)
    return clean + drawn * strength / 255


def write(path: Path, picture: np.ndarray, dtype: type = np.uint8, **options: object) -> None:
    """Write (H, W, C) in [0, 1] in the format that the suffix names."""
    if dtype is np.float32:
        pixels = picture.astype(dtype)
    else:
        pixels = (picture.clip(0, 1) * np.iinfo(dtype).max).round().astype(dtype)
    meaning = {1: "b-w", 2: "b-w", 3: "srgb", 4: "srgb"}
    if dtype is np.uint16:
        meaning = {1: "grey16", 3: "rgb16"}
    image = pyvips.Image.new_from_array(pixels)
    if dtype is not np.float32:
        image = image.copy(interpretation=meaning[pixels.shape[2]])
    image.write_to_file(str(path), **options)


def read(path: Path) -> np.ndarray:
    """Read a picture as it is stored, (H, W, C)."""
    pixels = pyvips.Image.new_from_file(str(path)).numpy()
    return pixels if pixels.ndim == 3 else pixels[..., None]


def light_of(picture: np.ndarray) -> np.ndarray:
    """Decode sRGB to linear light (IEC 61966-2-1)."""
    return np.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)


TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""From linear sRGB to linear BT.2020, in which `--develop linear` develops (BT.2087)."""


def write_dng(path: Path, picture: np.ndarray) -> None:
    """Expose sRGB on an RGGB sensor that sees as sRGB does, but for white balance (DNG 1.4)."""
    black, white, neutral = 512, 15000, np.array([0.5, 1.0, 0.625])
    to_srgb = np.array(
        [[3.2405, -1.5371, -0.4985], [-0.9693, 1.8760, 0.0416], [0.0556, -0.2040, 1.0572]]
    )
    exposed = light_of(picture) * neutral
    mosaic = exposed[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = exposed[::2, ::2, 0], exposed[1::2, 1::2, 2]
    rng = np.random.default_rng(0)
    mosaic += rng.normal(size=mosaic.shape) * np.sqrt(1e-5 + 1e-3 * mosaic)
    stored = (black + mosaic * (white - black)).round().clip(0, white).astype(np.uint16)

    def rationals(values: np.ndarray) -> tuple[int, ...]:
        return tuple(n for v in np.ravel(values) for n in (round(float(v) * 10000), 10000))

    tifffile.imwrite(
        path, stored, photometric=32803, metadata=None, software=False,
        extratags=[
            (271, 2, 0, "Test", True), (272, 2, 0, "Test One", True),
            (33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True),
            (50706, 1, 4, b"\1\4\0\0", True), (50708, 2, 0, "Test One", True),
            (50714, 3, 1, black, True), (50717, 3, 1, white, True),
            (50721, 10, 9, rationals(neutral[:, None] * to_srgb), True),
            (50728, 5, 3, rationals(neutral), True), (50778, 3, 1, 21, True),
            (51041, 12, 2, (1e-3, 1e-5), True),
        ],
    )  # fmt: skip


def write_turned(path: Path, picture: np.ndarray) -> None:
    """Write a JPEG that EXIF says to turn by 90 degrees."""
    write(path, picture, Q=92)
    content = path.read_bytes()
    exif = b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 274, 3, 1, 6, 0)
    path.write_bytes(content[:2] + struct.pack(">HH", 0xFFE1, len(exif) + 2) + exif + content[2:])


# Results of `denoise`


@dataclass(frozen=True, kw_only=True)
class Case:
    """A noisy picture, how it is denoised, and the clean picture of the result.

    Attributes:
        make: writes the noisy picture.
        clean: (H, W, C) in [0, 1].
        source: the noisy picture's suffix.
        result: that of the result.
        args: beside the two.
        tolerance: of the PSNR on other machines, in dB.
    """

    make: Callable[[Path], None]
    clean: Callable[[], np.ndarray]
    source: str = ".png"
    result: str = ".png"
    args: str = ""
    tolerance: float = PSNR_TOLERANCE


def strong(path: Path) -> None:
    write(path, noise(astronaut(), 20))


def white(path: Path) -> None:
    write(path, noise(rocket(), 25, shared=False))


def transparent(path: Path) -> None:
    alpha = np.tile(np.linspace(0, 1, 144), (128, 1))[..., None]
    write(path, np.concatenate([noise(chelsea(), 12), alpha], 2))


def raw(path: Path) -> None:
    write_dng(path, coffee())


CASES = {
    "strong": Case(make=strong, clean=astronaut),
    "strong, strength 1": Case(make=strong, clean=astronaut, args="--strength 1"),
    "strong, strength 0.5": Case(make=strong, clean=astronaut, args="--strength 0.5"),
    "strong, luma, chroma, detail": Case(
        make=strong, clean=astronaut, args="--luma 0.6 --chroma 1 --detail 0.5"
    ),
    "strong, crop": Case(
        make=strong, clean=lambda: astronaut()[16:88, 8:104], args="--crop 8,16,96,72"
    ),
    "strong, tiles": Case(make=strong, clean=astronaut, args="--tile 64"),
    "strong, masks": Case(make=strong, clean=astronaut, args="--masks 4 --pd-stride 2 --repeats 1"),
    "strong, masks in tiles, seed": Case(
        make=strong, clean=astronaut, args="--masks 2 --repeats 1 --tile 80 --seed 7"
    ),
    "strong, refined": Case(
        make=strong, clean=astronaut, args="--masks 2 --repeats 1 --refine 0.16"
    ),
    "strong, fine": Case(make=strong, clean=astronaut, args="-w fine"),
    "strong, sidd": Case(make=strong, clean=astronaut, args="-w sidd"),
    "strong, ensemble": Case(make=strong, clean=astronaut, args="--ensemble 8"),
    "strong, 16 bits from 8": Case(make=strong, clean=astronaut, args="--depth 16"),
    "weak": Case(make=lambda p: write(p, noise(chelsea(), 4)), clean=chelsea),
    "weak, fine, strength 1": Case(
        make=lambda p: write(p, noise(chelsea(), 4)), clean=chelsea, args="-w fine --strength 1"
    ),
    "white noise": Case(make=white, clean=rocket),
    "white noise, fine": Case(make=white, clean=rocket, args="-w fine"),
    "white noise, told": Case(make=white, clean=rocket, args="--noise 12"),
    "JPEG": Case(
        make=lambda p: write(p, noise(coffee(), 10), Q=90),
        clean=coffee, source=".jpg", result=".jpg",
    ),
    "JPEG, turned, crop": Case(
        make=lambda p: write_turned(p, noise(coffee(), 10)),
        clean=lambda: coffee()[16:96, 24:108], source=".jpg", args="--crop 32,24,80,84",
    ),
    "grey": Case(make=lambda p: write(p, noise(cameraman(), 15)), clean=cameraman),
    "grey, white noise, sidd": Case(
        make=lambda p: write(p, noise(cameraman(), 15, shared=False)),
        clean=cameraman, args="-w sidd",
    ),
    "graphics": Case(make=lambda p: write(p, noise(graphics(), 12)), clean=graphics),
    "graphics, strength 1": Case(
        make=lambda p: write(p, noise(graphics(), 12)), clean=graphics, args="--strength 1"
    ),
    "graphics, clean": Case(make=lambda p: write(p, graphics()), clean=graphics),
    "clean": Case(make=lambda p: write(p, rocket()), clean=rocket, tolerance=0.04),
    "transparent": Case(make=transparent, clean=chelsea),
    "16-bit PNG": Case(make=lambda p: write(p, noise(coffee(), 12), np.uint16), clean=coffee),
    "16-bit TIFF, sidd": Case(
        make=lambda p: write(p, noise(rocket(), 14), np.uint16),
        clean=rocket, source=".tif", result=".tif", args="-w sidd",
    ),
    "float TIFF": Case(
        make=lambda p: write(p, 2 * noise(chelsea(), 12), np.float32),
        clean=lambda: 2 * chelsea(), source=".tif", result=".tif",
    ),
    "RAW": Case(make=raw, clean=coffee, source=".dng", result=".tif"),
    "RAW, developed": Case(
        make=raw, clean=coffee, source=".dng", result=".tif", args="--raw developed"
    ),
    "RAW, linear, fine": Case(
        make=raw, clean=lambda: light_of(coffee()) @ TO_BT2020.T,
        source=".dng", result=".tif", args="--raw developed --develop linear -w fine",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_results_of_denoise(name, amsnet, snapshots, tmp_path):
    case = CASES[name]
    noisy, denoised = tmp_path / f"noisy{case.source}", tmp_path / f"denoised{case.result}"
    case.make(noisy)
    done = amsnet("denoise", noisy, "-o", denoised, *case.args.split())
    assert done.exit_code == 0, done.stderr
    pixels = read(denoised)
    now = {
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "psnr": round(psnr(pixels, case.clean()), 4),
        "sha256": hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(),
    }
    expected = snapshots.expected("denoised", now, key=name)
    if not snapshots.exact:
        assert now["psnr"] == pytest.approx(expected["psnr"], abs=case.tolerance)
        del now["psnr"], now["sha256"]
        expected = {key: expected[key] for key in now}
    assert now == expected


def psnr(pixels: np.ndarray, clean: np.ndarray) -> float:
    """PSNR of stored pixels against (H, W, C) in units of the largest; transparency aside.

    A picture that is to be turned is read as it is shown.
    """
    scale = 1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
    error = pixels[..., : clean.shape[2]] / scale - clean
    return -10 * math.log10(np.square(error).mean())


# What is printed as JSON


def events(stdout: str, *folders: tuple[str, Path]) -> list[object]:
    """Read lines of JSON, without what depends on time and place."""
    return [normalised(json.loads(line), folders) for line in stdout.splitlines()]


TIMES = ("seconds", "seconds_left", "steps_per_second", "date")


def normalised(value: object, folders: tuple[tuple[str, Path], ...], key: str = "") -> object:
    """Put names in place of folders, digests, times and the program's version."""
    if isinstance(value, dict):
        return {k: normalised(v, folders, k) for k, v in value.items()}
    if isinstance(value, list):
        return [normalised(v, folders) for v in value]
    if key in TIMES and value is not None:
        return f"<{key}>"
    if key == "version":
        return "<version>"
    if isinstance(value, str):
        for name, folder in folders:
            value = value.replace(str(folder), name)
        return re.sub(r"\b[0-9a-f]{40,64}\b", "<digest>", value.replace("\\", "/"))
    return value


@pytest.fixture
def folder(tmp_path) -> Path:
    """Photos, and one that is none."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    write(folder / "a.png", noise(astronaut(), 20))
    write(folder / "b.jpg", noise(coffee(), 10), Q=90)
    write(folder / "c.png", noise(cameraman(), 25, shared=False))
    write_dng(folder / "deep" / "d.dng", chelsea())
    (folder / "e.png").write_text("not a picture")
    return folder


class TestJson:
    def test_denoise(self, amsnet, snapshots, folder, tmp_path):
        places = ("<folder>", folder), ("<out>", tmp_path / "out"), ("<tmp>", tmp_path)
        out = "-o", tmp_path / "out", "--json"
        runs = {
            "planned": (folder, "-r", *out, "--dry-run"),
            "one": (folder / "a.png", *out, "-w", "fine", "--strength", "1"),
            "the others": (folder, "-r", *out, "--skip-existing"),
            "planned again": (folder, "-r", *out, "--dry-run", "--skip-existing"),
            "all done": (folder / "a.png", folder / "c.png", *out, "--skip-existing"),
            "crop, by camera": (folder / "b.jpg", *out, "-f", "--crop", "8,8,64,64", "-w", "auto"),
            "fails": (folder / "e.png", *out),
            "stops": (folder / "e.png", folder / "c.png", *out, "-f", "--fail-fast", "--jobs", "0"),
        }
        now = {}
        for name, args in runs.items():
            done = amsnet("denoise", *args)
            now[name] = {"exit_code": done.exit_code, "printed": events(done.stdout, *places)}
        snapshots.check("json_denoise", now)

    def test_evaluate(self, amsnet, snapshots, tmp_path):
        for kind in ("noisy", "clean"):
            (tmp_path / kind).mkdir()
        for name, clean in (("a", astronaut()), ("b", rocket())):
            write(tmp_path / "clean" / f"{name}.png", clean)
            write(tmp_path / "noisy" / f"{name}.png", noise(clean, 12))
        runs = {
            "two folders": (tmp_path / "noisy", tmp_path / "clean"),
            "one folder": (tmp_path, "-w", "fine", "--every", "2", "--masks", "2", "--repeats", "1",
                           "--strength", "1", "--seed", "3"),
        }  # fmt: skip
        now = {}
        for name, args in runs.items():
            done = amsnet("evaluate", *args, "--json")
            assert done.exit_code == 0, done.stderr
            (now[name],) = events(done.stdout, ("<tmp>", tmp_path))
        snapshots.check("json_evaluate", now)

    def test_weights(self, amsnet, snapshots, home, tmp_path):
        photos = tmp_path / "my camera"
        photos.mkdir()
        write(photos / "a.png", noise(astronaut(), 20))
        fitted = amsnet("fit", photos, "--from-scratch", "--steps", "1", "--batch", "1")
        assert fitted.exit_code == 0, fitted.stderr
        bundled = Path(amsnet("weights", "path", "photo").stdout.strip()).parent
        places = ("<home>", home), ("<bundled>", bundled)
        now = {"list": events(amsnet("weights", "list", "--json").stdout, *places)[0]}
        for name in ("photo", "fine", "sidd", "sidd-b", "my camera"):
            done = amsnet("weights", "show", name, "--json")
            printed = events(done.stdout, *places)
            for model in printed:  # what a model is and scores is the manifest's to say
                if model.get("published"):
                    model["published"] = sorted(model["published"])
            now[f"show {name}"] = {"exit_code": done.exit_code, "printed": printed}
        now["verify"] = amsnet("weights", "verify").stdout.splitlines()
        snapshots.check("json_weights", now)

    def test_compare(self, amsnet, snapshots, tmp_path):
        """There is no JSON, but a page: its text and how many pictures it shows."""
        write(tmp_path / "a.png", noise(astronaut(), 20))
        write(tmp_path / "b.png", astronaut())
        page = tmp_path / "page.html"
        done = amsnet("compare", tmp_path / "a.png", tmp_path / "b.png", "-o", page)
        html = page.read_text("utf-8")
        body = html[html.index("<body>") : html.index("<script>")]
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "\n", body.replace("\n", " ")))
        now = {
            "exit_code": done.exit_code,
            "stdout": done.stdout.splitlines(),
            "stderr": done.stderr.splitlines(),
            "pictures": body.count('src="data:image/'),
            "text": re.sub(r"amsnet [\d.]+\w*", "amsnet <version>", text).strip(),
        }
        snapshots.check("compare", normalised(now, (("<tmp>", tmp_path),)))


# Models of `fit`


FITS = {
    "adapt": "--steps 20 --seed 0 --patch-size 16",
    "adapt in float32": "--steps 2 --seed 0 --patch-size 16 --precision float32 -w sidd --batch 2",
    "masked from scratch": "--preset masked --from-scratch --steps 20 --seed 0 --patch-size 20",
    "masked from a model": "--preset masked -w photo --steps 3 --batch 2 --patch-size 16"
    " --pd-stride 1",
    "smoothed": "-w sidd --smooth --steps 3 --seed 1 --batch 1 --patch-size 20",
    "paper": "--preset paper --network dncnn --steps 3 --seed 0 --batch 2 --patch-size 20",
}


LONG = ("adapt", "adapt in float32", "masked from scratch")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in FITS]
)
def test_models_of_fit(name, amsnet, snapshots, tmp_path):
    photos, model = tmp_path / "photos", tmp_path / "model.safetensors"
    photos.mkdir()
    for i, clean in enumerate((astronaut(), coffee(), chelsea())):
        write(photos / f"{i}.png", noise(clean, 30 + 5 * i, seed=i))
    (photos / "none.png").write_text("not a picture")
    done = amsnet("fit", photos, "-o", model, "--json", *FITS[name].split())
    assert done.exit_code == 0, done.stderr
    printed = events(done.stdout, ("<tmp>", tmp_path))
    digest = digest_of(model) if model.exists() else "no model"
    snapshots.check(f"json_fit_{name.replace(' ', '_')}", printed)
    expected = snapshots.expected("fitted", digest, key=name)
    if snapshots.exact:
        assert digest == expected


def test_a_fit_to_clean_photos(amsnet, snapshots, tmp_path):
    (tmp_path / "photos").mkdir()
    write(tmp_path / "photos" / "0.png", rocket())
    done = amsnet("fit", tmp_path / "photos", "-o", tmp_path / "m.safetensors", "--json")
    now = {"exit_code": done.exit_code, "printed": events(done.stdout, ("<tmp>", tmp_path))}
    snapshots.check("json_fit_clean", now)


def digest_of(model: Path) -> str:
    """Hash a model file's tensors, whatever its header says."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(model).items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()

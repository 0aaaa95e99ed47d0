"""Checks on real photos that do not ship with the project; `pytest -m realdata` runs them.

They look for the sets in the folder that AMSNET_TEST_DATA names, or beside the checkout, and skip
where it is not there. On two cores they take a quarter of an hour.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import numpy as np
import pytest

from amsnet_cli.photos.photo import Photo, with_depth
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo
from tests.conftest import SHARED

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real photos at {SHARED}"),
]


def test_five_minutes_from_scratch_on_phone_noise(amsnet, tmp_path):
    data = SHARED / "sidd_val32"
    model = tmp_path / "m.safetensors"
    fitted = amsnet("fit", data / "noisy", "--from-scratch", "--minutes", "5", "-o", model)
    assert fitted.exit_code == 0, fitted.stderr
    scored = amsnet("evaluate", data / "noisy", data / "clean", "-w", model, "--json")
    scores = json.loads(scored.stdout)
    print(fitted.stderr, scores["mean"])
    assert scores["mean"]["noisy_psnr"] < 22.9
    assert scores["mean"]["psnr"] > 34


@pytest.mark.parametrize("name", ["colorchart.dng", "canon_eos_6d.dng", "RAW_KODAK_DC50.KDC"])
def test_raw_becomes_16_bit_tiff(amsnet, tmp_path, name):
    source, target = SHARED / "raw" / name, tmp_path / "x.tif"
    result = amsnet("denoise", source, "-o", target)
    assert result.exit_code == 0, result.stderr
    before, after = with_depth(read_photo(source), 16), read_photo(target)
    assert after.pixels.dtype == np.uint16 and after.pixels.shape == before.pixels.shape
    assert after.icc == before.icc and after.exif
    drift = after.pixels.mean((0, 1)) - before.pixels.mean((0, 1))
    assert np.abs(drift).max() < 0.01 * 65535, "colours stay"


def test_24_megapixels_in_less_than_4_gb(tmp_path):
    shot = read_photo(SHARED / "clean" / "free_photos" / "plasma_Path.jpg").pixels
    repeat = (-(-4000 // shot.shape[0]), -(-6000 // shot.shape[1]), 1)
    clean = np.tile(shot, repeat)[:4000, :6000]
    noise = np.random.default_rng(0).normal(0, 10, clean.shape).astype(np.float32)
    noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
    write_photo(Photo(pixels=noisy), tmp_path / "big.jpg")
    command = [sys.executable, "-m", "amsnet_cli", "denoise", "big.jpg", "-o", "clean.jpg"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(done.stderr, f"peak {peak / 1e9:.2f} GB")
    assert peak < 4e9


@pytest.mark.parametrize("name", ["sidd10", "sidd_val32", "renoir30", "polyu100"])
def test_the_default_beats_noisy_on_every_set(amsnet, name):
    data = SHARED / name
    result = amsnet("evaluate", data / "noisy", data / "clean", "--json")
    scores = json.loads(result.stdout)
    print(name, scores["mean"], "worse:", scores["worse"])
    assert scores["mean"]["psnr"] > scores["mean"]["noisy_psnr"] + 1

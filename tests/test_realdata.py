"""Checks on real photos that do not ship with the project; `pytest -m realdata` runs them.

They look for the sets in the folder that AMSNET_TEST_DATA names, or beside the checkout, and skip
where it is not there. On two cores they take a quarter of an hour.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from amsnet_cli import find_weights, load_model
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import with_depth
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
    assert scores["mean"]["psnr"] > 39.5


@pytest.mark.parametrize(("name", "every"), [("sidd10", 1), ("renoir30", 3), ("polyu100", 10)])
def test_a_fit_gains_on_the_photos_it_is_for(amsnet, tmp_path, name, every):
    """Ten pictures, no clean ones: plainly better than the default, and none below noisy."""
    for kind in ("noisy", "clean"):
        (tmp_path / kind).mkdir()
        for path in sorted((SHARED / name / kind).iterdir())[::every]:
            (tmp_path / kind / path.name).symlink_to(path)
    model = tmp_path / "m.safetensors"
    fitted = amsnet("fit", tmp_path / "noisy", "-o", model)
    assert fitted.exit_code == 0, fitted.stderr
    scores = []
    for weights in ("photo", model):
        call = ("evaluate", tmp_path / "noisy", tmp_path / "clean", "-w", weights, "--json")
        scores.append(json.loads(amsnet(*call).stdout))
    before, after = (score["mean"]["psnr"] for score in scores)
    print(name, fitted.stderr, f"{before:.2f} -> {after:.2f} dB, worse: {scores[1]['worse']}")
    assert after > before + 0.05
    assert scores[1]["worse_than_noisy"] == 0


def test_a_killed_fit_resumes_to_the_same_bytes(amsnet, tmp_path):
    folder = tmp_path / "noisy"
    folder.mkdir()
    for path in sorted((SHARED / "sidd10" / "noisy").iterdir())[:2]:
        (folder / path.name).symlink_to(path)
    call = ("fit", folder, "--steps", 150, "--batch", 8, "--lr", 1e-3)
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    assert amsnet(*call, "-o", whole).exit_code == 0
    rng, kills, tries = np.random.default_rng(0), 0, 0
    state = parts.with_name(parts.name + ".resume")
    while not parts.exists() and (tries := tries + 1) < 30:
        go_on = ["--resume"] if state.exists() else ["--force"]
        command = [sys.executable, "-m", "amsnet_cli", *map(str, call), "-o", str(parts), *go_on]
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            run.wait(rng.uniform(22, 40))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
            kills += 1
    print(f"killed {kills} times")
    assert kills
    assert parts.read_bytes() == whole.read_bytes()
    assert not state.exists()


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


@pytest.mark.parametrize(
    ("size", "limit", "bound"),
    [
        pytest.param((4000, 6000), None, 1.1e9, id="24 megapixels"),
        pytest.param((4000, 6000), "900M", 0.9e9, id="24 megapixels limited"),
        pytest.param((8660, 11547), None, 1.9e9, id="100 megapixels"),
        pytest.param((8660, 11547), "1.8G", 1.8e9, id="100 megapixels limited"),
    ],
)
def test_memory_is_bounded(peak_memory, tmp_path, size, limit, bound):
    shot = read_photo(SHARED / "clean" / "free_photos" / "plasma_Path.jpg").pixels
    repeat = (*(-(-length // side) for length, side in zip(size, shot.shape, strict=False)), 1)
    noisy = np.tile(shot, repeat)[: size[0], : size[1]]
    rng = np.random.default_rng(0)
    for rows in np.array_split(noisy, 20):
        noise = rng.normal(0, 10, rows.shape).astype(np.float32)
        rows[:] = (rows + noise).round().clip(0, 255)
    write_photo(Photo(pixels=noisy), tmp_path / "big.jpg")
    limits = ["--max-memory", limit] if limit else []
    peak = peak_memory("denoise", "big.jpg", "-o", "clean.jpg", *limits)
    print(f"peak {peak / 1e9:.2f} GB")
    assert peak < bound


def test_tiles_hardly_show():
    """Values that tiles of 264 pixels change, and that they change by more than 1 of 255."""
    model, apart = load_model(find_weights(None)), []
    for name in ("sidd10", "renoir30", "polyu100"):
        for path in sorted((SHARED / name / "noisy").iterdir())[1:8:3]:
            crop = Photo(pixels=read_photo(path).pixels[:512, :512])
            whole, tiled = (
                denoise(crop, model, DenoiseOptions(tile=tile)).photo.pixels.astype(int)
                for tile in (2000, 264)
            )
            apart.append(np.abs(whole - tiled).ravel())
    difference = np.concatenate(apart)
    print(f"{(difference > 0).mean():.2%} of the values, {(difference > 1).mean():.3%}")
    assert (difference > 0).mean() < 0.015
    assert (difference > 1).mean() < 0.0002


@pytest.mark.parametrize("name", ["sidd10", "sidd_val32", "renoir30", "polyu100"])
def test_the_default_beats_noisy_on_every_set(amsnet, name):
    data = SHARED / name
    result = amsnet("evaluate", data / "noisy", data / "clean", "--json")
    scores = json.loads(result.stdout)
    print(name, scores["mean"], "worse:", scores["worse_than_noisy"])
    assert scores["mean"]["psnr"] > scores["mean"]["noisy_psnr"] + 1

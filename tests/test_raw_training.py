import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from amsnet_cli.fitting.muon import orthogonalised
from amsnet_cli.inference.denoise_mosaic import SensorNoiseFound, denoise_mosaic
from amsnet_cli.mosaic_model import load_mosaic_model
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.photos.formats.raw import read_mosaic
from benchmarks.make_raw import Sensor, noisy
from benchmarks.raw import psnr
from training import raw


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "coffee"):
        cv2.imwrite(str(folder / f"{name}.png"), getattr(skimage.data, name)()[..., ::-1])
    return folder


def train(monkeypatch, photos, state, *more):
    arguments = [
        "raw", "--photos", str(photos), "--state", str(state), "--patch", "48", "--batch", "4",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*arguments, *more])
    raw.main()


def test_the_same_step_has_the_same_patches(photos):
    one, two = (raw.SensorPatches(photos, patch=48, batch=4, seed=s) for s in (1, 1))
    first, again, next_ = one.draw(7), two.draw(7), one.draw(8)
    assert all(torch.equal(getattr(first, k), getattr(again, k)) for k in vars(first))
    assert not torch.equal(first.stabilised, next_.stabilised)


def test_patches_have_the_stated_noise_on_average(photos):
    patches = raw.SensorPatches(photos, patch=48, batch=48, seed=0).draw(0)
    errors = (patches.stabilised - patches.target) / patches.sigma
    spread = errors.square().mean((1, 2, 3)).sqrt()
    assert 0.8 < float(spread.median()) < 1.25
    told = patches.colours.sum(1)
    assert ((told == 1) | (told == 3)).all()


def test_training_resumes_where_it_stopped(photos, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    train(monkeypatch, photos, whole, "--steps", "4")
    train(monkeypatch, photos, parts, "--steps", "2")
    train(monkeypatch, photos, parts, "--steps", "2")
    a, b = (torch.load(p, weights_only=True)["model"] for p in (whole, parts))
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)


def test_the_rate_falls_from_a_state_that_is_kept(photos, tmp_path, monkeypatch, capsys):
    state = tmp_path / "raw.pt"
    train(monkeypatch, photos, state, "--steps", "4", "--decay", "0.5", "--log-every", "1")
    assert "falls from here" in capsys.readouterr().out
    assert torch.load(tmp_path / "raw.constant.pt", weights_only=True)["steps"] == 3
    assert torch.load(state, weights_only=True)["steps"] == 4


def test_a_few_steps_denoise(photos, tmp_path, monkeypatch):
    train(monkeypatch, photos, tmp_path / "raw.pt", "--steps", "40", "--rate", "0.01")
    model = load_mosaic_model(tmp_path / "raw.safetensors")
    law, sensor = (1e-2, 5e-4), Sensor()
    light = sensor.light(skimage.data.astronaut()[:384, :384] / 255, 1.0)
    pictures = light, noisy(light, law, 0, np.random.default_rng(0))
    clean, before = (
        read_mosaic(Path("x.dng"), sensor.dng(sensor.recorded(x), 25600)) for x in pictures
    )
    noise = SensorNoiseFound(laws=(SensorNoise(a=law[0], b=law[1]),), source="truth")
    after = denoise_mosaic(before, model, noise, device=torch.device("cpu"))
    assert psnr(after, clean) > psnr(before, clean) + 0.5


@pytest.mark.parametrize("shape", [(8, 72), (72, 8), (16, 16)])
def test_orthogonalised_singular_values_are_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert float(values.max()) < 1.3
    assert float(values.median()) > 0.6

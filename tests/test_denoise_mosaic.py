"""Mosaics that are denoised before development: noise, tiles, strength, the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from amsnet_cli.core.networks.compact import CompactUNetConfig
from amsnet_cli.core.networks.mosaic import MosaicNetwork, MosaicNetworkConfig
from amsnet_cli.errors import WeightsError
from amsnet_cli.inference.denoise_mosaic import MosaicOptions, denoise_mosaic
from amsnet_cli.inference.mosaic_noise import SensorNoiseFound, find_noise
from amsnet_cli.model import load_model
from amsnet_cli.mosaic_model import MosaicModel, load_mosaic_model, save_mosaic_model
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.photos.formats.raw import read_mosaic
from tests.dng_files import BLACK, RGGB, WHITE, dng, doubles, exposed
from tests.test_mosaic import PATTERNS

X = Path("x.dng")
CPU = torch.device("cpu")
NOISE = SensorNoiseFound(laws=(SensorNoise(a=1e-3, b=1e-5),), source="test")


@pytest.fixture(scope="module")
def model() -> MosaicModel:
    torch.manual_seed(0)
    shape = CompactUNetConfig(
        in_channels=7, out_channels=1, widths=(8, 8), blocks=(1, 1), unshuffle=2
    )
    network = MosaicNetwork(MosaicNetworkConfig(unet=shape))
    with torch.no_grad():
        network.unet.tail.weight.mul_(30)  # that there is something to see
    return MosaicModel(network=network.eval(), name="tiny")


@pytest.fixture
def model_file(model, tmp_path) -> Path:
    path = tmp_path / "mosaics.safetensors"
    save_mosaic_model(path, model.network, dtype=torch.float32)
    return path


def mosaic_of(pattern=RGGB, size=(150, 170), **tags):
    light = np.repeat(np.linspace(0.05, 0.6, size[1])[None], size[0], 0)
    light[:30, :30] = 4
    return read_mosaic(X, dng(exposed(light, pattern, noise=60), pattern=pattern, **tags))


class TestNoise:
    def test_what_the_file_says_comes_first(self):
        mosaic = mosaic_of(tags={51041: doubles(1e-4, 2e-7)})
        found = find_noise(mosaic)
        assert found.source == "NoiseProfile"
        assert [(law.a, law.b) for law in found.laws] == [(1e-4, 2e-7)]

    def test_a_profile_without_slope(self):
        found = find_noise(mosaic_of(tags={51041: doubles(0, 1e-6)}))
        assert found.laws[0].b == 1e-6 and 0 < found.laws[0].a <= 1e-8

    def test_else_it_is_estimated(self):
        rng = np.random.default_rng(0)
        light = np.clip(np.repeat(np.linspace(0.02, 0.9, 512)[None], 512, 0), 0, 1)
        a, b = 1.5e-3, 2e-5
        clean = exposed(light).astype(float)
        unit = (clean - BLACK) / (WHITE - BLACK)
        noisy = clean + rng.normal(size=clean.shape) * np.sqrt(a * unit + b) * (WHITE - BLACK)
        mosaic = read_mosaic(X, dng(noisy.round().clip(0, WHITE).astype(np.uint16)))
        found = find_noise(mosaic)
        assert found.source == "estimate with ISO"
        assert float(found.laws[0].a) == pytest.approx(a, rel=0.3)
        large = replace(
            mosaic, frame=np.tile(mosaic.frame, (4, 4)), area=(0, 2048, 0, 2048),
            crop=(0, 2048, 0, 2048),
        )  # fmt: skip
        sampled = find_noise(large)
        assert float(sampled.laws[0].a) == pytest.approx(float(found.laws[0].a), rel=0.2)


class TestDenoising:
    @pytest.mark.parametrize("name", PATTERNS)
    def test_tiles_are_not_seen(self, model, name):
        """Tiles that overlap by the network's reach give what the whole mosaic gives."""
        mosaic = mosaic_of(PATTERNS[name])
        whole = denoise_mosaic(mosaic, model, NOISE, device=CPU)
        tiled = denoise_mosaic(mosaic, model, NOISE, MosaicOptions(tile=96), device=CPU)
        assert (whole.values != mosaic.values).mean() > 0.5
        difference = np.abs(whole.values.astype(int) - tiled.values)
        moved = np.abs(whole.values.astype(int) - mosaic.values)
        assert difference.max() <= max(2, 0.02 * moved.max())

    def test_strength(self, model):
        mosaic = mosaic_of(tags={51041: doubles(1e-3, 1e-5)})
        none, half, full = (
            denoise_mosaic(mosaic, model, NOISE, MosaicOptions(strength=s), device=CPU)
            for s in (0, 0.5, 1)
        )
        assert np.array_equal(none.frame, mosaic.frame)
        assert none.noise_profile == mosaic.noise_profile
        between = (mosaic.values.astype(float) + full.values) / 2
        assert np.abs(half.values - between).max() <= 1
        assert half.noise_profile == ((pytest.approx(2.5e-4), pytest.approx(2.5e-6)),)
        assert full.noise_profile == ()

    def test_saturated_photosites_stay(self, model):
        mosaic = mosaic_of()
        result = denoise_mosaic(mosaic, model, NOISE, device=CPU)
        clipped = mosaic.values >= mosaic.saturation
        assert clipped.sum() > 100
        assert np.array_equal(result.values[clipped], mosaic.values[clipped])

    def test_a_law_for_each_colour(self, model):
        mosaic = mosaic_of()
        same = SensorNoiseFound(laws=NOISE.laws * 3, source="test")
        one, three = (denoise_mosaic(mosaic, model, n, device=CPU) for n in (NOISE, same))
        assert np.abs(one.values.astype(int) - three.values).max() <= 1

    def test_the_smallest_mosaics_are_kept(self, model):
        mosaic = mosaic_of(size=(30, 60))
        assert denoise_mosaic(mosaic, model, NOISE, device=CPU) is mosaic


class TestFiles:
    def test_a_model_comes_back(self, model, model_file, tmp_path):
        again = load_mosaic_model(model_file)
        assert again.network.config == model.network.config
        tensors = model.network.state_dict()
        assert all(torch.equal(tensors[k], t) for k, t in again.network.state_dict().items())

    def test_models_are_for_one_thing(self, model_file, tiny_model):
        with pytest.raises(WeightsError, match="is for mosaics of RAW files"):
            load_model(model_file)
        with pytest.raises(WeightsError, match="is for developed photos"):
            load_mosaic_model(Path(tiny_model))
        model_file.write_bytes(model_file.read_bytes()[:-8])
        with pytest.raises(WeightsError, match="is not an amsnet model"):
            load_mosaic_model(model_file)


class TestCommand:
    @pytest.fixture
    def source(self, tmp_path) -> Path:
        path = tmp_path / "x.dng"
        light = np.repeat(np.linspace(0.05, 0.6, 160)[None], 128, 0)
        path.write_bytes(dng(exposed(light, noise=60), tags={51041: doubles(1e-3, 1e-5)}))
        return path

    def test_dng_to_dng(self, amsnet, source, model_file, tmp_path):
        before = read_mosaic(source, source.read_bytes())
        for strength, same in (("0", True), ("1", False)):
            out = tmp_path / f"out{strength}.dng"
            result = amsnet("denoise", source, "-o", out, "-w", model_file, "--strength", strength)
            assert result.exit_code == 0, result.stderr
            after = read_mosaic(out, out.read_bytes())
            assert np.array_equal(before.frame, after.frame) == same
            assert bool(after.noise_profile) == same
        assert "160x128, 16 bit, mosaics (noise by NoiseProfile)" in result.stderr

    def test_developed_after_denoising(self, amsnet, source, model_file, tmp_path):
        calls = {"mosaic": ["--raw", "mosaic"], "kept": ["--raw", "mosaic", "--strength", 0]}
        pixels = {}
        for name, more in calls.items():
            out = tmp_path / f"{name}.tif"
            result = amsnet("denoise", source, "-o", out, "-w", model_file, *more)
            assert result.exit_code == 0, result.stderr
            pixels[name] = tifffile.imread(out).astype(int)
        assert pixels["mosaic"].shape == (128, 160, 3)
        assert np.abs(pixels["mosaic"] - pixels["kept"]).mean() > 10
        plain = tmp_path / "plain.tif"
        photo = amsnet("denoise", source, "-o", plain, "--strength", 0)
        assert photo.exit_code == 0, photo.stderr
        assert np.abs(tifffile.imread(plain).astype(int) - pixels["kept"]).max() <= 1

    def test_folders_and_formats(self, amsnet, source, model_file, tmp_path):
        call = ["denoise", source, "-o", tmp_path / "out", "-w", model_file, "--format", "dng"]
        result = amsnet(*call)
        assert result.exit_code == 0, result.stderr
        assert (tmp_path / "out" / "x.dng").is_file()

    def test_what_cannot_be(self, amsnet, source, model_file, tmp_path):
        tifffile.imwrite(tmp_path / "x.tif", np.zeros((40, 40, 3), np.uint8))
        result = amsnet("denoise", tmp_path / "x.tif", "-o", tmp_path / "y.dng", "-w", model_file)
        assert result.exit_code == 1 and "no RAW file" in result.stderr
        result = amsnet("denoise", source, "-o", tmp_path / "y.dng", "--detail", 0.5)
        assert result.exit_code == 2 and "--detail" in result.stderr
        for option in (("--tile", 64), ("--max-memory", "2G"), ("--crop", "0,0,32,32")):
            result = amsnet("denoise", source, "-o", tmp_path / "y.dng", *option)
            assert result.exit_code == 2 and option[0] in result.stderr
        result = amsnet("denoise", tmp_path / "x.tif", "-o", tmp_path / "y.tif", "-w", model_file)
        assert result.exit_code == 4 and "mosaics" in result.stderr

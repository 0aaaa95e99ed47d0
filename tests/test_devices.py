"""Everything runs where the network runs, and gives there what it gives on the CPU.

Most machines have no GPU, so a simulated one stands for all: see `tests.simulated_device`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from amsnet_cli.core.networks import CompactUNetConfig, ConditionedUNetConfig
from amsnet_cli.core.networks.conditioned import INPUTS
from amsnet_cli.core.networks.noise_estimator import NoiseEstimatorConfig
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.inference.denoise_counts import denoise_counts
from amsnet_cli.inference.denoise_mosaic import MosaicOptions, denoise_mosaic
from amsnet_cli.inference.mosaic_noise import SensorNoiseFound
from amsnet_cli.inference.tensor_codec import to_stored, to_unit
from amsnet_cli.model import Inference, Model, ModelConfig, build_network
from amsnet_cli.noise.counts import CountsNoise
from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.photos.colour import linear_rec2020_profile
from amsnet_cli.photos.formats.raw import read_mosaic
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.postprocess.mosaic_blend import MosaicBlend
from tests.dng_files import RGGB, dng, exposed
from tests.simulated_device import DEVICE, SimulatedDevice

Place = tuple[torch.device, AbstractContextManager[object]]
CPU = torch.device("cpu")
HEIGHT, WIDTH = 75, 50


@pytest.fixture(params=["simulated", "cuda", "mps"])
def place(request: pytest.FixtureRequest) -> Place:
    """A device, and what makes it usable."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if request.param == "simulated":
        return DEVICE, SimulatedDevice()
    if not available[request.param]:
        pytest.skip(f"there is no {request.param} here")
    return torch.device(request.param), nullcontext()


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("amsnet_cli.device.computes_bfloat16_fast", lambda device: False)


@pytest.fixture
def told() -> Model:
    """A network that is told the noise."""
    torch.manual_seed(0)
    unet = CompactUNetConfig(in_channels=INPUTS, widths=(8, 8), blocks=(1, 1), unshuffle=2)
    shape = ConditionedUNetConfig(
        unet=unet, estimator=NoiseEstimatorConfig(fine=4, coarse=4, width=8, blocks=1)
    )
    config = ModelConfig(network=shape, inference=Inference(passes="single"))
    network = build_network(config).eval()
    with torch.no_grad():
        network.network.unet.tail.weight.mul_(10)
    return Model(network=network, config=config, name="tiny")


def picture(channels: int) -> np.ndarray:
    """A ramp with noise that shows, and a hot pixel; uint8."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 230, HEIGHT)[:, None, None] + rng.normal(0, 12, (HEIGHT, WIDTH, channels))
    pixels = ramp.round().clip(0, 255).astype(np.uint8)
    pixels[20, 20, 0] = 255
    return pixels


PHOTOS = {
    "8 bits": Photo(pixels=picture(3)),
    "grey, 16 bits": Photo(pixels=picture(1).astype(np.uint16) * 257),
    "12 bits in 16": Photo(pixels=picture(3).astype(np.uint16) * 16),
    "linear light": Photo(
        pixels=picture(3).astype(np.uint16) * 257, icc=linear_rec2020_profile()
    ),
    "float": Photo(pixels=picture(3).astype(np.float32) / 255),
}  # fmt: skip
OPTIONS = {
    "detail": DenoiseOptions(detail=0.5),
    "luma": DenoiseOptions(luma=0.5, chroma=0.9),
    "tiles": DenoiseOptions(tile=48, crop=(3, 2, 40, 60)),
    "ensemble": DenoiseOptions(ensemble=3),
    "masks": DenoiseOptions(n_masks=2, stride=2, refine=0.2),
}  # fmt: skip


@pytest.mark.parametrize("photo", PHOTOS)
def test_photos_are_denoised_as_on_the_cpu(photo, told, place):
    compare(PHOTOS[photo], told, DenoiseOptions(), place)


@pytest.mark.parametrize("options", OPTIONS)
def test_so_they_are_with_options(options, told, place):
    compare(PHOTOS["8 bits"], told, OPTIONS[options], place)


def compare(photo: Photo, model: Model, options: DenoiseOptions, place: Place) -> None:
    device, usable = place
    if options.refine:
        model = Model(
            network=model.network, name="masks",
            config=ModelConfig(network=model.config.network, inference=Inference(passes="multi")),
        )  # fmt: skip
    expected = denoise(photo, model, options)
    with usable:
        found = denoise(photo, model, options, device=device)
    assert found.hot_pixels == expected.hot_pixels
    change = found.photo.pixels.astype(float) - expected.photo.pixels
    unit = {1: 1, 2: 257, 4: 1 / 255}[photo.pixels.dtype.itemsize]
    assert np.abs(change).max() <= unit
    assert (expected.photo.pixels != expected.noisy.pixels).any()


@pytest.mark.parametrize(
    "options",
    [MosaicOptions(), MosaicOptions(strength=0.5, blend=MosaicBlend(luma=0.5, detail=0.5))],
)
def test_mosaics_are(options, mosaic_model, place):
    light = np.repeat(np.linspace(0.05, 0.6, 70)[None], 60, 0)
    mosaic = read_mosaic(Path("x.dng"), dng(exposed(light, RGGB, noise=60), pattern=RGGB))
    noise = SensorNoiseFound(laws=(SensorNoise(a=1e-3, b=1e-5),), source="test")
    expected = denoise_mosaic(mosaic, mosaic_model, noise, options, device=CPU)
    device, usable = place
    with usable:
        found = denoise_mosaic(mosaic, deepcopy(mosaic_model), noise, options, device=device)
    assert np.abs(found.values.astype(int) - expected.values).max() <= 2
    assert found.noise_profile == pytest.approx(expected.noise_profile)
    assert (expected.values != mosaic.values).any()


def test_counts_are(told, place):
    rng = np.random.default_rng(0)
    light = np.linspace(20, 300, 60)[:, None].repeat(50, 1)
    page = rng.poisson(light).astype(np.uint16)
    noise = CountsNoise(a=1.0, b=0.0)
    expected = denoise_counts(page, noise, told)
    device, usable = place
    with usable:
        found = denoise_counts(page, noise, told, device=device)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_photo_crosses_once_and_its_result_comes_back_once(told, monkeypatch):
    photo = PHOTOS["8 bits"]
    monkeypatch.setattr("amsnet_cli.postprocess.brightness.SAMPLED_PIXELS", 50 * 50)
    with SimulatedDevice() as there:
        denoise(photo, told, device=DEVICE)
    samples = photo.pixels[::3].size  # counted on the CPU, as this device has no float64
    assert [n for n in there.copied if n > 100] == [samples, samples, photo.pixels.size]


def test_the_simulated_device_refuses_what_a_gpu_does():
    with SimulatedDevice():
        x = torch.ones(2, 3).to(DEVICE)
        for refused in (lambda: x + torch.ones(3), x.double):
            with pytest.raises(AssertionError):
                refused()
        assert float((x + 1).sum()) == 12 and x.device == DEVICE and x.cpu().device == CPU


@pytest.mark.parametrize("high", [1.0, 4095 / 65535])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tensors_are_decoded_and_encoded_as_arrays(dtype, high):
    codec = PixelCodec(dtype=dtype, high=high)
    stored = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 16, 1)
    unit = to_unit(codec, stored, CPU)
    assert np.array_equal(unit.permute(1, 2, 0).numpy(), codec.decode(stored))
    between = torch.linspace(-0.1, 1.1, 30_000).reshape(3, 100, 100)
    found = to_stored(codec, between.clone()).numpy()
    assert np.array_equal(found, codec.encode(between.permute(1, 2, 0).contiguous().numpy()))

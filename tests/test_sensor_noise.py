import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amsnet_cli.noise.sensor import SensorNoise
from amsnet_cli.noise.sensor_estimate import EstimateConfig, estimate_sensor_noise

BAYER = [[0, 1], [1, 2]]
X_TRANS = [
    [1, 2, 1, 1, 0, 1], [0, 1, 0, 2, 1, 2], [1, 2, 1, 1, 0, 1],
    [1, 0, 1, 1, 2, 1], [2, 1, 2, 0, 1, 0], [1, 0, 1, 1, 2, 1],
]  # fmt: skip
LAW = SensorNoise(a=6.9e-4, b=2.1e-6)


def colours_of(tile, size=384):
    tile = np.array(tile)
    index = np.tile(tile, (size // len(tile), size // len(tile)))
    return torch.from_numpy(np.stack([(index == c) | (index == 3) for c in range(3)])).float()


def photographed(clean, noise=LAW, seed=0):
    draw = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    noisy = clean + noise.variance(clean).sqrt() * draw
    return ((noisy * 15871).round() / 15871).clamp_max(1)


def ramp(size=384):
    return torch.linspace(0.01, 0.6, size).expand(size, size)


@given(st.floats(5e-6, 0.1), st.floats(0, 1e-3), st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_inverse_brings_values_back(a, b, values):
    noise, x = SensorNoise(a=a, b=b), torch.tensor(values, dtype=torch.float64)
    assert torch.allclose(noise.unstabilise(noise.stabilise(x)), x, atol=1e-9)


def test_each_photosite_may_have_its_own_noise():
    a = torch.tensor([[1e-4, 1e-3], [1e-2, 1e-5]])
    noise, x = SensorNoise(a=a, b=a**2), torch.rand(3, 1, 2, 2)
    stabilised = noise.stabilise(x)
    single = SensorNoise(a=1e-3, b=1e-6).stabilise(x[..., 0, 1])
    assert torch.allclose(stabilised[..., 0, 1], single)
    assert torch.allclose(noise.unstabilise(stabilised), x, atol=1e-6)
    assert torch.equal(noise.sigma, a.sqrt() / 2)


@pytest.mark.parametrize("a", [2e-5, 1e-3, 1e-2])
@pytest.mark.parametrize("light", [0.05, 0.3, 0.9])
def test_noise_is_even_in_the_stabilised_scale(a, light):
    noise = SensorNoise(a=a, b=5 * a**2)
    rng = np.random.default_rng(0)
    photons = rng.poisson(light / a, 200_000) * a + 5**0.5 * a * rng.standard_normal(200_000)
    spread = noise.stabilise(torch.from_numpy(photons)).std()
    assert float(spread) == pytest.approx(float(noise.sigma), rel=0.06)


@pytest.mark.parametrize(("a", "b"), [(0, 1e-6), (-1e-3, 0), (1e-3, -1e-9), (float("nan"), 0)])
def test_what_is_no_noise_is_refused(a, b):
    with pytest.raises(ValueError, match="a > 0"):
        SensorNoise(a=a, b=b)


@pytest.mark.parametrize("tile", [BAYER, [[1, 2], [0, 1]], X_TRANS, [[3]]])
@pytest.mark.parametrize("iso", [None, 6400])
def test_the_noise_of_a_plain_picture_is_estimated(tile, iso):
    estimate = estimate_sensor_noise(photographed(ramp()), colours_of(tile), iso=iso)
    assert 0.7 < float(estimate.a) / LAW.a < 1.1


def test_the_dark_shows_b():
    dark = SensorNoise(a=1e-3, b=6e-5)
    clean = torch.linspace(0, 0.2, 384).expand(384, 384)
    estimate = estimate_sensor_noise(photographed(clean, dark), colours_of(BAYER), iso=6400)
    assert 0.5 < float(estimate.b) / dark.b < 1.5


def test_texture_is_not_taken_for_noise_where_the_iso_is_known():
    texture = 0.05 * torch.rand(384, 384, generator=torch.Generator().manual_seed(1))
    base = SensorNoise(a=1.6e-5, b=5e-9)
    estimate = estimate_sensor_noise(photographed(0.2 + texture, base), colours_of(BAYER), iso=100)
    assert float(estimate.a) < 2 * base.a


def test_clipped_blocks_are_left_out():
    half = ramp().clone()
    half[:192] = 1.5
    estimate = estimate_sensor_noise(photographed(half), colours_of(BAYER))
    assert 0.7 < float(estimate.a) / LAW.a < 1.1
    assert estimate_sensor_noise(torch.ones(384, 384), colours_of(BAYER)) is None


def test_bands_of_a_large_mosaic_say_the_same():
    mosaic, colours = photographed(ramp(768)), colours_of(BAYER, 768)
    some = EstimateConfig(most_photosites=200_000)
    estimate = estimate_sensor_noise(mosaic, colours, config=some)
    assert estimate == estimate_sensor_noise(mosaic, colours, config=some)
    assert 0.7 < float(estimate.a) / LAW.a < 1.1


def test_colours_without_a_pattern_are_refused():
    index = torch.randint(3, (96, 96), generator=torch.Generator().manual_seed(0))
    colours = torch.stack([index == c for c in range(3)]).float()
    with pytest.raises(ValueError, match="do not repeat"):
        estimate_sensor_noise(torch.rand(96, 96), colours)


def test_without_an_iso_texture_is_not_taken_for_noise_either():
    texture = 0.02 * torch.rand(384, 384, generator=torch.Generator().manual_seed(1))
    base = SensorNoise(a=1.6e-5, b=5e-9)
    noisy, colours = photographed(0.2 + texture, base), colours_of(BAYER)
    estimate = estimate_sensor_noise(noisy, colours)
    less_cautious = EstimateConfig(caution_without_iso=EstimateConfig().caution)
    assert float(estimate.a) < float(estimate_sensor_noise(noisy, colours, config=less_cautious).a)

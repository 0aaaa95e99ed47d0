from __future__ import annotations

import numpy as np
import pytest
import torch

from amsnet_cli import Photo, find_weights, load_model
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.postprocess.brightness import ResidualHistogram, bias_by_tone, correct_brightness
from amsnet_cli.postprocess.config import PostprocessConfig


def scene(size: int = 400) -> torch.Tensor:
    return torch.linspace(0.15, 0.85, size).expand(3, size, size).contiguous()


def noise_like(x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def with_tone_curve(clean: torch.Tensor, strength: float = 0.08) -> torch.Tensor:
    """Noise that is even in linear light, of a camera of gamma 2.2."""
    return (clean**2.2 + strength * noise_like(clean)).clamp(0, 1) ** (1 / 2.2)


def corrected(noisy: torch.Tensor, denoised: torch.Tensor) -> torch.Tensor:
    residuals = ResidualHistogram(len(noisy))
    for top in range(0, noisy.shape[1], 64):
        residuals.add(noisy[:, top : top + 64], denoised[:, top : top + 64])
    return correct_brightness(denoised, bias_by_tone(residuals.bias()))


@pytest.mark.parametrize("sigma", [0.005, 0.03, 0.1])
def test_even_noise_shows_no_tone_curve(sigma):
    clean = scene()
    noisy = clean + sigma * noise_like(clean)
    assert (corrected(noisy, clean) - clean).abs().max() < 0.01 * sigma


def test_the_bias_of_a_tone_curve_is_corrected():
    clean = scene()
    noisy = with_tone_curve(clean)
    kernel = torch.ones(3, 1, 1, 41) / 41
    padded = torch.nn.functional.pad(noisy, (20, 20, 0, 0), mode="reflect")
    mean = torch.nn.functional.conv2d(padded[None], kernel, groups=3)[0]
    mean = mean.mean(1, keepdim=True).expand_as(clean)  # a perfect denoiser of means
    middle = slice(120, 280)
    before = (mean - clean)[..., middle].mean()
    error = (corrected(noisy, mean) - clean)[..., middle].mean()
    assert before < -0.008
    assert error.abs() < 0.25 * before.abs()


def test_a_bias_of_the_network_is_corrected_too():
    clean = scene()
    noisy = with_tone_curve(clean)
    error = (corrected(noisy, clean + 0.02) - clean)[..., 60:340].mean()
    assert error.abs() < 0.004


def test_shadows_clipped_at_black_keep_their_brightness():
    shades = [0.1, 0.2, 0.3, 0.45, 0.6]
    clean = torch.cat([torch.full((3, 200, 80), s) for s in shades], dim=2)
    linear = clean**2.2
    noisy = (linear + 0.05 * (linear + 0.1).sqrt() * noise_like(clean)).clamp(0, 1) ** (1 / 2.2)
    means = torch.cat([p.mean((1, 2), keepdim=True).expand_as(p) for p in noisy.split(80, 2)], 2)
    error, before = corrected(noisy, means) - clean, means - clean
    for column in (40, 120):
        assert error[..., column].mean().abs() < 0.5 * before[..., column].mean().abs() + 0.004


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (14, 14)])
def test_too_few_pixels_tell_nothing(size):
    denoised = torch.full((1, *size), 0.5)
    assert torch.equal(corrected(denoised + 0.1, denoised), denoised)


def test_a_channel_that_is_black_stays_black():
    """As under one coloured light: it has no unclipped intensity to measure a bias at."""
    clean = scene()
    noisy = with_tone_curve(clean)
    noisy[0], clean[0] = 0, 0
    result = corrected(noisy, clean)
    assert (result[0] == 0).all() and (result[1:] != clean[1:]).any()


def test_intensities_are_corrected_apart_and_joined_linearly():
    bins = PostprocessConfig().intensity_bins
    bias = torch.zeros(1, bins)
    bias[0, 4] = 0.01
    ramp = torch.linspace(0, 1, 1601)[None, None]
    change = (correct_brightness(ramp, bias_by_tone(bias)) - ramp)[0, 0]
    assert change.max() == pytest.approx(0.01, abs=1e-5)
    assert ramp[0, 0, change.argmax()] == pytest.approx(4.5 / bins, abs=1e-3)
    assert (change.diff().abs() < 2e-4).all()


@pytest.mark.parametrize(("size", "mosaic"), [(400, 0), (400, 6), (800, 6)])
@pytest.mark.parametrize("tone", [126, 128])  # 128 lies between two shades
def test_a_flat_tone_keeps_its_brightness(size, mosaic, tone):
    rng = np.random.default_rng(0)
    noisy = tone + rng.normal(0, 8, (size, size, 3))
    noisy[::2, ::2] += mosaic  # where one colour is measured that is interpolated elsewhere
    noisy -= noisy.mean() - tone
    photo = Photo(pixels=noisy.round().clip(0, 255).astype(np.uint8))
    denoised = denoise(photo, load_model(find_weights(None))).photo
    for channel in range(3):
        before, after = (p.pixels[..., channel].mean() for p in (photo, denoised))
        assert after == pytest.approx(before, abs=0.25)

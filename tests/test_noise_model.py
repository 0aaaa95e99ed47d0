from __future__ import annotations

import pytest
import skimage.data
import torch
import torch.nn.functional as F

from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.model import load_model
from amsnet_cli.noise.model import estimate_noise, gaussian_blur
from amsnet_cli.noise.spectrum import correct_spectrum
from amsnet_cli.noise.synthesis import NoiseSampler
from amsnet_cli.photos.photo import Photo
from amsnet_cli.weights.store import find_weights


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    picture = torch.from_numpy(skimage.data.rocket()[:384, :576].copy())
    return 0.1 + 0.8 * picture.permute(2, 0, 1).float() / 255


def white(x: torch.Tensor) -> torch.Tensor:
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(3))


def binomial(noise: torch.Tensor) -> torch.Tensor:
    """Correlated by [1 2 1] / 4 along rows and columns, scaled back to unit variance."""
    taps = torch.tensor([0.25, 0.5, 0.25])
    kernel = torch.outer(taps, taps)
    padded = F.pad(noise[:, None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernel[None, None])[:, 0] / kernel.square().sum().sqrt()


@pytest.mark.parametrize("sigma", [2, 5, 15, 40])
def test_the_level_of_white_noise(clean, sigma):
    model = estimate_noise(clean + sigma / 255 * white(clean), clean)
    assert 255 * model.sigma() == pytest.approx(sigma, rel=0.12)
    assert abs(model.correlation(1)) < 0.05
    assert abs(model.channel_correlation()) < 0.05
    assert model.decorrelating_stride() == 1


@pytest.mark.parametrize("left", [0.0, 0.3, 0.6])
def test_a_first_version_may_keep_some_of_the_noise(clean, left):
    noise = 6 / 255 * white(clean)
    model = estimate_noise(clean + noise, clean + left * noise)
    assert 255 * model.sigma() == pytest.approx(6, rel=0.15)


def test_correlation_between_neighbours_and_channels(clean):
    shared = white(clean[:1]).expand(3, -1, -1)
    noise = 5 / 255 * binomial(0.8 * shared + 0.6 * white(clean))
    model = estimate_noise(clean + noise, clean)
    assert model.correlation(1) == pytest.approx(2 / 3, abs=0.06)
    assert model.correlation(2) == pytest.approx(1 / 6, abs=0.05)
    assert model.channel_correlation() == pytest.approx(0.64, abs=0.13)
    assert model.decorrelating_stride() == 3


def test_level_follows_brightness():
    ramp = torch.linspace(0.1, 0.9, 512).expand(3, 512, 512)
    sigma = 0.01 + 0.02 * ramp
    model = estimate_noise(ramp + sigma * white(ramp), ramp)
    dark, bright = model.levels[1], model.levels[7]
    assert bright / dark == pytest.approx((0.01 + 0.02 * 7 / 8) / (0.01 + 0.02 / 8), rel=0.2)


def test_where_nothing_is_flat_the_level_is_as_expected():
    """A dark half full of texture, a bright flat one; the noise of both by another estimate."""
    ramp = torch.linspace(0.55, 0.9, 384).expand(3, 384, 384)
    texture = 0.15 + 0.1 * torch.rand(1, 384, 384, generator=torch.Generator().manual_seed(2))
    picture = torch.cat([texture.expand(3, -1, -1), ramp], 2)
    expected = torch.linspace(0.01, 0.05, 9)
    sigma = 0.01 + 0.04 * picture.mean(0)
    noisy = picture + sigma * white(picture)
    for of_another in (expected, 3 * expected):  # only its shape counts
        model = estimate_noise(noisy, picture, of_another)
        luma = expected / 3**0.5
        assert torch.allclose(model.levels, luma, rtol=0.15)
    without = estimate_noise(noisy, picture)
    assert without.levels[1] > 1.5 * luma[1]


def coarse(noise: torch.Tensor, side: int) -> torch.Tensor:
    """White noise that squares of pixels share, cut to the size of `noise`."""
    height, width = noise.shape[1:]
    small = noise[:, : height // side + 1, : width // side + 1]
    return small.repeat_interleave(side, 1).repeat_interleave(side, 2)[:, :height, :width]


def test_coarse_noise_of_the_colours_is_drawn_as_strong_as_it_is(clean):
    """Blotches of 12 pixels are wider than the covariance reaches."""
    blotches = coarse(white(clean), 12)
    noise = 4 / 255 * (white(clean.flip(2)) + blotches - blotches.mean(0))
    noisy = clean + noise
    model = estimate_noise(noisy, clean)
    corrected = correct_spectrum(model, noisy, clean)
    luma, chroma = corrected.gain
    assert (chroma[:2] > 1.3).all() and (corrected.gain[:, 4:] < 1.2).all()
    assert (luma < 1.6).all()

    def blotchy(x: torch.Tensor) -> float:
        chroma = x - x.mean(0)
        return float(gaussian_blur(chroma, 4.0).std())

    square = clean[:, :, :384]
    before, after = (
        NoiseSampler(m, 384).draw(square, torch.Generator().manual_seed(5))
        for m in (model, corrected)
    )
    truth = blotchy(noise[:, :, :384])
    assert blotchy(before) < 0.7 * truth
    assert blotchy(after) == pytest.approx(truth, rel=0.2)


def test_noise_that_the_first_version_keeps_lowers_no_spectrum(clean):
    noise = 6 / 255 * white(clean)
    noisy, first = clean + noise, clean + 0.6 * noise
    corrected = correct_spectrum(estimate_noise(noisy, first), noisy, first)
    assert (corrected.gain >= 1).all() and (corrected.gain[:, 2:] < 1.1).all()


def test_spectra_of_images_smaller_than_a_square_are_left_alone():
    picture = torch.full((3, 48, 200), 0.5)
    noisy = picture + 0.05 * white(picture)
    model = estimate_noise(noisy, picture)
    assert correct_spectrum(model, noisy, picture) is model


def test_sampled_noise_measures_like_the_noise_of_its_model(clean):
    noise = 6 / 255 * binomial(white(clean))
    model = estimate_noise(clean + noise, clean)
    source, square = NoiseSampler(model, 384), clean[:, :, :384]
    sampled = source.draw(square, torch.Generator().manual_seed(5))
    again = estimate_noise(square + sampled, square)
    assert again.sigma() == pytest.approx(model.sigma(), rel=0.1)
    for lag in (1, 2, 3):
        assert again.correlation(lag) == pytest.approx(model.correlation(lag), abs=0.06)
    assert abs(sampled.mean()) < 0.002
    twice = source.draw(square, torch.Generator().manual_seed(5))
    assert torch.equal(sampled, twice)


def beside_stripes(noise: torch.Tensor) -> float:
    """Power in the striped half of a picture over that in the flat half."""
    return float(noise[:, 200:].square().mean() / noise[:, :184].square().mean())


def test_noise_reduction_that_preserves_edges_is_detected_and_sampled():
    clean = torch.from_numpy(skimage.data.rocket()[:384].copy()).permute(2, 0, 1) / 255
    even = 6 / 255 * white(clean)
    chance = torch.rand(384 // 16, 640 // 16, generator=torch.Generator().manual_seed(4))
    left = 0.3 + 0.7 * (chance < 0.85)
    uneven = even * left.repeat_interleave(16, 0).repeat_interleave(16, 1)

    striped = torch.full((3, 384, 384), 0.5)
    striped[:, 192:] += 0.3 * ((torch.arange(384) % 16) < 8) - 0.15
    for noise, preserved, low, high in ((even, 0, 0.9, 1.1), (uneven, 1, 2, 20)):
        model = estimate_noise(clean + noise, clean)
        assert model.edge_preservation == preserved
        sampled = NoiseSampler(model, 384).draw(striped, torch.Generator().manual_seed(5))
        assert low < beside_stripes(sampled) < high


def first_version(clean: torch.Tensor, sigma: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Even noise that neighbours share, and what the default makes of the noisy picture."""
    noisy = (clean + sigma / 255 * binomial(white(clean))).clamp(0, 1)
    photo = Photo(pixels=noisy.permute(1, 2, 0).numpy())
    denoised = denoise(photo, load_model(find_weights(None)), DenoiseOptions(strength=1)).photo
    return noisy, torch.from_numpy(denoised.pixels).permute(2, 0, 1)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_lost_texture_does_not_pass_for_noise_reduction_that_preserves_edges(name):
    picture = torch.from_numpy(getattr(skimage.data, name)()[:384, :384].copy())
    model = estimate_noise(*first_version(picture.permute(2, 0, 1) / 255, 8))
    assert model.edge_preservation < 0.15
    assert 255 * model.sigma() == pytest.approx(8, rel=0.15)


def test_texture_alone_shows_no_noise():
    grass = torch.from_numpy(skimage.data.grass().copy()).expand(3, -1, -1) / 255
    assert estimate_noise(*first_version(grass, 8)) is None


def test_too_small_an_image_shows_no_noise():
    assert estimate_noise(torch.rand(3, 31, 200), torch.rand(3, 31, 200)) is None

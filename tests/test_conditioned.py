"""The network that is told the noise, what it is told, and how that is estimated."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from amsnet_cli.core.multi_mask import single_pass
from amsnet_cli.core.networks import CompactUNetConfig, ConditionedUNetConfig, noise_estimator
from amsnet_cli.core.networks.asinh import asinh
from amsnet_cli.core.networks.compact import ResidualBlock
from amsnet_cli.core.networks.conditioned import INPUTS
from amsnet_cli.core.networks.noise_estimator import (
    NoiseCells,
    NoiseEstimator,
    NoiseEstimatorConfig,
)
from amsnet_cli.core.photo_noise import LEVELS, SPECTRUM, PhotoNoise, spectrum_of
from amsnet_cli.errors import UsageError, WeightsError
from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.inference.noise_estimate import estimate_told_noise
from amsnet_cli.model import Inference, Model, ModelConfig, build_network, load_model, save_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec

CONFIG = ModelConfig(
    network=ConditionedUNetConfig(
        unet=CompactUNetConfig(in_channels=INPUTS, widths=(8, 16), blocks=(1, 1), unshuffle=2),
        estimator=NoiseEstimatorConfig(fine=4, coarse=4, width=8, blocks=1),
    ),
    inference=Inference(passes="single", n_masks=4, stride=1, repeats=1),
)


@pytest.fixture
def tiny() -> Model:
    """Random weights that change a picture visibly."""
    torch.manual_seed(0)
    network = build_network(CONFIG).eval()
    with torch.no_grad():
        network.network.unet.tail.weight.mul_(10)
    return Model(network=network, config=CONFIG, name="tiny")


@pytest.fixture
def noisy() -> Tensor:
    return torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(1))


def nothing_masked(photos: Tensor) -> Tensor:
    return torch.zeros_like(photos[:, :1], dtype=torch.bool)


def test_masked_pixels_are_never_seen(tiny, noisy):
    mask = torch.rand(2, 1, 40, 56) < 0.25
    other = torch.where(mask, torch.rand_like(noisy), noisy)
    told = PhotoNoise.white(20)
    with torch.no_grad():
        one, two = (tiny.network(x, mask, told) for x in (noisy, other))
    assert torch.equal(one, two)
    assert not torch.allclose(one, noisy, atol=1e-3)


def test_what_is_faster_without_gradients_is_the_same(tiny, noisy):
    mask = torch.rand(2, 1, 40, 56, generator=torch.Generator().manual_seed(2)) < 0.25
    for masked in (mask, nothing_masked(noisy)):
        expected = tiny.network(noisy, masked, PhotoNoise.white(20))
        with torch.no_grad():
            found = tiny.network(noisy, masked, PhotoNoise.white(20))
        assert torch.allclose(found, expected, atol=1e-5)


def test_grey_photos_are_worked_on_once_with_the_same_result(tiny, noisy):
    grey = noisy[:, :1].expand(-1, 3, -1, -1).contiguous()
    even = PhotoNoise.white(20)
    uneven = dataclasses.replace(even, log_sigma=even.log_sigma.clone())
    uneven.log_sigma[:, 2] += 1e-6  # so that the channels differ, by nothing that matters
    with torch.no_grad():
        once, thrice = (tiny.network(grey, nothing_masked(grey), told) for told in (even, uneven))
    assert torch.allclose(once, thrice, atol=1e-5)
    assert not torch.allclose(once, grey, atol=1e-3)


def test_fused_convolutions_differ_by_rounding_alone():
    torch.manual_seed(0)
    block = ResidualBlock(16).to(memory_format=torch.channels_last).bfloat16()
    x = torch.randn(2, 16, 24, 40).bfloat16().contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        found = block(x.clone())
    expected = block(x).detach()
    assert (found - expected).abs().max() <= 0.01 * expected.abs().max()


def test_asinh_is_exact_near_zero_and_far_away():
    x = torch.tensor([-1e9, -30.0, -1.0, -1e-6, -0.0, 0.0, 1e-20, 0.3, 2.0, 1e9])
    with torch.no_grad():
        assert torch.allclose(asinh(x), torch.asinh(x), rtol=1e-6, atol=0)
    x.requires_grad_()
    assert torch.allclose(asinh(x), torch.asinh(x), rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(f(x).sum(), x)[0] for f in (asinh, torch.asinh)]
    assert torch.allclose(*gradients, rtol=1e-6, atol=0)


def test_no_noise_means_no_change_and_more_noise_means_more(tiny, noisy):
    changes = []
    for sigma in (0.0, 1.0, 5.0, 25.0):
        with torch.no_grad():
            out = tiny.network(noisy, nothing_masked(noisy), PhotoNoise.white(sigma))
        changes.append(float((out - noisy).abs().mean()))
    assert changes[0] < 1e-5
    assert changes == sorted(changes) and changes[-1] > 4 * changes[1]


def test_each_photo_of_a_batch_is_told_its_own_noise(tiny, noisy):
    weak, strong = PhotoNoise.white(2), PhotoNoise.white(40)
    mask = nothing_masked(noisy)
    with torch.no_grad():
        both = tiny.network(noisy, mask, PhotoNoise.stack([weak, strong]))
        alone = [tiny.network(noisy, mask, told)[i] for i, told in enumerate((weak, strong))]
    assert torch.allclose(both, torch.stack(alone), atol=1e-6)
    assert not torch.allclose(both[1], tiny.network(noisy, mask, weak)[1], atol=1e-3)


def test_noise_is_interpolated_by_brightness_and_scaled():
    curve = torch.linspace(0, 1, LEVELS).expand(1, 3, -1)  # log sigma is the root of brightness
    noise = PhotoNoise(log_sigma=curve, spectrum=torch.zeros(1, SPECTRUM))
    brightness = torch.rand(1, 3, 5, 7)
    expected = brightness.sqrt().exp() / 255
    assert torch.allclose(noise.sigma(brightness), expected, rtol=1e-4)
    assert torch.allclose(noise.scaled(2).sigma(brightness), 2 * expected, rtol=1e-4)
    assert noise.at(0.25) == pytest.approx(np.exp(0.5), rel=1e-4)
    assert PhotoNoise.white(12).at(0.9) == pytest.approx(12, rel=1e-4)


def test_caution_weakens_faint_noise_most():
    before = [0.1, 1.0, 5.0, 40.0]
    after = [PhotoNoise.white(sigma).cautious(0.5).at(0.5) for sigma in before]
    assert after == pytest.approx([(s**2 + 0.25) ** 0.5 - 0.5 for s in before], rel=1e-3)
    assert all(0 < s - t < 0.5 for s, t in zip(before, after, strict=True))
    assert PhotoNoise.white(3).cautious(0.0).at(0.5) == pytest.approx(3, rel=1e-4)


def test_the_spectrum_of_white_noise_is_that_of_drawn_noise():
    drawn = torch.randn(4, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(spectrum_of(drawn), PhotoNoise.white(1).spectrum, atol=0.03)
    halves = torch.nn.functional.interpolate(drawn[..., ::2, ::2], scale_factor=2)
    assert (spectrum_of(halves)[:, 0] > -0.05).all(), "means of two by two lose nothing"


def cells(log_sigma: Tensor, log_error: Tensor, brightness: Tensor) -> NoiseCells:
    spectrum = torch.zeros(len(log_sigma), SPECTRUM, *log_sigma.shape[2:])
    return NoiseCells(
        log_sigma=log_sigma, log_error=log_error, spectrum=spectrum, brightness=brightness
    )


def test_cells_are_averaged_by_brightness_and_unsure_ones_hardly_count():
    dark = torch.arange(8) < 4
    brightness = torch.where(dark, 0.04, 0.81).expand(1, 3, 8, 8)
    log_sigma = torch.where(dark, 1.0, 3.0).expand(1, 3, 8, 8).clone()
    log_error = torch.full((1, 1, 8, 8), -2.0)
    log_sigma[..., :2, :], log_error[..., :2, :] = 6.0, 3.0  # texture, and known to be
    noise = NoiseEstimator(CONFIG.network.estimator).summarise(
        cells(log_sigma, log_error, brightness)
    )
    # Each brightness counts a little for the others.
    assert noise.at(0.04) == pytest.approx(np.exp(1), rel=0.35)
    assert noise.at(0.81) == pytest.approx(np.exp(3), rel=0.25)
    assert noise.log_sigma.isfinite().all(), "also where no cell is as bright"
    assert noise.at(1.0) == pytest.approx(np.exp(3), rel=0.35)


def test_a_brightness_that_is_all_texture_takes_its_noise_from_the_others():
    dark = torch.arange(8) < 4
    brightness = torch.where(dark, 0.3, 0.6).expand(1, 3, 8, 8)
    log_sigma = torch.where(dark, 1.0, 3.0).expand(1, 3, 8, 8)
    log_error = torch.where(dark, -2.0, 0.0).expand(1, 1, 8, 8)
    noise = NoiseEstimator().summarise(cells(log_sigma, log_error, brightness))
    assert noise.at(0.6) == pytest.approx(np.exp(1), rel=0.15)


def test_parts_of_one_photo_count_together():
    parts = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    estimator = NoiseEstimator(CONFIG.network.estimator)
    one, each = (estimator.estimate(parts, one_photo=together) for together in (True, False))
    assert one.log_sigma.shape == (1, 3, LEVELS) and each.log_sigma.shape == (3, 3, LEVELS)
    low, high = each.log_sigma.amin(0), each.log_sigma.amax(0)
    assert ((one.log_sigma[0] >= low - 1e-4) & (one.log_sigma[0] <= high + 1e-4)).all()
    assert estimator.estimate(torch.rand(1, 3, 3, 5)).log_sigma.isfinite().all()


def test_filtering_some_rows_at_a_time_changes_nothing(monkeypatch):
    photo = torch.rand(1, 3, 88, 40, generator=torch.Generator().manual_seed(0))
    estimator = NoiseEstimator(CONFIG.network.estimator)
    whole = estimator.summarise(estimator(photo))
    monkeypatch.setattr(noise_estimator, "PIXELS_AT_A_TIME", 24 * 40)
    strips = estimator.estimate(photo)
    assert torch.allclose(strips.log_sigma, whole.log_sigma, atol=1e-5)
    assert torch.allclose(strips.spectrum, whole.spectrum, atol=1e-5)


@pytest.mark.parametrize("size", [(90, 1300), (90, 700), (1300, 1300)])
def test_no_pixel_is_measured_twice(tiny, size, monkeypatch):
    seen = []

    def seeing(parts: torch.Tensor, *, one_photo: bool) -> PhotoNoise:
        seen.append(parts)
        return PhotoNoise.white(1)

    monkeypatch.setattr(tiny.network, "estimate_noise", seeing)
    ramp = np.linspace(0, 1, num=size[0] * size[1], dtype=np.float32)
    photo = Photo(pixels=ramp.reshape(*size, 1))
    estimate_told_noise(photo, PixelCodec.of(photo), tiny.network)
    values = seen[0][:, 0].flatten()
    assert len(values.unique()) == len(values)
    assert len(values) > 0.9 * ramp.size


def test_the_noise_is_estimated_where_it_is_not_told(tiny, noisy):
    estimated = tiny.network.estimate_noise(noisy)
    with torch.no_grad():
        assert torch.equal(
            single_pass(tiny.network, noisy),
            tiny.network(noisy, nothing_masked(noisy), estimated),
        )


def test_a_model_file_keeps_network_and_estimator(tiny, noisy, tmp_path):
    path = tmp_path / "told.safetensors"
    save_model(path, tiny.network, CONFIG)
    loaded = load_model(path)
    assert loaded.config == CONFIG and loaded.network.is_told
    with torch.no_grad():
        assert torch.equal(single_pass(loaded.network, noisy), single_pass(tiny.network, noisy))


@pytest.mark.parametrize("change", [
    {"step": "far"}, {"unet": {"widths": [8]}}, {"estimator": {"filters": 3}}, {"more": 1},
])  # fmt: skip
def test_a_damaged_header_is_refused_in_one_line(tiny, tmp_path, change):
    from amsnet_cli.model import write_network

    header = dataclasses.asdict(CONFIG)
    header["network"] = {**header["network"], **change}
    path = tmp_path / "damaged.safetensors"
    write_network(path, tiny.network, header, torch.float32)
    with pytest.raises(WeightsError, match="damaged.safetensors"):
        denoise(Photo(pixels=np.zeros((16, 16, 3), np.uint8)), load_model(path))


class TestDenoise:
    photo = Photo(pixels=np.random.default_rng(0).integers(0, 256, (64, 72, 3)).astype(np.uint8))

    def change(self, model: Model, **options: float) -> float:
        """Mean absolute change, without the corrections that follow the network."""
        result = denoise(self.photo, model, DenoiseOptions(**options, keep_hot_pixels=True))
        return float(np.abs(result.photo.pixels.astype(float) - self.photo.pixels).mean())

    def test_strength_multiplies_the_noise(self, tiny):
        assert self.change(tiny, strength=0.0) == 0
        weak, measured, strong = (self.change(tiny, strength=s) for s in (0.5, 1.0, 2.0))
        assert weak < measured < strong
        assert self.change(tiny) == measured, "auto is 1"

    def test_the_noise_can_be_given(self, tiny):
        given = denoise(self.photo, tiny, DenoiseOptions(noise=7.0, strength=2.0))
        assert given.noise.at(0.3) == pytest.approx(14, rel=1e-4)
        assert self.change(tiny, noise=2.0) < self.change(tiny, noise=30.0)
        measured = denoise(self.photo, tiny).noise
        windows = torch.from_numpy(self.photo.pixels).permute(2, 0, 1)[None].float() / 255
        estimate = tiny.network.estimate_noise(windows)
        caution = DenoiseOptions().caution
        assert torch.allclose(measured.log_sigma, estimate.cautious(caution).log_sigma, atol=1e-5)
        assert torch.equal(measured.spectrum, estimate.spectrum)

    def test_tiles_are_told_the_noise_of_the_whole_photo(self, tiny):
        pixels = self.photo.pixels.copy()
        pixels[:, :36] //= 16  # two halves of very different noise
        photo = Photo(pixels=pixels)
        whole, tiled = (
            denoise(photo, tiny, DenoiseOptions(tile=tile)).photo.pixels for tile in (0, 32)
        )
        assert np.abs(whole.astype(int) - tiled).max() <= 1

    @pytest.mark.parametrize("options", [{"noise": 5.0}, {"strength": 1.5}])
    def test_a_network_that_is_not_told_says_so(self, options):
        config = ModelConfig(network=CompactUNetConfig(widths=(8, 8), blocks=(1, 1)))
        blind = Model(network=build_network(config), config=config, name="blind")
        with pytest.raises(UsageError, match="blind"):
            denoise(self.photo, blind, DenoiseOptions(**options))

    def test_grey_photos_stay_grey_and_small_ones_work(self, tiny):
        grey = Photo(pixels=np.ascontiguousarray(self.photo.pixels[..., :1]))
        assert denoise(grey, tiny).photo.pixels.shape == grey.pixels.shape
        dot = Photo(pixels=np.full((1, 1, 3), 90, np.uint8))
        assert denoise(dot, tiny).photo.pixels.shape == (1, 1, 3)

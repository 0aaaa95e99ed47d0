"""The noise of counts: its law, the scale without it, and what is significant."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from amsnet_cli.inference.stack_noise import dark_of
from amsnet_cli.noise.counts import CountsNoise, estimate_counts_noise
from amsnet_cli.postprocess.significant import keep_significant


def shots(light: np.ndarray, gain: float, read: float, pedestal: float, count: int = 1, seed=0):
    """Frames of a detector: `gain` units per photon, read noise in units."""
    rng = np.random.default_rng(seed)
    size = (count, *light.shape)
    counts = rng.poisson(np.broadcast_to(light, size)) * gain + rng.normal(0, read, size)
    return [torch.from_numpy(frame) for frame in np.rint(counts + pedestal)]


@pytest.fixture(scope="module")
def cell() -> np.ndarray:
    return skimage.data.cell()[:512].astype(float)


class TestLaw:
    @pytest.mark.parametrize(
        ("gain", "read", "pedestal", "brightness"),
        [(1, 2, 100, 1), (0.5, 1.5, 20, 0.2), (2, 5, 500, 10), (4, 3, 0, 3)],
    )
    @pytest.mark.parametrize("count", [1, 3])
    def test_is_found_with_any_pedestal(self, cell, gain, read, pedestal, brightness, count):
        light = cell * brightness
        law = estimate_counts_noise([shots(light, gain, read, pedestal, count)])
        at = torch.from_numpy(np.quantile(light, [0.05, 0.5, 0.95]) * gain + pedestal)
        true = gain * (at - pedestal) + read**2
        assert law is not None
        assert (law.variance(at) / true).log2().abs().max() < 0.4

    def test_movement_does_not_count_as_noise(self, cell):
        frames = [shots(np.roll(cell, 9 * i, 1), 1, 2, 0, seed=i)[0] for i in range(3)]
        still = estimate_counts_noise([shots(cell, 1, 2, 0, 3)])
        moving = estimate_counts_noise([frames])
        assert abs(moving.a / still.a - 1) < 0.25

    def test_texture_does_not_count_where_nothing_moves(self):
        texture = 200 + 60 * np.random.default_rng(1).random((256, 256))
        law = estimate_counts_noise([shots(texture, 1, 3, 0, 3)])
        at = torch.tensor([230.0])
        assert abs(float(law.variance(at)) / 239 - 1) < 0.15

    def test_noise_that_does_not_grow_has_no_slope(self, cell):
        rng = np.random.default_rng(0)
        frame = torch.from_numpy(cell + rng.normal(0, 8, cell.shape))
        law = estimate_counts_noise([[frame]])
        assert law.a == 0
        assert abs(law.b / 64 - 1) < 0.2

    def test_a_known_gain_and_dark_frames_are_kept(self, cell):
        frames = shots(cell, 2, 4, 100, 2)
        dark = dark_of([frame.numpy() for frame in shots(0 * cell, 2, 4, 100, 3, seed=5)])
        assert dark == pytest.approx((100, 16), rel=0.05)
        law = estimate_counts_noise([frames], a=2.0, dark=dark)
        assert law.a == 2
        assert law.b == pytest.approx(16 - 200, rel=0.02)
        assert estimate_counts_noise([frames], dark=dark).a == pytest.approx(2, rel=0.15)

    @pytest.mark.parametrize("page", [np.zeros((64, 64)), np.full((64, 64), np.nan)])
    def test_nothing_is_found_where_there_is_none(self, page):
        assert estimate_counts_noise([[torch.from_numpy(page)]]) is None

    def test_tiny_pages_have_none(self):
        assert estimate_counts_noise([shots(np.full((9, 9), 50.0), 1, 1, 0)]) is None


class TestScale:
    @pytest.mark.parametrize("light", [5, 30, 300, 30000])
    @pytest.mark.parametrize(("gain", "read", "pedestal"), [(1, 1.5, 0), (3, 6, 200)])
    def test_noise_has_the_standard_deviation_one_and_no_bias(self, light, gain, read, pedestal):
        law = CountsNoise(a=gain, b=read**2 - gain * pedestal)
        rng = np.random.default_rng(0)
        noisy = rng.poisson(light, 400_000) * gain + rng.normal(0, read, 400_000) + pedestal
        stabilised = law.stabilise(torch.from_numpy(noisy))
        assert float(stabilised.std()) == pytest.approx(1, abs=0.05)
        back = float(law.unstabilise(stabilised.mean()))
        assert back == pytest.approx(light * gain + pedestal, abs=0.02 * gain * light**0.5)

    def test_without_a_slope_it_is_linear(self):
        law = CountsNoise(a=0, b=4)
        values = torch.tensor([-5.0, 0, 7])
        assert torch.equal(law.stabilise(values), values / 2)
        assert torch.equal(law.unstabilise(values / 2), values)

    @pytest.mark.parametrize(("a", "b"), [(0, 0), (-1, 5), (np.nan, 1), (1, np.inf)])
    def test_laws_without_noise_are_refused(self, a, b):
        with pytest.raises(ValueError, match="needs"):
            CountsNoise(a=a, b=b)


class TestSignificance:
    def test_noise_alone_is_left_out(self):
        noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
        kept = keep_significant(noise, torch.zeros_like(noise))
        assert kept.std() < 0.2

    def test_what_a_network_removed_comes_back(self):
        noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
        y, x = torch.meshgrid(*[torch.arange(256.0) - 128] * 2, indexing="ij")
        star = 5 * torch.exp(-(y**2 + x**2) / 4)
        kept = keep_significant(noise + star, torch.zeros_like(noise))[0, 0]
        inside = y**2 + x**2 < 36
        lost = ((noise[0, 0] + star)[inside].sum() - kept[inside].sum()) / star.sum()
        assert abs(lost) < 0.1

    def test_the_level_of_a_region_stays(self):
        noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
        kept = keep_significant(noise + 3, torch.zeros_like(noise))
        assert abs(kept.mean() - (noise + 3).mean()) < 0.01

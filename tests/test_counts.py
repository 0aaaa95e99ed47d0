"""The noise of counts: its law, the scale without it, and what is significant."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import torch

from amsnet_cli.inference.denoise_counts import CountsOptions, denoise_counts
from amsnet_cli.inference.stack_noise import dark_of, light_alone
from amsnet_cli.model import load_model
from amsnet_cli.noise.counts import CountsNoise, estimate_counts_noise
from amsnet_cli.postprocess.significant import keep_significant, keep_unexplained


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

    def test_what_noise_explains_stays_away(self):
        noise = torch.randn(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
        assert keep_unexplained(noise, torch.zeros_like(noise)).std() < 0.1

    def test_what_is_stronger_than_noise_comes_back(self):
        noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        spot = torch.zeros_like(noise)
        spot[..., 30:34, 30:34] = 20
        kept = keep_unexplained(noise + spot, torch.zeros_like(noise))
        assert (kept - spot)[..., 30:34, 30:34].abs().mean() < 1.5


class TestPages:
    """What a page must not lose, whatever is in it."""

    model = None

    @pytest.fixture(autouse=True)
    def photo(self):
        TestPages.model = TestPages.model or load_model("photo")

    def denoised(self, page: np.ndarray, **options: object) -> np.ndarray:
        law = estimate_counts_noise([[torch.from_numpy(page.astype(float))]])
        return denoise_counts(page, law, self.model, CountsOptions(**options))

    @pytest.mark.parametrize("brightness", [1, 30])
    def test_bright_spots_are_not_worse_than_noisy(self, brightness):
        rng = np.random.default_rng(0)
        y, x = np.mgrid[:192, :192]
        light = np.full((192, 192), 5.0 * brightness)
        for row, column, power in rng.uniform((0, 0, 0), (192, 192, 2.4), (60, 3)):
            spot = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 8)
            light += brightness * 10**power * spot
        noisy = rng.poisson(light) + rng.normal(0, 2, light.shape) + 100
        clean = self.denoised(noisy) - 100
        error, before = (np.square(p - light) / (light + 4) for p in (clean, noisy - 100))
        assert error.mean() < 0.5 * before.mean()
        bright = light > np.quantile(light, 0.98)
        assert error[bright].mean() < 1.3 * before[bright].mean()

    def test_values_that_stand_for_something_stay_and_spread_nothing(self):
        page = np.random.default_rng(0).poisson(100, (128, 128)).astype(np.float32)
        law = CountsNoise(a=1.0, b=0.0)
        plain = denoise_counts(page, law, self.model)
        page[5, 5], page[60, 60] = 3.4e38, -1e30
        clean = denoise_counts(page, law, self.model)
        assert clean[5, 5] == page[5, 5]
        assert clean[60, 60] == page[60, 60]
        others = np.ones(page.shape, bool)
        others[2:9, 2:9] = others[57:64, 57:64] = False
        assert np.abs(clean - plain)[others].max() < 2

    def test_a_picture_without_noise_has_no_law(self):
        ramp = np.tile(np.arange(128.0) * 10, (128, 1))
        assert estimate_counts_noise([[torch.from_numpy(ramp)]]) is None

    @pytest.mark.parametrize("level", [300, 2000])
    def test_saturated_parts_do_not_hide_the_noise(self, level):
        light = np.where(np.arange(256) > 128, level, 20) * np.ones((256, 256))
        page = np.random.default_rng(0).poisson(light).clip(0, 255)
        law = estimate_counts_noise([[torch.from_numpy(light_alone(page))]])
        assert float(law.variance(torch.tensor(20.0))) == pytest.approx(20, rel=0.2)

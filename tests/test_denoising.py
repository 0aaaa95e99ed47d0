from __future__ import annotations

from dataclasses import fields, replace

import cv2
import numpy as np
import psutil
import pytest
import skimage.data
import torch
import torch.nn.functional as F

from amsnet_cli.core.networks import LIGHT, CompactUNetConfig
from amsnet_cli.errors import DeviceError, PhotoError, UsageError, WeightsError
from amsnet_cli.inference.denoise import DenoiseOptions, denoise, resolve_options
from amsnet_cli.inference.memory import (
    RELEASES_VALUES,
    PeakMemory,
    cgroup_headrooms,
    release_memory,
    release_values,
)
from amsnet_cli.inference.noise_estimate import photo_noise_level
from amsnet_cli.model import Inference, Model, ModelConfig, build_network, load_model
from amsnet_cli.photos.geometry import upright
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.postprocess.config import PostprocessConfig
from amsnet_cli.research.evaluation import psnr
from amsnet_cli.weights.store import find_weights


@pytest.fixture(scope="module")
def default() -> Model:
    return load_model(find_weights(None))


@pytest.fixture(scope="module")
def untold() -> Model:
    """A network that is not told the noise, and has learned nothing."""
    torch.manual_seed(0)
    config = ModelConfig(network=LIGHT)
    return Model(network=build_network(config).eval(), config=config, name="untold")


@pytest.fixture
def tiny(tiny_model) -> Model:
    return load_model(tiny_model)


def test_the_default_removes_white_noise(default, noisy_crop, clean_crop):
    after = denoise(Photo(pixels=noisy_crop), default).photo.pixels
    assert psnr(noisy_crop, clean_crop) < 20.8
    assert psnr(after, clean_crop) > 27


@pytest.mark.parametrize("options", [DenoiseOptions(), DenoiseOptions(n_masks=4, repeats=1)])
def test_a_16_bit_photo_is_denoised_beyond_8_bits(default, noisy_crop, options):
    eight = Photo(pixels=noisy_crop)
    sixteen = Photo(pixels=noisy_crop.astype(np.uint16) * 257)
    a, b = (denoise(p, default, options).photo.pixels for p in (eight, sixteen))
    assert b.dtype == np.uint16
    assert np.abs(a - b / 257).max() <= 0.51
    assert np.unique(b).size > 2000


@pytest.mark.parametrize("options", [DenoiseOptions(), DenoiseOptions(n_masks=2, refine=0.16)])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 47), (500, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_keeps_its_shape(default, options, size, channels):
    pixels = np.random.default_rng(0).integers(0, 255, (*size, channels), np.uint8)
    alpha = pixels[..., 0].copy()
    after = denoise(Photo(pixels=pixels, alpha=alpha), default, options).photo
    assert after.pixels.shape == pixels.shape
    assert after.alpha is alpha


def test_float_photos_keep_values_beyond_one(default):
    rng = np.random.default_rng(0)
    pixels = (3 + rng.normal(0, 0.05, (40, 40, 3))).astype(np.float32)
    pixels[:20] = -0.5
    after = denoise(Photo(pixels=pixels), default).photo.pixels
    assert after.dtype == np.float32
    assert after[25:].mean() == pytest.approx(3, abs=0.1)
    assert after[:15].mean() == pytest.approx(-0.5, abs=0.1)


class TestNoise:
    @pytest.mark.parametrize("sigma", [8, 60])
    @pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
    def test_white_noise_is_told_from_noise_that_pixels_share(self, default, name, sigma):
        clean = np.asarray(getattr(skimage.data, name)()[:384, :384], np.float32)
        noise = np.random.default_rng(0).normal(0, 1, clean.shape)
        for softness, white in ((0, True), (0.8, False), (1.5, False)):
            soft = cv2.GaussianBlur(noise, (0, 0), softness) if softness else noise
            pixels = (clean + sigma * soft / soft.std()).round().clip(0, 255).astype(np.uint8)
            for photo in (Photo(pixels=pixels), Photo(pixels=pixels.astype(np.uint16) * 257)):
                resolved = resolve_options(photo, default, DenoiseOptions())
                assert resolved.noise.is_white == white, softness

    def test_the_result_says_how_much_noise_there_was(self, default, noisy_crop):
        result = denoise(Photo(pixels=noisy_crop), default)
        assert result.noise_before == photo_noise_level(Photo(pixels=noisy_crop)) > 20
        assert result.noise_after == photo_noise_level(result.photo) < 5

    @pytest.mark.parametrize("factor", [1e-3, 1e3])
    def test_noise_before_and_after_are_on_one_scale(self, default, noisy_crop, factor):
        expected = denoise(Photo(pixels=noisy_crop), default)
        pixels = (noisy_crop / np.float32(255 / factor)).astype(np.float32)
        result = denoise(Photo(pixels=pixels), default)
        share = result.noise_after / result.noise_before
        # 8 bits add the noise of rounding.
        assert share == pytest.approx(expected.noise_after / expected.noise_before, rel=0.25)
        in_units = [photo_noise_level(photo, scale=result.noisy) for photo in
                    (result.noisy, result.photo)]  # fmt: skip
        assert [result.noise_before, result.noise_after] == in_units


class TestStrength:
    def test_zero_is_the_photo_itself(self, tiny, noisy_crop):
        after = denoise(Photo(pixels=noisy_crop), tiny, DenoiseOptions(strength=0)).photo
        assert np.array_equal(after.pixels, noisy_crop)

    def test_between_is_linear(self, tiny, noisy_crop):
        photo = Photo(pixels=(noisy_crop / np.float32(255)).astype(np.float32))
        full = denoise(photo, tiny, DenoiseOptions(strength=1)).photo.pixels
        half = denoise(photo, tiny, DenoiseOptions(strength=0.5)).photo.pixels
        assert np.allclose(half, (full + photo.pixels) / 2, atol=1e-6)


class TestSeed:
    def test_same_seed_same_bytes_whatever_was_drawn_before(self, tiny, noisy_crop):
        photo = Photo(pixels=noisy_crop)
        torch.manual_seed(1)
        first = denoise(photo, tiny, DenoiseOptions(seed=3)).photo.pixels
        torch.manual_seed(2)
        assert np.array_equal(first, denoise(photo, tiny, DenoiseOptions(seed=3)).photo.pixels)
        assert not np.array_equal(first, denoise(photo, tiny, DenoiseOptions(seed=4)).photo.pixels)


@pytest.mark.parametrize(
    "inference",
    [Inference(), Inference(passes="multi", n_masks=4, stride=1), Inference(passes="multi")],
)
def test_tiles_leave_no_seam(default, inference):
    """Tiled equals untiled within one step of an 8-bit picture nearly everywhere."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0.2, 0.8, 400 * 300 * 3).reshape(400, 300, 3)
    noisy = Photo(pixels=(ramp + rng.normal(0, 0.05, ramp.shape)).clip(0, 1).astype(np.float32))
    model = replace(default, config=replace(default.config, inference=inference))
    whole, tiled = (
        denoise(noisy, model, DenoiseOptions(strength=1, tile=tile)).photo.pixels
        for tile in (2000, 264)
    )
    difference = np.abs(whole - tiled) * 255
    assert not np.array_equal(whole, tiled)
    assert difference.mean() < 0.1
    assert difference.max() < 3


def noise_that_pixels_share(dtype=np.uint8) -> Photo:
    """So that all that looks at the pixels around is at work."""
    noisy = torch.from_numpy(noisy_ramp(136, 96, np.uint16) / 65535).permute(2, 0, 1)
    shared = F.avg_pool2d(noisy, 2, stride=1).permute(1, 2, 0).numpy()
    return Photo(pixels=(shared * np.iinfo(dtype).max).astype(dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_parts_of_the_post_processing_leave_no_seam(default, dtype, monkeypatch):
    photo = noise_that_pixels_share(dtype)
    whole = denoise(photo, default).photo.pixels.astype(int)
    monkeypatch.setattr("amsnet_cli.postprocess.pipeline.PIXELS_AT_A_TIME", {"cpu": 16 * 96})
    assert np.abs(denoise(photo, default).photo.pixels - whole).max() <= (dtype == np.uint16)


NO_STAGE = PostprocessConfig.none()
STAGES = [field.name for field in fields(PostprocessConfig) if field.type == "bool"]


class TestStages:
    """Each stage of the post-processing can be switched off."""

    def after(self, model, **switches: bool) -> np.ndarray:
        options = DenoiseOptions(postprocess=replace(PostprocessConfig(), **switches))
        return denoise(self.photo(), model, options).photo.pixels

    def photo(self) -> Photo:
        """With noise that pixels share, under a tone curve."""
        light = noise_that_pixels_share(np.uint16).pixels / 65535
        return Photo(pixels=(65535 * light ** (1 / 2.2)).astype(np.uint16))

    def test_without_any_auto_is_the_output_of_the_network(self, untold):
        bare = denoise(self.photo(), untold, DenoiseOptions(strength=1)).photo.pixels
        assert np.array_equal(self.after(untold, **dict.fromkeys(STAGES, False)), bare)

    @pytest.mark.parametrize(
        "stage",
        ["smooth_residual_noise", "limit_sharpness", "correct_brightness"],
    )
    def test_without_one_the_result_is_another(self, default, stage):
        assert not np.array_equal(self.after(default, **{stage: False}), self.after(default))


@pytest.mark.parametrize("part", ["luma", "chroma"])
def test_half_of_a_strength_is_half_of_the_way(default, part):
    photo = noise_that_pixels_share(np.uint16)
    none, half, all_ = (
        denoise(photo, default, DenoiseOptions(**{part: share})).photo.pixels.astype(float)
        for share in (0.0, 0.5, 1.0)
    )
    assert np.abs(none - all_).max() > 1000
    assert np.abs(half - (none + all_) / 2).max() <= 2


class Broken(torch.nn.Module):
    """Gives NaN where it computes in bfloat16, as overflowing half precision does."""

    multiple = 1
    padding = "reflection"
    reach = 0
    runs_in_bfloat16 = True

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always = always
        self.convolution = torch.nn.Conv2d(4, 3, 1)

    def forward(self, x):
        y = self.convolution(x)
        return x[:, :3] + y * (torch.nan if self.always or y.dtype == torch.bfloat16 else 0)


class TestNaN:
    def test_is_computed_again_in_float32(self, tiny, noisy_crop, monkeypatch):
        monkeypatch.setattr("amsnet_cli.device.computes_bfloat16_fast", lambda device: True)
        tiny.network.network = Broken(always=False)
        options = DenoiseOptions(strength=1)
        assert denoise(Photo(pixels=noisy_crop), tiny, options).photo.pixels.std() > 0

    def test_is_never_written(self, tiny, noisy_crop):
        tiny.network.network = Broken(always=True)
        with pytest.raises(WeightsError, match="NaN"):
            denoise(Photo(pixels=noisy_crop), tiny)


class TestOptions:
    def test_a_model_of_masked_pixels_has_no_single_pass(self, tiny, noisy_crop):
        with pytest.raises(UsageError, match="use --masks 2 or more"):
            denoise(Photo(pixels=noisy_crop), tiny, DenoiseOptions(n_masks=1))

    def test_the_single_pass_has_nothing_to_repeat(self, default, noisy_crop):
        with pytest.raises(UsageError, match="single pass"):
            denoise(Photo(pixels=noisy_crop), default, DenoiseOptions(n_masks=1, repeats=3))

    def test_an_ensemble_is_of_single_passes(self, default, tiny, noisy_crop, clean_crop):
        photo, eight = Photo(pixels=noisy_crop), DenoiseOptions(ensemble=8)
        alone, together = (denoise(photo, default, o).photo for o in (DenoiseOptions(), eight))
        assert psnr(together.pixels, clean_crop) > psnr(alone.pixels, clean_crop)
        with pytest.raises(UsageError, match="use --repeats"):
            denoise(photo, tiny, eight)

    def test_masks_and_repeats_are_followed(self, noisy_crop, monkeypatch):
        calls = []

        class Counting(torch.nn.Module):
            multiple = 1
            padding = "reflection"
            reach = 0
            runs_in_bfloat16 = True

            def forward(self, x):
                calls.append(x.shape[0])
                return torch.zeros_like(x[:, :3])

        config = ModelConfig(network=CompactUNetConfig(widths=(8,), blocks=(1,)))
        network = build_network(config)
        network.network = Counting()
        model = Model(network=network, config=config, name="counting")
        photo = Photo(pixels=noisy_crop)
        for options, expected in [
            (DenoiseOptions(), [1]),
            (DenoiseOptions(n_masks=3), [4] * 3),
            (DenoiseOptions(n_masks=3, repeats=2), [4] * 6),
            (DenoiseOptions(n_masks=2, refine=0.16), [4] * 2 + [1] * 16),
        ]:
            calls.clear()
            denoise(photo, model, options)
            assert calls == expected

    def test_progress_ends_at_one(self, tiny, noisy_crop):
        shares = []
        options = DenoiseOptions(n_masks=2, repeats=2, tile=96)
        denoise(Photo(pixels=noisy_crop), tiny, options, progress=shares.append)
        assert shares == sorted(shares) and shares[-1] == 1 and len(shares) > 4


class Hungry(torch.nn.Module):
    """Asks for more memory than there is where a side is longer than `most`."""

    multiple = 8
    padding = "reflection"
    reach = 69
    runs_in_bfloat16 = True

    def __init__(self, network: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most, self.sides = network, most, []

    def forward(self, x):
        self.sides.append(max(x.shape[-2:]))
        return torch.empty(1 << 48) if self.sides[-1] > self.most else self.network(x)


def noisy_ramp(height: int, width: int, dtype=np.uint8) -> np.ndarray:
    ramp = np.linspace(0.2, 0.8, width)[None, :, None] * np.ones((height, 1, 3))
    noise = np.random.default_rng(0).normal(0, 0.03, ramp.shape)
    return ((ramp + noise) * np.iinfo(dtype).max).astype(dtype)


class TestMemory:
    def test_tiles_are_halved_where_it_runs_out_and_stay_small(self, untold):
        photo = Photo(pixels=noisy_ramp(600, 700, np.uint16))
        inference = replace(untold.config, inference=Inference(passes="single"))
        hungry = Model(network=build_network(untold.config), config=inference, name="hungry")
        hungry.network.network = Hungry(untold.network.network, 300)
        small = denoise(photo, hungry, DenoiseOptions(tile=700)).photo.pixels
        sides = hungry.network.network.sides
        assert sides[0] == 600 and 144 < max(sides[1:]) <= 300
        whole = denoise(photo, untold, DenoiseOptions(tile=700)).photo.pixels
        assert np.abs(small.astype(int) - whole).max() < 3 * 257
        assert np.abs(small.astype(int) - whole).mean() < 0.15 * 257

    def test_too_little_for_any_tile_is_an_error_with_the_way_on(self, tiny, noisy_crop):
        tiny.network.network = Hungry(tiny.network.network, 0)
        with pytest.raises(DeviceError, match="out of memory .* smaller --tile"):
            denoise(Photo(pixels=noisy_crop), tiny)

    def test_a_limit_makes_tiles_smaller_and_says_when_it_cannot_be_kept(self, untold):
        photo = Photo(pixels=noisy_ramp(1000, 1000))
        hungry = Model(network=build_network(untold.config), config=untold.config, name="h")
        hungry.network.network = network = Hungry(untold.network.network, 5000)
        denoise(photo, hungry)
        assert max(network.sides) == 1000
        network.sides.clear()
        release_memory(torch.device("cpu"))
        used = psutil.Process().memory_info().rss
        denoise(photo, hungry, DenoiseOptions(max_memory=used + 250_000_000))
        assert 144 <= max(network.sides[1:]) < 600
        with pytest.raises(DeviceError, match="allow --max-memory"):
            denoise(photo, hungry, DenoiseOptions(max_memory=used))

    @pytest.mark.slow
    def test_a_limit_is_kept_to_the_end(self, peak_memory, tmp_path):
        write_photo(Photo(pixels=noisy_ramp(8, 8)), tmp_path / "small.jpg")
        write_photo(Photo(pixels=noisy_ramp(1200, 1000)), tmp_path / "large.jpg")
        program = peak_memory("denoise", "small.jpg", "-o", "clean.jpg")
        limit = program + 250_000_000
        peak = peak_memory("denoise", "large.jpg", "-o", "large.png", "--max-memory", limit)
        print(f"{program=} {limit=} {peak=}")
        assert program < peak <= limit

    def test_peak_is_what_lives_at_a_time(self):
        with PeakMemory() as peak:
            a = torch.zeros(1000)
            for _ in range(5):
                a = a + 1
            b = torch.zeros(3, 1000).float()
            del a, b
            torch.zeros(10)
        assert peak.bytes == 4 * 4000

    @pytest.mark.skipif(not RELEASES_VALUES, reason="this system has no madvise(2)")
    def test_values_that_are_done_with_take_no_memory(self):
        values = torch.ones(1 << 22)
        before = psutil.Process().memory_info().rss
        release_values(values[1000 : (1 << 22) - 1000])
        assert before - psutil.Process().memory_info().rss > 15_000_000
        assert values[:1000].eq(1).all() and values[-1000:].eq(1).all()

    def test_the_limits_of_control_groups_count(self, tmp_path):
        def group(path: str, files: dict[str, str]) -> None:
            (tmp_path / path).mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (tmp_path / path / f"memory.{name}").write_text(text)

        assert cgroup_headrooms(tmp_path) == []
        group("proc/self", {})
        (tmp_path / "proc/self/cgroup").write_text("4:cpu:/x\n9:memory:/a/b\n0::/c/d\n")
        stat = "cache 5\ninactive_file 10\ntotal_inactive_file 30\n"
        v1 = {"limit_in_bytes": "1000\n", "usage_in_bytes": "900\n", "stat": stat}
        group("sys/fs/cgroup/memory/a", v1)
        group("sys/fs/cgroup/c", {"max": "700", "current": "500", "stat": "inactive_file 1\n"})
        group("sys/fs/cgroup/c/d", {"max": "max\n", "current": "500", "stat": "inactive_file 1\n"})
        assert cgroup_headrooms(tmp_path) == [130, 201]


class TestCrop:
    @pytest.mark.parametrize(
        "options",
        [DenoiseOptions(postprocess=NO_STAGE), DenoiseOptions(postprocess=NO_STAGE, n_masks=3)],
    )
    def test_is_what_the_whole_picture_has_there(self, default, options):
        photo = Photo(pixels=noisy_ramp(400, 381, np.uint16))
        whole = denoise(photo, default, options).photo.pixels
        for x, y, w, h in ((100, 130, 200, 150), (0, 0, 40, 400), (380, 399, 1, 1)):
            part = denoise(photo, default, replace(options, crop=(x, y, w, h))).photo.pixels
            expected = whole[y : y + h, x : x + w]
            assert part.shape == expected.shape
            assert np.abs(part.astype(int) - expected).mean() < 0.2 * 257
            assert np.abs(part.astype(int) - expected).max() < 4 * 257

    def test_means_the_upright_picture(self, tiny, noisy_crop):
        region = (11, 20, 30, 40)
        for orientation in range(1, 9):
            photo = Photo(pixels=noisy_crop, orientation=orientation)
            part = denoise(photo, tiny, DenoiseOptions(strength=0, crop=region)).photo
            shown = upright(part.pixels, orientation)
            assert np.array_equal(shown, upright(noisy_crop, orientation)[20:60, 11:41])

    @pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 0, 5), (190, 0, 5, 5), (0, 155, 5, 6)])
    def test_outside_the_picture_is_an_error(self, tiny, noisy_crop, box):
        with pytest.raises(PhotoError, match="192x160"):
            denoise(Photo(pixels=noisy_crop), tiny, DenoiseOptions(crop=box))


def test_model_settings_can_be_overridden_without_changing_the_model(tiny, noisy_crop):
    before = replace(tiny.config)
    denoise(Photo(pixels=noisy_crop), tiny, DenoiseOptions(n_masks=3, repeats=2))
    assert tiny.config == before

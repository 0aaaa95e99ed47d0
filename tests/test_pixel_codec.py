"""The working range of float and wide pictures: far values, no data, scales, 12 of 16 bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from amsnet_cli import find_weights, load_model
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.photos import colour
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec, with_depth
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo


@pytest.fixture(scope="module")
def model():
    return load_model(find_weights("photo"))


@pytest.fixture(scope="module")
def clean(clean_crop):
    return clean_crop[:, :160].astype(np.float64) / 255


@pytest.fixture(scope="module")
def noisy(clean):
    noise = np.random.default_rng(0).normal(0, 0.06, clean.shape)
    return (clean + noise).clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def expected(noisy, model):
    return denoise(Photo(pixels=noisy), model).photo.pixels


def error(result: np.ndarray, clean: np.ndarray, where: np.ndarray | None = None) -> float:
    """PSNR in dB."""
    square = (result.astype(np.float64) - clean) ** 2
    return float(-10 * np.log10(square[where].mean() if where is not None else square.mean()))


class TestFarValues:
    @pytest.mark.parametrize("far", [30.0, 1000.0, 1e5, -9999.0, -3.4e38, np.inf, -np.inf, np.nan])
    def test_one_pixel_changes_nothing_but_itself(self, noisy, clean, expected, model, far):
        pixels = noisy.copy()
        pixels[70, 90] = far
        result = denoise(Photo(pixels=pixels), model).photo.pixels
        assert np.array_equal(result[70, 90], pixels[70, 90], equal_nan=True)
        others = np.ones(clean.shape, bool)
        others[60:81, 80:101] = False
        assert error(result, clean, others) == pytest.approx(
            error(expected, clean, others), abs=0.02
        )
        near = ~others
        near[70, 90] = False
        assert error(result, clean, near) > error(expected, clean, near) - 2

    @pytest.mark.parametrize("far", [-9999.0, -3.4e38, np.nan, 1e20])
    def test_large_areas_of_no_data_stay_and_spread_nowhere(
        self, noisy, clean, expected, model, far
    ):
        pixels = noisy.copy()
        pixels[:, :60], pixels[100:120, 80:] = far, far
        known = np.ones(clean.shape, bool)
        known[:, :60], known[100:120, 80:] = False, False
        result = denoise(Photo(pixels=pixels), model).photo.pixels
        assert np.array_equal(result[~known], pixels[~known], equal_nan=True)
        assert error(result, clean, known) > error(expected, clean, known) - 0.25

    def test_a_picture_of_nothing_stays_as_it_is(self, model):
        for value in (np.nan, -9999.0, 0.0, 500.0):
            pixels = np.full((64, 64, 3), value, np.float32)
            result = denoise(Photo(pixels=pixels), model).photo.pixels
            assert np.allclose(result, pixels, rtol=1e-5, equal_nan=True)

    def test_through_files_and_the_command_line(self, amsnet, noisy, expected, tmp_path):
        pixels = noisy.copy()
        pixels[5, 5], pixels[9, 9] = np.nan, -9999
        tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb", metadata=None)
        for strength in ("auto", "0"):
            out = tmp_path / f"{strength}.tif"
            call = ["denoise", tmp_path / "x.tif", "-o", out, "-w", "photo", "--strength", strength]
            result = amsnet(*call)
            assert result.exit_code == 0, result.stderr
            written = tifffile.imread(out)
            assert np.isnan(written[5, 5]).all() and (written[9, 9] == -9999).all()
            assert np.isnan(written).sum() == 3
            reference = expected if strength == "auto" else noisy
            assert np.abs(written[20:] - reference[20:]).max() < 0.02
        eight = tmp_path / "x.png"
        assert amsnet(*call[:2], "-o", eight, "-w", "photo", "--depth", 8).exit_code == 0


class TestScales:
    @pytest.mark.parametrize("scale", [1e-3, 1e-1, 1e2, 1e5])
    def test_the_same_noise_at_any_scale_is_denoised_as_well(
        self, noisy, clean, expected, model, scale
    ):
        pixels = (noisy * scale).astype(np.float32)
        result = denoise(Photo(pixels=pixels), model).photo.pixels
        assert error(result / scale, clean) == pytest.approx(error(expected, clean), abs=0.1)

    def test_so_it_is_above_a_pedestal(self, noisy, clean, expected, model):
        pixels = noisy * np.float32(100) + np.float32(1000)
        result = denoise(Photo(pixels=pixels), model).photo.pixels
        unit = (result.astype(np.float64) - 1000) / 100
        assert error(unit, clean) == pytest.approx(error(expected, clean), abs=0.1)

    @pytest.mark.parametrize("bits", [10, 12, 14])
    def test_few_bits_in_16_denoise_as_the_full_range(self, noisy, clean, model, bits):
        largest = 2**bits - 1
        few = np.rint(noisy * largest).astype(np.uint16)
        few[0, 0] = largest
        full = np.rint(few * (65535 / largest)).astype(np.uint16)
        results = [denoise(Photo(pixels=p), model).photo.pixels for p in (few, full)]
        assert error(results[0] / largest, clean) == pytest.approx(
            error(results[1] / 65535, clean), abs=0.1
        )

    def test_a_profile_says_that_1_is_white(self):
        dark = np.linspace(0, 0.1, 300, dtype=np.float32).reshape(10, 10, 3)
        assert PixelCodec.of(Photo(pixels=dark)).high == pytest.approx(0.1)
        for photo in (
            Photo(pixels=dark, icc=colour.srgb_profile()),
            Photo(pixels=dark, icc=colour.linear_rec2020_profile()),
            Photo(pixels=dark, bits=16),
            Photo(pixels=dark * 9),
        ):
            assert (PixelCodec.of(photo).low, PixelCodec.of(photo).high) == (0, 1)


@given(st.lists(st.floats(width=32), min_size=3, max_size=60))
def test_any_values_are_seen_near_the_unit_range_and_come_back(values):
    pixels = np.array(values[: len(values) // 3 * 3], np.float32).reshape(1, -1, 3)
    for icc in (None, colour.linear_rec2020_profile()):
        codec = PixelCodec.of(Photo(pixels=pixels, icc=icc))
        seen = codec.decode(pixels)
        assert np.isfinite(seen).all() and seen.min() >= -0.3 and seen.max() <= 1.3
        with np.errstate(over="ignore"):
            back = codec.restore(codec.encode(seen.copy()), pixels)
        span = codec.high - codec.low
        tolerance = 1e-4 * span if icc is None else 1e-2 * span
        assert np.allclose(back, pixels, rtol=1e-3, atol=tolerance, equal_nan=True)


def test_nan_becomes_black_where_integers_are_written(tmp_path):
    pixels = np.array([[[np.nan], [np.inf], [-np.inf], [0.5]]], np.float32)
    assert with_depth(Photo(pixels=pixels), 8).pixels.ravel().tolist() == [0, 255, 0, 128]
    write_photo(replace(Photo(pixels=pixels), bits=16), tmp_path / "x.png")
    assert read_photo(tmp_path / "x.png").pixels[0, 0, 0] == 0

"""Mosaics of RAW files, and their development: levels, colours, white balance, crop, exposure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amsnet_cli.photos import colour, dng_tags
from amsnet_cli.photos.colour import suits
from amsnet_cli.photos.formats.raw import RawOptions, develop, read, read_mosaic
from amsnet_cli.photos.mosaic import NotAMosaicError
from tests.dng_files import (
    BLACK,
    NEUTRAL,
    RGGB,
    WHITE,
    XTRANS,
    dng,
    doubles,
    exposed,
    longs,
    rationals,
    shorts,
)

X = Path("x.dng")
SIZE = (96, 108)
PATTERNS = {
    "rggb": RGGB, "grbg": RGGB[:, ::-1], "gbrg": RGGB[::-1], "bggr": RGGB[::-1, ::-1],
    "xtrans": XTRANS, "xtrans moved": np.roll(XTRANS, (1, 2), (0, 1)), "monochrome": None,
}  # fmt: skip


LARGE = np.repeat(np.linspace(0.05, 0.4, 540)[None], 516, 0)
"""LibRaw develops X-Trans from 512x512 on."""


def light_of(photo) -> np.ndarray:
    return photo.pixels if colour.is_linear(photo.icc) else colour.decode(photo.pixels)


def ramp(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.repeat(np.linspace(0.05, 0.4, size[1])[None], size[0], 0)


class TestMosaic:
    @pytest.mark.parametrize("name", PATTERNS)
    def test_values_colours_and_levels_come_as_they_are(self, name):
        pattern = PATTERNS[name]
        values = exposed(ramp(), pattern, noise=20)
        content = dng(values, pattern=pattern)
        mosaic = read_mosaic(X, content)
        assert np.array_equal(mosaic.values, values)
        assert mosaic.monochrome == (pattern is None)
        planes = mosaic.planes()
        if pattern is None:
            assert planes.shape == (3, *SIZE) and (planes == 1).all()
        else:
            expected = np.tile(pattern, (SIZE[0] // len(pattern), SIZE[1] // len(pattern[0])))
            assert np.array_equal(planes.argmax(0), expected) and (planes.sum(0) == 1).all()
            assert mosaic.neutral == pytest.approx(NEUTRAL)
            assert len(mosaic.colour_matrices) == 1
        assert (mosaic.white, mosaic.saturation) == (WHITE, WHITE)
        assert np.unique(mosaic.black).tolist() == [BLACK]
        assert (mosaic.make, mosaic.model, mosaic.iso) == ("Test", "Test One", 6400)

    @pytest.mark.parametrize("name", PATTERNS)
    def test_grey_light_is_grey_at_the_same_brightness_in_every_pattern(self, name):
        content = dng(exposed(LARGE, PATTERNS[name]), pattern=PATTERNS[name])
        light = light_of(read(X, content))[8:-8, 8:-8]
        assert np.abs(light - LARGE[8:-8, 8:-8, None]).max() < 0.01

    @pytest.mark.parametrize("name", ["rggb", "bggr", "xtrans"])
    @pytest.mark.parametrize("margins", [(4, 6), (3, 5), (8, 14)])
    def test_borders_are_apart_and_colours_count_from_the_active_area(self, name, margins):
        """LibRaw leaves out the first row and column of Bayer sensors whose borders are odd."""
        top, left = margins
        pattern, (height, width) = PATTERNS[name], LARGE.shape
        values = exposed(LARGE, pattern)
        frame = np.full((height + top + 2, width + left + 1), BLACK, np.uint16)
        frame[top : top + height, left : left + width] = values
        area = longs(top, left, top + height, left + width)
        masked = longs(0, 0, top, left + width)
        levels = np.array([[BLACK, BLACK + 1], [BLACK + 2, BLACK + 3]])
        tags = {50829: area, 50713: shorts(2, 2), 50714: shorts(*levels.ravel())}
        content = dng(frame, pattern=pattern, tags={50830: masked, **tags})
        mosaic = read_mosaic(X, content)
        y, x = mosaic.area[0] - top, mosaic.area[2] - left
        assert (y, x) == ((1, 1) if margins == (3, 5) and name != "xtrans" else (0, 0))
        assert np.array_equal(mosaic.values, values[y:, x:])
        assert np.array_equal(mosaic.frame, frame)
        assert mosaic.masked == ((0, top, 0, left + width),)
        seen = np.tile(pattern, (6, 6))[y : y + 6, x : x + 6]
        assert np.array_equal(mosaic.planes().argmax(0)[:6, :6], seen)
        assert np.array_equal(mosaic.black, np.roll(levels, (-y, -x), (0, 1)))
        light = light_of(read(X, content))
        assert light.shape[:2] == (height - y, width - x)
        assert np.abs(light - LARGE[y:, x:, None])[8:-8, 8:-8].max() < 0.01
        without = read_mosaic(X, dng(frame, pattern=pattern, tags={50829: area}))
        assert len(without.masked) == 4

    def test_black_levels_that_repeat(self):
        levels = np.array([[500, 520], [540, 512]])
        tags = {50713: shorts(2, 2), 50714: shorts(*levels.ravel())}
        content = dng(exposed(ramp(), black=levels), tags=tags)
        mosaic = read_mosaic(X, content)
        assert np.array_equal(mosaic.black, levels)
        assert np.abs(mosaic.light()[0, 1] * 1 - 0.05) < 0.01
        light = light_of(read(X, content))[8:-8, 8:-8]
        assert np.abs(light - ramp()[8:-8, 8:-8, None]).max() < 0.01

    def test_light_and_back_is_exact(self):
        values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        tags = {50713: shorts(2, 2), 50714: rationals([512.25, 511.5, 512, 513.75])}
        mosaic = read_mosaic(X, dng(values, tags=tags))
        assert np.array_equal(mosaic.with_light(mosaic.light()).values, values)

    def test_noise_profile(self):
        values = exposed(ramp())
        assert read_mosaic(X, dng(values)).noise_profile == ()
        one = read_mosaic(X, dng(values, tags={51041: doubles(1e-4, 2e-7)}))
        assert one.noise_profile == ((1e-4, 2e-7),)
        three = read_mosaic(X, dng(values, tags={51041: doubles(1, 2, 3, 4, 5, 6)}))
        assert three.noise_profile == ((1, 2), (3, 4), (5, 6))
        assert read_mosaic(X, dng(values, tags={51041: doubles(-1, 2)})).noise_profile == ()

    def test_what_is_no_mosaic_is_said(self):
        pixels = np.repeat(exposed(ramp(), None)[..., None], 3, 2)
        content = dng(pixels.reshape(SIZE[0], -1), pattern=None)
        linear = dng(
            pixels.reshape(SIZE[0], -1), pattern=None,
            tags={256: longs(SIZE[1]), 258: shorts(16, 16, 16), 277: shorts(3), 50714: shorts(0),
                  50728: rationals([1, 1, 1]), 50721: rationals(np.eye(3), signed=True)},
        )  # fmt: skip
        assert read_mosaic(X, content).monochrome
        with pytest.raises(NotAMosaicError, match=r"x\.dng: it holds no mosaic"):
            read_mosaic(X, linear)
        assert read(X, linear).pixels.shape == (*SIZE, 3)


class TestDevelopment:
    @pytest.mark.parametrize("name", ["rggb", "xtrans", "monochrome"])
    @pytest.mark.parametrize("options", [{}, {"development": "linear"}, {"highlights": "blend"}])
    def test_its_own_mosaic_develops_into_the_same_photo(self, name, options):
        content = dng(exposed(LARGE, PATTERNS[name], noise=100), pattern=PATTERNS[name])
        mosaic, options = read_mosaic(X, content), RawOptions(**options)
        plain, again = read(X, content, options), develop(X, content, mosaic, options)
        assert np.array_equal(plain.pixels, again.pixels)
        assert (plain.icc, plain.exif) == (again.icc, again.exif)

    def test_another_mosaic_is_developed_at_the_file_s_levels(self):
        noisy = exposed(ramp(), noise=300)
        noisy[:20, :20] = 11000  # saturated below the stated white
        clean = exposed(ramp())
        content = dng(noisy)
        mosaic = read_mosaic(X, content)
        assert mosaic.saturation == 11000
        photo = develop(X, content, mosaic.with_values(clean))
        scale = (WHITE - BLACK) / (11000 - BLACK)
        light = light_of(photo)[8:-8, 8:-8]
        assert np.abs(light - scale * ramp()[8:-8, 8:-8, None]).max() < 0.01


class TestWhiteLevel:
    def test_brightness_does_not_depend_on_content(self):
        """LibRaw lowers the white level to the brightest photosite unless told not to."""
        scene = np.full(SIZE, 0.18)
        bright = scene.copy()
        bright[20:40, 20:40] = 0.85
        lamp = scene.copy()
        lamp[20:40, 20:40] = 4
        middles = [
            np.median(light_of(read(X, dng(exposed(s, noise=60))))[50:], (0, 1))
            for s in (scene, bright, lamp)
        ]
        assert np.ptp(middles, 0).max() < 0.002
        assert middles[0] == pytest.approx(0.18, abs=0.003)

    @pytest.mark.parametrize("level", [0.55, 0.69, 0.9])
    @pytest.mark.parametrize("spread", [0, 8])
    def test_saturated_photosites_below_the_stated_level_are_white(self, level, spread):
        clips = round(BLACK + level * (WHITE - BLACK))
        light = ramp()
        light[20:60, 20:60] = 3
        values = exposed(light, noise=60, sensor_white=clips).astype(int)
        wobble = np.random.default_rng(1).integers(-spread, spread + 1, values.shape)
        values[values == clips] += wobble[values == clips]
        content = dng(values)
        assert read_mosaic(X, content).saturation == pytest.approx(clips, abs=spread)
        white = light_of(read(X, content))[28:52, 28:52]
        assert white.min() > 0.99, "neither pink nor grey"

    def test_only_green_saturated(self):
        light = ramp()
        light[20:60, 20:60] = 1.0
        clips = round(BLACK + 0.8 * (WHITE - BLACK))
        assert read_mosaic(X, dng(exposed(light, noise=60, sensor_white=clips))).saturation == clips

    def test_flat_areas_without_noise_are_no_saturation(self):
        light = np.full(SIZE, 0.8)
        assert read_mosaic(X, dng(exposed(light))).saturation == WHITE

    def test_a_few_defective_photosites_are_no_saturation(self):
        values = exposed(ramp(), noise=60)
        values[::31, ::31] = 12000
        assert read_mosaic(X, dng(values)).saturation == WHITE


class TestTags:
    def test_baseline_exposure(self):
        light = ramp()
        light[:30, :30] = 4
        for stops in (0.5, -0.7):
            tags = {dng_tags.BASELINE_EXPOSURE: rationals([stops], signed=True)}
            content = dng(exposed(light), tags=tags)
            dark = light_of(read(X, content))[60, 10:30].mean((0, 1))
            assert dark == pytest.approx(light[60, 10:30].mean() * 2**stops, rel=0.02)
            blown = light_of(read(X, content))[8:22, 8:22]
            assert blown.min() > 0.99 and blown.max() < 1.001
        linear = light_of(read(X, content, RawOptions(development="linear")))
        assert linear[8:22, 8:22].mean() == pytest.approx(2**-0.7, rel=0.01)

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_default_crop(self, orientation):
        light = ramp()
        light[:40] += 0.3
        tags = {
            274: shorts(orientation),
            50719: rationals([10, 20]), 50720: rationals([60, 50]),
        }  # fmt: skip
        content = dng(exposed(light), tags=tags)
        photo = read(X, content)
        turned = orientation >= 5
        assert photo.pixels.shape[:2] == ((60, 50) if turned else (50, 60))
        expected = light[20:70, 10:70]
        if turned:
            expected = expected.T
        if orientation in (3, 4, 7, 8):
            expected = expected[::-1]
        if orientation in (2, 3, 6, 7):
            expected = expected[:, ::-1]
        assert np.abs(light_of(photo) - expected[..., None]).mean() < 0.01
        mosaic = read_mosaic(X, content)
        assert (mosaic.crop, mosaic.orientation) == ((20, 70, 10, 70), orientation)

    def test_a_crop_outside_is_not_believed(self):
        tags = {50719: longs(90, 90), 50720: longs(60, 50)}
        assert read(X, dng(exposed(ramp()), tags=tags)).pixels.shape[:2] == SIZE

    def test_a_monochrome_sensor_gives_grey_with_a_grey_profile(self):
        content = dng(exposed(ramp(), None), pattern=None)
        for development in ("auto", "camera", "linear"):
            photo = read(X, content, RawOptions(development=development))
            assert photo.pixels.shape == (*SIZE, 1) and photo.notes == ()
            assert photo.icc and suits(photo.icc, 1)
            assert colour.is_linear(photo.icc) == (development == "linear")
            assert np.abs(light_of(photo)[..., 0] - ramp()).max() < 0.001

    def test_white_balance_told_as_chromaticity(self):
        content = dng(exposed(ramp()), neutral=None, tags={50729: rationals([0.3127, 0.3290])})
        for development in ("auto", "camera"):
            photo = read(X, content, RawOptions(development=development))
            assert photo.notes == ()
            light = light_of(photo)[8:-8, 8:-8]
            assert np.abs(light - ramp()[8:-8, 8:-8, None]).max() < 0.01
        assert read_mosaic(X, content).neutral == pytest.approx(NEUTRAL, abs=0.002)

    def test_two_matrices_are_weighed_by_the_colour_temperature(self):
        """At A the first holds, at D65 the second, between them the reciprocal temperature."""
        first, second = np.eye(3) * [1, 2, 4], np.eye(3)
        a, d65 = (0.44757, 0.40745), (0.31271, 0.32902)

        def neutral(white):
            tags = {
                50721: rationals(first, signed=True), 50778: shorts(17),
                50722: rationals(second, signed=True), 50779: shorts(21),
                50729: rationals(white),
            }  # fmt: skip
            return np.array(read_mosaic(X, dng(exposed(ramp()), neutral=None, tags=tags)).neutral)

        def seen(white, matrix):
            x, y = white
            values = matrix @ [x / y, 1, (1 - x - y) / y]
            return values / values.max()

        assert neutral(a) == pytest.approx(seen(a, first), abs=0.01)
        assert neutral(d65) == pytest.approx(seen(d65, second), abs=0.01)
        between = (0.3805, 0.3768)  # 4000 K
        share = (1 / 4000 - 1 / 6504) / (1 / 2856 - 1 / 6504)
        mixed = share * first + (1 - share) * second
        assert neutral(between) == pytest.approx(seen(between, mixed), abs=0.02)

from __future__ import annotations

import json

import numpy as np
import pytest
import skimage.data
import torch
from scipy.special import erf

from amsnet_cli.inference.denoise import DenoiseOptions, denoise
from amsnet_cli.inference.hot_pixels import mend_hot_pixels
from amsnet_cli.model import load_model
from amsnet_cli.noise.hot_pixels import find_hot_pixels
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo

FWHM_TO_SIGMA = (8 * np.log(2)) ** -0.5


def hot_photo(sigma: float, excess: int, *, channels: int = 3, seed: int = 0):
    """A dim photo with a hot pixel in every 20 by 20; one channel each."""
    rng = np.random.default_rng(seed)
    clean = np.linspace(20, 60, 160)[:, None, None] + np.zeros((160, 200, channels))
    noisy = clean + rng.normal(0, sigma, clean.shape)
    places = [(y, x, (x // 20) % channels) for y in range(9, 160, 20) for x in range(9, 200, 20)]
    for place in places:
        noisy[place] += excess
    return noisy.round().clip(0, 255).astype(np.uint8), clean, places


class TestMend:
    @pytest.mark.parametrize(("channels", "sigma"), [(1, 1.2), (3, 2), (3, 5)])
    def test_hot_pixels_become_like_their_neighbours(self, channels, sigma):
        pixels, clean, places = hot_photo(sigma, 170, channels=channels)
        before = pixels.copy()
        mended, count = mend_hot_pixels(Photo(pixels=pixels))
        assert count >= 0.95 * len(places)
        assert (pixels == before).all(), "the input is left as it is"
        changed = {tuple(p) for p in np.argwhere(mended.pixels != pixels).tolist()}
        assert changed <= set(places) and len(changed) == count
        errors = np.array([mended.pixels[p] - clean[p] for p in changed])
        assert np.abs(errors).max() < 3 * sigma

    def test_in_place_they_come_back(self):
        """`amsnet denoise` copies no photo for the sake of hot pixels, and returns the same."""
        pixels, *_ = hot_photo(3, 170)
        before, model = pixels.copy(), load_model("photo")
        copied = denoise(Photo(pixels=pixels), model)
        in_place = denoise(Photo(pixels=pixels), model, in_place=True)
        assert copied.hot_pixels == in_place.hot_pixels > 0
        assert (copied.photo.pixels == in_place.photo.pixels).all()
        assert in_place.noisy.pixels is pixels and (pixels == before).all()
        with pytest.raises(ZeroDivisionError):
            denoise(Photo(pixels=pixels), model, in_place=True, progress=lambda share: 1 // 0)
        assert (pixels == before).all()

    @pytest.mark.parametrize("dtype", [np.uint16, np.float32])
    def test_depths_and_photos_of_several_parts(self, dtype):
        pixels, _, places = hot_photo(1, 180, channels=1)
        scale = {np.uint16: 257, np.float32: 1 / 255}[dtype]
        many = np.tile(pixels, (4, 30, 1)).astype(dtype) * dtype(scale)
        mended, count = mend_hot_pixels(Photo(pixels=many, bits=16))
        assert mended.pixels.dtype == dtype and count >= 0.95 * len(places) * 120
        assert (mended.pixels == many).sum() == many.size - count

    def test_float_pictures_keep_what_is_far_beyond_the_others(self):
        pixels = hot_photo(1, 0)[0].astype(np.float32) / 255
        pixels[40, 50, 1], pixels[60, 70, 0], pixels[80, 90, 2] = 1000, 0.9, np.inf
        pixels[120, 100:110] = pixels[122, 104, 0] = np.nan
        mended, count = mend_hot_pixels(Photo(pixels=pixels, bits=16))
        assert count == 1 and mended.pixels[60, 70, 0] < 0.3
        np.testing.assert_array_equal(np.delete(mended.pixels, 60, 0), np.delete(pixels, 60, 0))

    def test_without_any_the_photo_is_the_same(self, noisy_crop):
        photo = Photo(pixels=noisy_crop)
        assert mend_hot_pixels(photo) == (photo, 0)

    def test_an_image_smaller_than_its_neighbourhood(self):
        for size in (1, 8, 9):
            assert not len(find_hot_pixels(torch.rand(3, size, size)))


class TestWhatStays:
    @pytest.mark.parametrize(
        "name", ["astronaut", "camera", "page", "text", "checkerboard", "hubble_deep_field",
                 "moon", "coffee", "rocket", "logo", "clock", "colorwheel"],
    )  # fmt: skip
    def test_pictures(self, name):
        picture = np.atleast_3d(getattr(skimage.data, name)())[..., :3]
        photo = Photo(pixels=np.ascontiguousarray(picture))
        assert mend_hot_pixels(photo)[1] == 0

    def test_graphics_with_dots(self):
        dots = np.full((60, 60, 3), 255, np.uint8)
        dots[10:50:8, 10:50:8] = 0
        dots[14:50:8, 14:50:8] = (255, 0, 0)
        for pixels in (dots, 255 - dots):
            assert mend_hot_pixels(Photo(pixels=pixels))[1] == 0

    @pytest.mark.parametrize("width", [0.7, 1.0, 0.7 / FWHM_TO_SIGMA, 2.0, 2 / FWHM_TO_SIGMA])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_stars(self, width, channels):
        """From 5 to 3000 sigma, of a full width at half maximum, or a sigma, of .7 to 2 pixels.

        The narrowest, where a pixel holds 82 % of the light, in the middle of pixels as well.
        """
        rng = np.random.default_rng(0)
        field, light = star_field(width * FWHM_TO_SIGMA, channels, rng)
        for noise in (np.ones(field.shape), np.sqrt(1 + 0.02 * field)):
            noisy = (1000 + 10 * (field + noise * rng.normal(size=field.shape))).astype(np.float32)
            photo = Photo(pixels=noisy.clip(0, 65535).round().astype(np.uint16))
            mended, _ = mend_hot_pixels(photo)
            taken = (photo.pixels.astype(float) - mended.pixels)[light > 0] / 10
            assert (taken <= 0.01 * light[light > 0]).all()


def star_field(sigma: float, channels: int, rng: np.random.Generator):
    """Stars on a black sky, and at each star's middle pixel its light; noise has sigma 1."""
    size, reach = 600, 7
    field, light = np.zeros((size, size, channels)), np.zeros((size, size, channels))
    places, edges = np.arange(12, size - 12, 15), np.arange(-reach, reach + 2) - 0.5
    for number, (y, x) in enumerate((y, x) for y in places for x in places):
        middle = rng.uniform(-0.5, 0.5, 2) if number % 2 else np.zeros(2)
        rows, columns = (np.diff(erf((edges - m) / sigma / 2**0.5)) / 2 for m in middle)
        spread = np.outer(rows, columns)[..., None]
        colour = rng.uniform(0.4, 1, channels) if channels > 1 else np.ones(1)
        star = spread / spread.max() * 10 ** rng.uniform(0.7, 3.5) * colour
        field[y - reach : y + reach + 1, x - reach : x + reach + 1] = star
        light[y, x] = star.sum((0, 1))
    return field, light


class TestDenoise:
    def test_on_by_default_and_off_by_request(self, tiny_model):
        pixels, clean, places = hot_photo(3, 180)
        photo, model = Photo(pixels=pixels), load_model(tiny_model)
        at = tuple(np.array(places).T)
        default = denoise(photo, model, DenoiseOptions(strength=0.3))
        kept = denoise(photo, model, DenoiseOptions(keep_hot_pixels=True, strength=0.3))
        assert default.hot_pixels >= 0.98 * len(places) and kept.hot_pixels == 0
        assert np.abs(default.photo.pixels[at] - clean[at]).mean() < 20
        assert np.abs(kept.photo.pixels[at] - clean[at]).mean() > 100
        assert default.noisy is photo

    def test_strength_0_keeps_the_photo(self, tiny_model):
        pixels, _, _ = hot_photo(3, 180)
        done = denoise(Photo(pixels=pixels), load_model(tiny_model), DenoiseOptions(strength=0))
        assert (done.photo.pixels == pixels).all() and done.hot_pixels == 0

    def test_a_part_is_mended_like_the_whole(self, tiny_model):
        photo, model = Photo(pixels=hot_photo(3, 180)[0]), load_model(tiny_model)
        part = denoise(photo, model, DenoiseOptions(crop=(16, 32, 60, 40), strength=1)).photo
        whole = denoise(photo, model, DenoiseOptions(strength=1)).photo
        difference = part.pixels.astype(int) - whole.pixels[32:72, 16:76]
        assert np.abs(difference).max() <= 1

    def test_the_command_says_so(self, amsnet, tmp_path, tiny_model):
        path = tmp_path / "hot.png"
        write_photo(Photo(pixels=hot_photo(2, 180)[0]), path)
        call = ["denoise", path, "-w", tiny_model, "-o"]
        result = amsnet(*call, tmp_path / "a.png", "-v")
        assert result.exit_code == 0 and "hot pixels mended: 80" in result.stderr
        assert "noise " in result.stderr and "before" in result.stderr
        kept = amsnet(*call, tmp_path / "b.png", "-v", "--keep-hot-pixels")
        assert "hot pixels" not in kept.stderr
        assert json.loads(amsnet(*call, tmp_path / "c.png", "--json").stdout)["hot_pixels"] == 80
        assert (tmp_path / "c.png").read_bytes() == (tmp_path / "a.png").read_bytes()
        assert "hot" not in amsnet(*call, tmp_path / "d.png").stderr.replace("hot.png", "")
        assert amsnet(*call, tmp_path / "e.png", "-q", "-v").exit_code == 2
        assert read_photo(tmp_path / "b.png").pixels.max() > 150

"""The default takes away noise and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageDraw, ImageFont

from amsnet_cli import find_weights, load_model, read_photo
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.model import Model
from amsnet_cli.photos.find import find_photos
from amsnet_cli.photos.photo import Photo
from amsnet_cli.research.datasets import pair_photos
from amsnet_cli.research.evaluation import psnr
from tests.conftest import SHARED


@pytest.fixture(scope="module", params=["photo"])
def photo_weights(request) -> Model:
    return load_model(find_weights(request.param))


def after(pixels: np.ndarray, model: Model) -> np.ndarray:
    return denoise(Photo(pixels=np.ascontiguousarray(pixels)), model).photo.pixels


def page(paper: tuple[int, int, int], ink: tuple[int, int, int]) -> np.ndarray:
    """A screenshot: text in several sizes, a button, a rule."""
    image = Image.new("RGB", (480, 320), paper)
    draw = ImageDraw.Draw(image)
    for i, size in enumerate((9, 11, 13, 16, 24)):
        text = f"Size {size}: the quick brown fox jumps over the lazy dog, 0123456789"
        draw.text((10, 10 + 40 * i), text, fill=ink, font=ImageFont.load_default(size))
    draw.rectangle((20, 230, 140, 262), fill=(40, 90, 200))
    draw.text((40, 238), "Continue", fill=(255, 255, 255), font=ImageFont.load_default(14))
    draw.line((0, 290, 480, 290), fill=ink)
    return np.asarray(image)


@pytest.mark.parametrize(
    ("paper", "ink"),
    [
        ((255, 255, 255), (0, 0, 0)),
        ((30, 30, 30), (220, 220, 220)),
        ((246, 244, 238), (60, 40, 20)),
    ],
)
def test_screenshots_are_left_alone(photo_weights, paper, ink):
    screenshot = page(paper, ink)
    assert psnr(after(screenshot, photo_weights), screenshot) > 50


def test_black_and_white_print_is_left_alone(photo_weights):
    print_ = (page((255, 255, 255), (0, 0, 0)).mean(2, keepdims=True) > 127) * np.uint8(255)
    assert np.array_equal(after(print_, photo_weights), print_)


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket"])
def test_clean_photos_hardly_change(photo_weights, name):
    clean = getattr(skimage.data, name)()
    small = np.asarray(Image.fromarray(clean).reduce(2))  # their own noise is gone
    assert psnr(after(small, photo_weights), small) > 42


@pytest.mark.parametrize(
    ("name", "suffix", "options"),
    [
        ("astronaut", ".jpg", {"quality": 75, "subsampling": "4:2:0"}),
        ("chelsea", ".jpg", {"quality": 75, "subsampling": "4:2:0"}),
        ("chelsea", ".jpg", {"quality": 95, "subsampling": "4:4:4"}),
        ("astronaut", ".webp", {"quality": 75}),
        ("chelsea", ".avif", {"quality": 80}),
        ("chelsea", ".heic", {"quality": 80}),
    ],
)
def test_lossy_files_of_clean_photos_get_no_worse(photo_weights, tmp_path, name, suffix, options):
    clean = getattr(skimage.data, name)()[:300, 100:400]
    file = tmp_path / f"a{suffix}"
    if suffix == ".heic":
        heif = pytest.importorskip("pillow_heif", reason="the heic extra is not installed")
        heif.from_pillow(Image.fromarray(clean)).save(file, **options)
    else:
        Image.fromarray(clean).save(file, **options)
    photo = read_photo(file)
    denoised = denoise(photo, photo_weights).photo.pixels
    assert psnr(denoised, clean) > psnr(photo.pixels, clean) - 0.05


@pytest.mark.parametrize("sigma", [3, 8, 20, 40])
@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_noise_goes_and_brightness_stays(photo_weights, name, sigma):
    clean = (30 + 0.75 * getattr(skimage.data, name)()[:320, :320]).astype(np.uint8)
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    noisy = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    denoised = after(noisy, photo_weights)
    assert psnr(denoised, clean) > psnr(noisy, clean) + (0.3 if sigma < 5 else 3)
    # Strong noise is cut off at black and white, which moves the mean of the noisy picture itself.
    drift = denoised.mean((0, 1)) - (noisy if sigma < 10 else clean).mean((0, 1))
    assert np.abs(drift).max() < (0.25 if sigma < 10 else 1.5)


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["sidd10", "sidd_val32", "renoir30", "polyu100"])
def test_no_picture_of_a_set_gets_worse(photo_weights, name):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not here")
    losses = {}
    for noisy_path, clean_path in pair_photos(SHARED / name / "noisy", SHARED / name / "clean"):
        noisy, clean = read_photo(noisy_path), read_photo(clean_path).pixels
        denoised = denoise(noisy, photo_weights).photo.pixels
        gain = psnr(denoised, clean) - psnr(noisy.pixels, clean)
        if gain < -0.05:
            losses[noisy_path.name] = round(gain, 2)
    assert not losses


@pytest.mark.realdata
def test_clean_kodak_pictures_hardly_change(photo_weights):
    folder = SHARED / "clean" / "kodak24"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    for path in find_photos(folder):
        clean = read_photo(path).pixels
        changed = after(clean, photo_weights)
        assert psnr(changed, clean) > 45, path.name
        assert np.abs(changed.mean((0, 1)) - clean.mean((0, 1))).max() < 0.25, path.name


@pytest.mark.realdata
@pytest.mark.parametrize("quality", [92, 96])
def test_fine_texture_of_clean_pictures_outlives_jpeg(photo_weights, tmp_path, quality):
    """Where it is taken for noise, single pictures lose 2 to 3 dB."""
    gains = {}
    for folder in (SHARED / "clean" / "kodak24", SHARED / "clean" / "mcmaster18"):
        if not folder.is_dir():
            pytest.skip(f"{folder} is not here")
        for path in find_photos(folder)[::3]:
            clean = read_photo(path).pixels
            Image.fromarray(clean).save(tmp_path / "a.jpg", quality=quality)
            photo = read_photo(tmp_path / "a.jpg")
            denoised = denoise(photo, photo_weights).photo.pixels
            gains[path.name] = psnr(denoised, clean) - psnr(photo.pixels, clean)
    assert min(gains.values()) > -0.8, gains
    assert np.mean([*gains.values()]) > -0.15, gains

"""What a picture was coded with shows in its pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image

from amsnet_cli import find_weights, load_model
from amsnet_cli.inference.denoise import denoise
from amsnet_cli.photos.formats.jpeg_segments import coding_of_quality
from amsnet_cli.photos.jpeg_history import estimate_quantisation_step
from amsnet_cli.photos.photo import Photo
from amsnet_cli.research.evaluation import psnr


def decoded(pixels: np.ndarray, quality: int, subsampling: str = "4:2:0") -> np.ndarray:
    file = io.BytesIO()
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[..., 0] if grey else pixels)
    image.save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file)).reshape(pixels.shape)


def near(step: float | None, quality: int) -> bool:
    return step is not None and abs(step / coding_of_quality(quality).step - 1) < 0.2


@pytest.mark.parametrize("quality", [50, 75, 85, 92, 96, 98])
@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_the_step_is_read_from_pixels(name, quality):
    pixels = getattr(skimage.data, name)()
    assert near(estimate_quantisation_step(decoded(pixels, quality)), quality)
    assert near(estimate_quantisation_step(decoded(pixels, quality, "4:4:4")), quality)


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: x[3:, 5:],
        lambda x: np.rot90(x[:-2, 7:]),
        lambda x: x[:, ::-1],
        lambda x: x[:200, :220],
        lambda x: x.astype(np.uint16) * 257,
        lambda x: x[..., 1:2],
    ],
)
def test_compression_shows_after_cropping_rotation_and_in_16_bits(changed):
    assert near(estimate_quantisation_step(changed(decoded(skimage.data.astronaut(), 85))), 85)


def test_other_pictures_have_none():
    clean = skimage.data.astronaut()
    noise = np.random.default_rng(0).normal(0, 6, clean.shape)
    resized = Image.fromarray(decoded(clean, 85)).resize((400, 400), Image.Resampling.LANCZOS)
    others = [
        clean,
        np.clip(clean + noise, 0, 255).astype(np.uint8),
        np.clip(128 + noise, 0, 255).astype(np.uint8),
        np.asarray(resized),
        np.full((200, 200, 3), 90, np.uint8),
        (clean // 16 * 16).astype(np.uint8),
        clean[:40, :60],
    ]
    assert [estimate_quantisation_step(pixels) for pixels in others] == [None] * len(others)


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_a_clean_photo_that_was_a_jpeg_gets_no_worse_in_another_format(name):
    clean = getattr(skimage.data, name)()
    pixels = decoded(clean, 96, "4:4:4")
    denoised = denoise(Photo(pixels=pixels), load_model(find_weights(None))).photo.pixels
    assert psnr(denoised, clean) > psnr(pixels, clean) - 0.05

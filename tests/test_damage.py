"""Damage that checksums, or data longer or shorter than the picture, give away."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.read import read_photo
from tests.pictures import noisy_scene


def refusals(path: Path, length: int, count: int = 40) -> int:
    """Count how often a file is refused with `length` bytes of its second half changed."""
    whole, refused = path.read_bytes(), 0
    for seed in range(count):
        rng, content = random.Random(seed), bytearray(whole)
        at = rng.randrange(len(whole) // 2, len(whole) - length)
        content[at : at + length] = rng.randbytes(length)
        path.write_bytes(content)
        try:
            read_photo(path)
        except PhotoError as error:
            assert path.name in str(error) and "\n" not in str(error)
            refused += 1
    path.write_bytes(whole)
    return refused


def test_lossy_webp_does_not_end_with_its_picture(tmp_path):
    Image.fromarray(noisy_scene()).save(tmp_path / "x.webp", quality=90)
    assert refusals(tmp_path / "x.webp", 4) >= 38


@pytest.mark.parametrize("method", [0, 4, 6])
@pytest.mark.parametrize("lossless", [False, True])
def test_whole_webp_passes(tmp_path, lossless, method):
    path = tmp_path / "x.webp"
    for height, width, quality in ((1, 1, 5), (3, 17, 50), (48, 64, 75), (48, 63, 100)):
        for alpha in (False, True):
            pixels = noisy_scene()[:height, :width]
            if alpha:
                pixels = np.dstack([pixels, pixels[..., 0]])
            image = Image.fromarray(pixels)
            image.save(path, quality=quality, method=method, lossless=lossless)
            assert read_photo(path).pixels.shape == (height, width, 3)


def test_png_is_checked_to_its_last_byte(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(noisy_scene()).save(path)
    assert refusals(path, 1) == 40
    whole = path.read_bytes()
    path.write_bytes(whole[:-200] + bytes(200))
    with pytest.raises(PhotoError, match="damaged"):
        read_photo(path)


def test_damaged_metadata_of_png_is_left_out_and_said(tmp_path):
    path = tmp_path / "x.png"
    image = Image.fromarray(noisy_scene())
    image.save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0", dpi=(300, 300))
    content = bytearray(path.read_bytes())
    content[content.index(b"pHYs") + 5] ^= 1
    path.write_bytes(content)
    photo = read_photo(path)
    assert photo.dpi is None and photo.notes == ("its resolution is damaged: left out",)
    assert np.array_equal(photo.pixels, noisy_scene())


@pytest.mark.parametrize("big", [False, True])
def test_a_directory_behind_the_end_of_a_tiff_is_damage(tmp_path, big):
    """Its entries can be read, but not where the next directory is."""
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, noisy_scene(), bigtiff=big, metadata=None)
    content = bytearray(path.read_bytes())
    directory = 16 if big else 8
    assert content[directory] > 5 and content[directory + 1] == 0, "the number of entries"
    content[directory + 1] = 60
    path.write_bytes(content)
    with pytest.raises(PhotoError, match="goes on behind the end of the file"):
        read_photo(path)


def test_a_directory_behind_the_end_of_any_file_is_damage(tmp_path):
    tifffile.imwrite(path := tmp_path / "x.tif", noisy_scene(), bigtiff=True, metadata=None)
    content = path.read_bytes()
    path.write_bytes(content[:16] + b"\xff" * 7 + b"\x0f" + content[24:])
    with pytest.raises(PhotoError, match=r"x\.tif"):
        read_photo(path)

"""Profiles, transfer curves and what files say of their colours, against LittleCMS."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from amsnet_cli.errors import OutputError, PhotoError
from amsnet_cli.photos import colour
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import PixelCodec
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import write_photo
from tests.test_round_trip import GREY_PROFILE, PROFILES, png_chunk, smooth, write_png


def to_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Convert 8-bit RGB with LittleCMS."""
    image = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    assert image is not None
    return np.asarray(image).astype(int)


class TestProfiles:
    def test_srgb_s_numbers_make_srgb(self):
        ours = colour.matrix_profile("as sRGB", colour.BT709, colour.SRGB_CURVE)
        pixels = np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)
        assert np.abs(to_srgb(pixels, ours) - pixels).max() <= 1

    def test_linear_rec2020_is_what_it_says(self):
        """Colours of sRGB, taken to linear Rec. 2020 by ITU-R BT.2087's matrix, come back."""
        bt2087 = np.array(
            [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
        )
        srgb = np.random.default_rng(0).integers(120, 256, (50, 50, 3), np.uint8)
        linear = colour.decode(srgb / np.float32(255)) @ bt2087.T
        stored = np.rint(linear * 255).clip(0, 255).astype(np.uint8)
        difference = np.abs(to_srgb(stored, colour.linear_rec2020_profile()) - srgb)
        assert difference.mean() < 0.6 and difference.max() <= 4, "8 linear bits are coarse"

    @pytest.mark.parametrize("profile", [*PROFILES.values(), colour.linear_rec2020_profile()])
    def test_littlecms_reads_them(self, profile):
        read = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        assert ImageCms.getProfileDescription(read).strip()
        assert colour.suits(profile, 3) and not colour.suits(profile, 1)

    def test_linear_is_recognised(self):
        linear = colour.linear_rec2020_profile()
        assert colour.is_linear(linear)
        assert not any(
            colour.is_linear(p) for p in (None, b"", colour.srgb_profile(), linear[:200])
        )
        assert not any(map(colour.is_linear, PROFILES.values()))

    @given(st.binary(max_size=300))
    def test_any_bytes_are_judged_without_a_crash(self, noise):
        colour.is_linear(noise)
        colour.is_linear(colour.linear_rec2020_profile()[:140] + noise)
        assert not colour.suits(noise, 3)


class TestLinearLight:
    @given(st.floats(-4, 4, width=32))
    def test_curve_and_back(self, value):
        there = colour.encode(np.array([value], np.float32))
        assert colour.decode(there)[0] == pytest.approx(value, rel=2e-6, abs=1e-8)
        assert there[0] == -colour.encode(np.array([-value], np.float32))[0]

    def test_every_16_bit_value_comes_back(self):
        pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, 2)
        photo = Photo(pixels=pixels, icc=colour.linear_rec2020_profile())
        codec = PixelCodec.of(photo)
        seen = codec.decode(photo.pixels)
        assert np.array_equal(codec.encode(seen.copy()), pixels)
        assert seen[46, 0, 0] == pytest.approx(colour.encode(np.float32(46 * 256 / 65535)))

    def test_float_beyond_white_comes_back(self):
        pixels = np.linspace(-0.2, 5, 300, dtype=np.float32).reshape(10, 10, 3)
        photo = Photo(pixels=pixels, icc=colour.linear_rec2020_profile())
        codec = PixelCodec.of(photo)
        seen = codec.decode(photo.pixels)
        assert seen.min() >= 0 and seen.max() <= 1
        assert np.allclose(codec.encode(seen), pixels, atol=1e-5)


class TestWhatFilesSay:
    @pytest.mark.parametrize(
        ("chunks", "expected"),
        [
            ({}, None),
            ({b"sRGB": b"\0", b"gAMA": struct.pack(">I", 45455)}, None),
            ({b"gAMA": struct.pack(">I", 45455)}, None),
            ({b"cICP": b"\x01\x0d\x00\x01"}, None),
            ({b"cICP": b"\x0c\x0d\x00\x01"}, PROFILES["Display P3"]),
            ({b"gAMA": struct.pack(">I", 100000)}, "linear"),
        ],
    )
    def test_png_s_own_colours_become_a_profile(self, tmp_path, chunks, expected):
        path = tmp_path / "x.png"
        pixels = smooth(np.uint8, 3)
        write_png(path, pixels, b"".join(png_chunk(*item) for item in chunks.items()))
        icc = read_photo(path).icc
        if expected == "linear":
            assert colour.is_linear(icc)
        elif expected is None:
            assert icc is None
        else:
            assert np.array_equal(to_srgb(pixels, icc), to_srgb(pixels, expected))

    @pytest.mark.parametrize("code_points", [b"\x09\x10\x00\x01", b"\x01\x0d\x00\x00"])
    def test_hdr_and_the_narrow_range_of_video_are_refused(self, tmp_path, code_points):
        write_png(tmp_path / "x.png", smooth(np.uint16, 3), png_chunk(b"cICP", code_points))
        with pytest.raises(PhotoError, match=r"x\.png: HDR or other colours"):
            read_photo(tmp_path / "x.png")

    @pytest.mark.parametrize("icc", [b"\0" * 500, GREY_PROFILE, colour.srgb_profile()[:300]])
    def test_a_wrong_profile_is_left_out_and_said(self, tmp_path, icc):
        Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jpg", icc_profile=icc)
        photo = read_photo(tmp_path / "x.jpg")
        assert photo.icc is None and "colour profile" in photo.notes[0]
        write_photo(photo, tmp_path / "y.png")

    def test_cmyk_needs_its_profile(self, tmp_path):
        Image.new("CMYK", (8, 8)).save(tmp_path / "x.jpg")
        with pytest.raises(PhotoError, match="CMYK without a colour profile"):
            read_photo(tmp_path / "x.jpg")
        Image.new("CMYK", (8, 8)).save(tmp_path / "y.tif", icc_profile=colour.srgb_profile())
        with pytest.raises(PhotoError, match="CMYK without a colour profile"):
            read_photo(tmp_path / "y.tif")

    def test_grey_with_a_profile_never_becomes_wrong_colours(self, tmp_path):
        photo = Photo(pixels=smooth(np.uint8, 1), icc=GREY_PROFILE)
        with pytest.raises(OutputError, match="grey"):
            write_photo(photo, tmp_path / "x.webp")
        for suffix in (".jpg", ".png", ".tif", ".avif"):
            write_photo(photo, tmp_path / f"x{suffix}")
            after = read_photo(tmp_path / f"x{suffix}")
            assert after.icc == GREY_PROFILE and after.pixels.shape[2] == 1

"""JPEG XL: against pylibjxl, another binding of libjxl, whole and damaged."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from amsnet_cli.errors import OutputError, PhotoError
from amsnet_cli.photos import colour
from amsnet_cli.photos.colour_model import colour_model_of
from amsnet_cli.photos.formats.jxl_header import SIGNATURE, read_header, with_colours
from amsnet_cli.photos.photo import Photo, photo_of
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import check_depth, not_kept, write_photo
from tests.test_photos import XMP, exif_block
from tests.test_round_trip import GREY_PROFILE, IPTC, PROFILES, smooth

imagecodecs = pytest.importorskip("imagecodecs", reason="the codecs extra")
pylibjxl = pytest.importorskip("pylibjxl", reason="the codecs extra")

ALL_PROFILES = {**PROFILES, "linear": colour.linear_rec2020_profile()}


def same_colours(profile: bytes, expected: bytes) -> bool:
    ours, theirs = colour_model_of(profile), colour_model_of(expected)
    return (
        np.allclose(ours.curve, theirs.curve, atol=1e-4)
        and (ours.chromaticities is None) == (theirs.chromaticities is None)
        and np.allclose(ours.chromaticities or 0, theirs.chromaticities or 0, atol=1e-4)
    )


def differ_by(a: np.ndarray, b: np.ndarray) -> int:
    """Return the largest difference; versions of libjxl round what is coded with loss by 1."""
    return int(np.abs(a.astype(int) - b).max())


class TestWriting:
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
    def test_all_comes_back(self, tmp_path, dtype, channels):
        samples = smooth(dtype, channels)
        icc = PROFILES["Adobe RGB"] if channels > 2 else GREY_PROFILE
        path = tmp_path / "x.jxl"
        write_photo(photo_of(samples, icc=icc, exif=exif_block(1), xmp=XMP), path)
        read = read_photo(path)
        assert read.samples.dtype == dtype and np.array_equal(read.samples, samples)
        assert same_colours(read.icc, icc) and read.xmp == XMP and read.exif
        other, found = pylibjxl.decode(path.read_bytes(), metadata=True)
        if dtype == np.uint8:
            assert np.array_equal(other.reshape(samples.shape), samples)
        assert found["xmp"] == XMP and b"Canon" in found["exif"]

    @pytest.mark.parametrize("name", ALL_PROFILES)
    def test_profiles_become_colours_of_the_header(self, tmp_path, name):
        path = tmp_path / "x.jxl"
        write_photo(Photo(pixels=smooth(np.uint16, 3), icc=ALL_PROFILES[name]), path)
        assert same_colours(read_photo(path).icc, ALL_PROFILES[name])

    def test_srgb_needs_no_profile(self, tmp_path):
        photo = Photo(pixels=smooth(np.uint8, 3), icc=colour.srgb_profile())
        write_photo(photo, tmp_path / "x.jxl")
        assert read_photo(tmp_path / "x.jxl").icc is None

    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_lossy_photos_stay_lossy(self, tmp_path, channels, clean_crop):
        samples = np.dstack([clean_crop, clean_crop[::-1, :, 0]])[..., -channels:]
        lossy, lossless = tmp_path / "lossy.jxl", tmp_path / "lossless.jxl"
        photo = photo_of(samples, exif=exif_block(1), xmp=XMP)
        write_photo(photo, lossless)
        write_photo(replace(photo, quantisation_step=0.0), lossy)
        assert lossy.stat().st_size < lossless.stat().st_size
        read = read_photo(lossy)
        assert read.quantisation_step == 0 and read.icc is None
        assert read.xmp == XMP and read.exif and read.samples.shape == samples.shape
        assert np.abs(read.samples.astype(int) - samples).mean() < 2.5
        if read.alpha is not None:
            assert np.array_equal(read.alpha, samples[..., -1])
        write_photo(read, tmp_path / "again.jxl")
        assert read_photo(tmp_path / "again.jxl").quantisation_step == 0

    @pytest.mark.parametrize(("dtype", "icc"), [(np.uint16, None), (np.uint8, "Display P3")])
    def test_lossy_photos_of_other_kinds_are_written_without_loss(self, tmp_path, dtype, icc):
        photo = Photo(pixels=smooth(dtype, 3), icc=icc and PROFILES[icc], quantisation_step=0.0)
        write_photo(photo, tmp_path / "x.jxl")
        read = read_photo(tmp_path / "x.jxl")
        assert np.array_equal(read.pixels, photo.pixels) and read.quantisation_step is None

    def test_rotated_photos_are_turned(self, tmp_path):
        before = Photo(pixels=smooth(np.uint8, 3), orientation=6, exif=exif_block(6))
        write_photo(before, tmp_path / "x.jxl")
        other = pylibjxl.decode((tmp_path / "x.jxl").read_bytes())
        assert np.array_equal(other, np.rot90(before.pixels, -1))
        assert read_photo(tmp_path / "x.jxl").orientation == 1

    def test_a_profile_of_tables_is_refused_before_any_work(self, tmp_path):
        bent = PROFILES["Display P3"].replace(b"para\0\0\0\0\0\3", b"para\0\0\0\0\0\1")
        photo = Photo(pixels=smooth(np.uint8, 3), icc=bent)
        with pytest.raises(OutputError, match="JPEG XL cannot hold this colour profile"):
            check_depth(photo, tmp_path / "x.jxl")

    def test_what_it_cannot_hold_is_said(self, tmp_path):
        lost = not_kept(Photo(pixels=smooth(np.uint8, 3), iptc=IPTC), tmp_path / "x.jxl")
        assert lost == ["JPEG XL has no place for its IPTC record"]


class TestReading:
    @pytest.mark.parametrize("lossless", [True, False])
    @pytest.mark.parametrize("name", [None, *ALL_PROFILES])
    def test_files_of_another_writer(self, tmp_path, name, lossless):
        pixels, icc = smooth(np.uint8, 3), ALL_PROFILES.get(name)
        content = pylibjxl.encode(pixels, lossless=lossless, icc=icc, exif=exif_block(1), xmp=XMP)
        assert b"brobExif" in content and b"brobxml " in content
        (tmp_path / "x.jxl").write_bytes(content)
        read = read_photo(tmp_path / "x.jxl")
        assert differ_by(read.pixels, pylibjxl.decode(content)) <= (0 if lossless else 1)
        assert np.abs(read.pixels.astype(int) - pixels).mean() <= (0 if lossless else 2)
        assert read.icc == icc and read.xmp == XMP and b"Canon" in read.exif

    @pytest.mark.parametrize("bits", [10, 12, 14])
    def test_fewer_bits_become_16(self, tmp_path, bits):
        pixels = smooth(np.uint16, 3) >> (16 - bits)
        content = imagecodecs.jpegxl_encode(pixels, lossless=True, bitspersample=bits)
        (tmp_path / "x.jxl").write_bytes(content)
        expected = np.rint(pixels * (65535 / ((1 << bits) - 1)))
        assert np.array_equal(read_photo(tmp_path / "x.jxl").pixels, expected)

    def test_a_jpeg_in_a_jpeg_xl_is_turned_once(self, tmp_path):
        file, icc = io.BytesIO(), PROFILES["Display P3"]
        exif = b"Exif\0\0" + exif_block(6)
        image = Image.fromarray(smooth(np.uint8, 3))
        image.save(file, "JPEG", quality=95, exif=exif, icc_profile=icc)
        (tmp_path / "x.jxl").write_bytes(pylibjxl.jpeg_to_jxl(file.getvalue()))
        read = read_photo(tmp_path / "x.jxl")
        expected = np.rot90(np.asarray(image), -1).astype(int)
        assert np.abs(read.pixels - expected).mean() < 1.5
        assert read.icc == icc and read.orientation == 1 and read.quantisation_step == 0

    @pytest.mark.parametrize("package", ["imagecodecs", "pylibjxl"])
    def test_without_the_extra_it_is_named(self, tmp_path, monkeypatch, package):
        icc = PROFILES["Display P3"]
        (tmp_path / "x.jxl").write_bytes(pylibjxl.encode(smooth(np.uint8, 3), icc=icc))
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(PhotoError, match=r'pip install "amsnet\[codecs\]"'):
            read_photo(tmp_path / "x.jxl")

    def test_hdr_is_refused(self, tmp_path):
        write_photo(Photo(pixels=smooth(np.uint8, 3), icc=PROFILES["Display P3"]),
                    tmp_path / "x.jxl")  # fmt: skip
        content = (tmp_path / "x.jxl").read_bytes()
        at = content.index(SIGNATURE, 40)
        last = read_header(content[at:]).colour_bits[1]
        # Before the intent, 2 bits: the curve, 2 bits for the form "4 bits from 2 on", and 4 bits.
        number = int.from_bytes(content[at:], "little")
        assert number >> (last - 6) & 15 == 13 - 2
        number ^= ((13 - 2) ^ (16 - 2)) << (last - 6)
        hdr = content[:at] + number.to_bytes(len(content) - at, "little")
        (tmp_path / "x.jxl").write_bytes(hdr)
        with pytest.raises(PhotoError, match=r"x\.jxl: HDR .*PQ"):
            read_photo(tmp_path / "x.jxl")


class TestDamage:
    @pytest.mark.parametrize("lossless", [True, False])
    def test_truncated_files_are_refused(self, tmp_path, lossless):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        content = pylibjxl.encode(noise, lossless=lossless, exif=exif_block(1))
        for keep in (0.02, 0.1, 0.5, 0.9, 0.99):
            (tmp_path / "x.jxl").write_bytes(content[: int(len(content) * keep)])
            with pytest.raises(PhotoError, match=r"x\.jxl"):
                read_photo(tmp_path / "x.jxl")

    def test_flipped_bytes_are_refused_or_read_as_by_the_other_reader(self, tmp_path):
        noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        content = pylibjxl.encode(noise)
        refused = 0
        for place in range(20, len(content), 7):
            damaged = bytearray(content)
            damaged[place] ^= 0x55
            (tmp_path / "x.jxl").write_bytes(damaged)
            try:
                pixels = read_photo(tmp_path / "x.jxl").pixels
            except PhotoError:
                refused += 1
            else:
                assert differ_by(pixels, pylibjxl.decode(bytes(damaged))) <= 1
        assert refused > 0.9 * len(range(20, len(content), 7))

    @given(st.binary(max_size=60))
    def test_any_header_is_read_or_refused(self, noise):
        with contextlib.suppress(ValueError, KeyError):
            read_header(SIGNATURE + noise)

    def test_colours_of_a_lossy_codestream_are_not_replaced(self):
        content = imagecodecs.jpegxl_encode(smooth(np.uint8, 3), lossless=False, distance=1.0)
        with pytest.raises(ValueError, match="cannot be replaced"):
            with_colours(content, colour_model_of(PROFILES["Display P3"]))


def test_half_transparent_colours_keep_their_meaning(tmp_path):
    before = replace(photo_of(smooth(np.uint8, 4)), fourth_channel="associated")
    write_photo(before, tmp_path / "x.jxl")
    assert read_photo(tmp_path / "x.jxl").fourth_channel == "transparency"


def test_stripped_photos_tell_nothing_but_their_colours(amsnet, tiny_model, tmp_path):
    content = pylibjxl.encode(smooth(np.uint8, 3), icc=PROFILES["Display P3"], exif=exif_block(1))
    (tmp_path / "x.jxl").write_bytes(content)
    call = ["denoise", tmp_path / "x.jxl", "-o", tmp_path / "y.jxl", "-w", tiny_model]
    assert amsnet(*call, "--strip-metadata").exit_code == 0
    read = read_photo(tmp_path / "y.jxl")
    assert read.exif is None and read.xmp is None
    assert same_colours(read.icc, PROFILES["Display P3"])
    assert b"amsnet" not in (tmp_path / "y.jxl").read_bytes()

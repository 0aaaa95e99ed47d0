"""JPEG 2000: files of imagecodecs and Pillow, read as the other reads them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.boxes import box
from amsnet_cli.photos.read import read_photo
from tests.test_photos import XMP, exif_block
from tests.test_round_trip import IPTC, PROFILES, smooth

imagecodecs = pytest.importorskip("imagecodecs", reason="the codecs extra")
UUIDS = {
    "exif": b"JpgTiffExif->JP2",
    "xmp": bytes.fromhex("be7acfcb97a942e89c71999491e3afac"),
    "iptc": bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"),
}


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_files_of_pillow(tmp_path, mode, lossless):
    channels = len(mode)
    image = Image.fromarray(smooth(np.uint8, channels).squeeze())
    image.save(tmp_path / "x.jp2", irreversible=not lossless)
    read = read_photo(tmp_path / "x.jp2")
    with Image.open(tmp_path / "x.jp2") as other:
        assert np.array_equal(read.samples.squeeze(), np.asarray(other))
    assert read.alpha is None or read.fourth_channel == "transparency"
    assert read.quantisation_step == (None if lossless else 0)


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_files_of_imagecodecs(tmp_path, channels, bits, suffix):
    pixels = smooth(np.uint16, channels) >> (16 - bits)
    pixels = pixels.astype(np.uint8) if bits == 8 else pixels
    (tmp_path / f"x.{suffix}").write_bytes(
        imagecodecs.jpeg2k_encode(pixels.squeeze(), codecformat=suffix, bitspersample=bits)
    )
    read = read_photo(tmp_path / f"x.{suffix}")
    largest = 255 if bits == 8 else 65535
    assert np.array_equal(read.pixels, np.rint(pixels * (largest / ((1 << bits) - 1))))


def test_metadata(tmp_path):
    Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jp2")
    content = (tmp_path / "x.jp2").read_bytes()
    srgb = box(b"colr", b"\1\0\0" + bytes((0, 0, 0, 16)))
    icc = box(b"colr", b"\2\0\0" + PROFILES["Adobe RGB"])
    at = content.index(b"jp2h") - 4
    size = int.from_bytes(content[at : at + 4], "big")
    header = content[at + 8 : at + size].replace(srgb, icc)
    blocks = {"exif": exif_block(6), "xmp": XMP, "iptc": IPTC}
    uuids = b"".join(box(b"uuid", UUIDS[name] + body) for name, body in blocks.items())
    (tmp_path / "x.jp2").write_bytes(
        content[:at] + box(b"jp2h", header) + uuids + content[at + size :]
    )
    read = read_photo(tmp_path / "x.jp2")
    assert read.icc == PROFILES["Adobe RGB"] and read.orientation == 6
    assert (read.exif, read.xmp, read.iptc) == (exif_block(6), XMP, IPTC)


@pytest.mark.parametrize(("space", "name"), [(12, "CMYK"), (18, "YCbCr"), (99, "other")])
def test_other_colours_are_refused(tmp_path, space, name):
    Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jp2")
    content = (tmp_path / "x.jp2").read_bytes()
    srgb, other = (b"colr\1\0\0" + bytes((0, 0, 0, number)) for number in (16, space))
    assert srgb in content
    (tmp_path / "x.jp2").write_bytes(content.replace(srgb, other))
    with pytest.raises(PhotoError, match=f"JPEG 2000 with {name}"):
        read_photo(tmp_path / "x.jp2")


def test_a_header_of_another_picture_is_damage(tmp_path):
    Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jp2")
    content = bytearray((tmp_path / "x.jp2").read_bytes())
    content[content.index(b"ihdr") + 13] = 4  # channels
    (tmp_path / "x.jp2").write_bytes(content)
    with pytest.raises(PhotoError, match="the header is of another picture"):
        read_photo(tmp_path / "x.jp2")


@pytest.mark.parametrize("suffix", ["jp2", "j2k"])
@pytest.mark.parametrize("keep", [0.005, 0.02, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path, suffix, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = imagecodecs.jpeg2k_encode(noise, codecformat=suffix)
    (tmp_path / "x.jp2").write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(PhotoError, match=r"x\.jp2"):
        read_photo(tmp_path / "x.jp2")


def test_flipped_bytes_are_refused_or_read_as_by_the_other_reader(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    content = imagecodecs.jpeg2k_encode(noise, codecformat="j2k")
    refused = 0
    for place in range(2, len(content), 5):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        (tmp_path / "x.j2k").write_bytes(damaged)
        try:
            pixels = read_photo(tmp_path / "x.j2k").pixels
        except PhotoError:
            refused += 1
        else:
            with Image.open(tmp_path / "x.j2k") as other:
                assert np.array_equal(pixels.squeeze(), np.asarray(other))
    assert refused > 5, "its header"


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    Image.fromarray(smooth(np.uint8, 3)).save(tmp_path / "x.jp2")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(PhotoError, match=r'pip install "amsnet\[codecs\]"'):
        read_photo(tmp_path / "x.jp2")

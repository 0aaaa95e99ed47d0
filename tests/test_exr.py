"""OpenEXR: against its own library, and a reader by hand for what we write."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from amsnet_cli.errors import OutputError, PhotoError
from amsnet_cli.photos import colour
from amsnet_cli.photos.colour_model import colour_model_of
from amsnet_cli.photos.photo import Photo, photo_of
from amsnet_cli.photos.pixel_codec import with_depth
from amsnet_cli.photos.read import read_photo
from amsnet_cli.photos.write import check_depth, not_kept, write_photo
from tests.test_photos import XMP, exif_block
from tests.test_round_trip import PROFILES, smooth

OpenEXR = pytest.importorskip("OpenEXR", reason="the codecs extra")
LINEAR = colour.linear_rec2020_profile()


def save(path: Path, samples: dict[str, np.ndarray], **header) -> None:
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage} | header
    with OpenEXR.File(header, samples) as file:
        file.write(str(path))


def read_by_hand(path: Path) -> dict[str, np.ndarray]:
    """Read a scanline file of float channels, plain or zipped in blocks of 16 rows."""
    content, at, header = path.read_bytes(), 8, {}
    while content[at]:
        name, kind, rest = content[at:].split(b"\0", 2)
        at += len(name) + len(kind) + 2
        (size,) = struct.unpack_from("<I", content, at)
        header[name] = content[at + 4 : at + 4 + size]
        at += 4 + size
    left, top, right, bottom = struct.unpack("<4i", header[b"dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    names, rest = [], header[b"channels"]
    while rest[0]:
        name, rest = rest.split(b"\0", 1)
        assert struct.unpack_from("<I", rest)[0] == 2, "float"
        names.append(name.decode())
        rest = rest[16:]
    blocks = 16 if header[b"compression"] == b"\3" else 1
    places = struct.unpack_from(f"<{-(-height // blocks)}Q", content, at + 1)
    rows = np.zeros((height, len(names), width), np.float32)
    for place in places:
        y, size = struct.unpack_from("<iI", content, place)
        count = min(blocks, top + height - y)
        part = content[place + 8 : place + 8 + size]
        if size != count * len(names) * width * 4:
            steps = np.frombuffer(zlib.decompress(part), np.uint8).astype(np.int64)
            steps[1:] -= 128
            halves = (np.cumsum(steps) % 256).astype(np.uint8)
            middle = (len(halves) + 1) // 2
            joined = np.empty_like(halves)
            joined[::2], joined[1::2] = halves[:middle], halves[middle:]
            part = joined.tobytes()
        rows[y - top : y - top + count] = np.frombuffer(part, "<f4").reshape(count, -1, width)
    return {name: rows[:, i] for i, name in enumerate(names)}


class TestWriting:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_linear_pixels_are_exact(self, tmp_path, channels):
        pixels = smooth(np.float32, channels)
        icc = LINEAR if channels == 3 else colour.grey_profile("Linear", (1.0,))
        path = tmp_path / "x.exr"
        texts = (("owner", "me"),)
        write_photo(Photo(pixels=pixels, icc=icc, texts=texts, dpi=(300, 300)), path)
        by_hand = read_by_hand(path)
        for i, name in enumerate("RGB" if channels == 3 else "Y"):
            assert np.array_equal(by_hand[name], pixels[..., i])
        read = read_photo(path)
        assert np.array_equal(read.pixels, pixels)
        assert colour_model_of(read.icc) == colour_model_of(icc)
        assert read.dpi == (300, 300) and read.texts == texts and not read.notes

    @pytest.mark.parametrize("icc", [None, PROFILES["Adobe RGB"]])
    def test_other_curves_become_linear(self, tmp_path, icc):
        before = with_depth(Photo(pixels=smooth(np.uint16, 3), icc=icc), 32)
        write_photo(before, tmp_path / "x.exr")
        expected = colour.decode(before.pixels) if icc is None else before.pixels ** (563 / 256)
        by_hand = read_by_hand(tmp_path / "x.exr")
        assert np.abs(np.stack([by_hand[c] for c in "RGB"], 2) - expected).max() < 1e-6
        assert colour.is_linear(read_photo(tmp_path / "x.exr").icc)

    def test_colours_are_multiplied_by_transparency(self, tmp_path):
        before = photo_of(np.abs(smooth(np.float32, 4)) / 3, icc=LINEAR)
        write_photo(before, tmp_path / "x.exr")
        read = read_photo(tmp_path / "x.exr")
        assert np.allclose(read.pixels, before.pixels * before.alpha[..., None])
        assert np.array_equal(read.alpha, before.alpha) and read.fourth_channel == "associated"
        write_photo(read, tmp_path / "y.exr")
        assert np.array_equal(read_photo(tmp_path / "y.exr").samples, read.samples)

    def test_what_it_cannot_hold_is_said_or_refused(self, tmp_path):
        photo = Photo(pixels=smooth(np.uint8, 3), exif=exif_block(), xmp=XMP)
        assert not_kept(photo, tmp_path / "x.exr") == ["OpenEXR has no place for its EXIF, XMP"]
        with pytest.raises(OutputError, match="cannot hold 8 bits.*allow more with --depth 32"):
            check_depth(photo, tmp_path / "x.exr")


class TestReading:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32])
    @pytest.mark.parametrize("kind", ["NO", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24"])
    def test_compressions(self, tmp_path, kind, dtype):
        pixels = smooth(np.float32, 3).astype(dtype)
        compression = getattr(OpenEXR, f"{kind}_COMPRESSION")
        save(tmp_path / "x.exr", {"RGB": pixels}, compression=compression)
        read = read_photo(tmp_path / "x.exr")
        assert read.pixels.dtype == np.float32
        assert np.abs(read.pixels - pixels).max() < (1e-4 if kind == "PXR24" else 1e-9)
        assert colour_model_of(read.icc).chromaticities == colour.BT709
        assert colour.is_linear(read.icc)

    def test_tiles_parts_windows_and_further_channels(self, tmp_path):
        pixels = smooth(np.float32, 3)
        depth = pixels[..., 0].copy()
        save(tmp_path / "tiled.exr", {"RGB": pixels}, type=OpenEXR.tiledimage,
             tiles=OpenEXR.TileDescription())  # fmt: skip
        assert np.array_equal(read_photo(tmp_path / "tiled.exr").pixels, pixels)
        parts = [OpenEXR.Part({"name": "a"}, {"RGB": pixels}),
                 OpenEXR.Part({"name": "b"}, {"Z": depth})]  # fmt: skip
        with OpenEXR.File(parts) as file:
            file.write(str(tmp_path / "parts.exr"))
        read = read_photo(tmp_path / "parts.exr")
        assert np.array_equal(read.pixels, pixels)
        assert read.notes == ("only the first of 2 parts is kept",)
        corners = [np.array(corner, np.int32) for corner in ((9, 9), (64, 48), (0, 0), (99, 99))]
        save(tmp_path / "more.exr", {"RGB": pixels, "Z": depth}, expTime=0.5, dataWindow=
             (corners[0], corners[1]), displayWindow=(corners[2], corners[3]))  # fmt: skip
        read = read_photo(tmp_path / "more.exr")
        assert np.array_equal(read.pixels, pixels)
        assert read.notes == (
            "channels left out: Z",
            "the place of its pixels in the display window is not kept",
        )  # fmt: skip

    @pytest.mark.parametrize("names", ["XZ", ("Y", "RY", "BY")])
    def test_other_channels_are_refused(self, tmp_path, names):
        plane = smooth(np.float32, 1)[..., 0].copy()
        save(tmp_path / "x.exr", dict.fromkeys(names, plane))
        with pytest.raises(PhotoError, match=r"x\.exr"):
            read_photo(tmp_path / "x.exr")

    def test_without_the_extra_it_is_named(self, tmp_path, monkeypatch):
        save(tmp_path / "x.exr", {"RGB": smooth(np.float32, 3)})
        monkeypatch.setattr(sys, "path", [])
        monkeypatch.delitem(sys.modules, "OpenEXR")
        with pytest.raises(PhotoError, match=r'pip install "amsnet\[codecs\]"'):
            read_photo(tmp_path / "x.exr")


class TestDamage:
    @pytest.mark.parametrize("keep", [0.01, 0.3, 0.9, 0.99])
    def test_truncated_files_are_refused(self, tmp_path, capfd, keep):
        noise = np.random.default_rng(0).random((64, 64, 3), np.float32)
        save(tmp_path / "x.exr", {"RGB": noise})
        content = (tmp_path / "x.exr").read_bytes()
        (tmp_path / "x.exr").write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(PhotoError, match=r"x\.exr"):
            read_photo(tmp_path / "x.exr")
        assert capfd.readouterr() == ("", "")

    def test_flipped_bytes_in_zipped_blocks_are_noticed(self, tmp_path):
        noise = np.random.default_rng(0).random((64, 64, 3), np.float32)
        save(tmp_path / "x.exr", {"RGB": noise.astype(np.float16).astype(np.float32)})
        content = (tmp_path / "x.exr").read_bytes()
        assert len(content) < 0.9 * noise.nbytes, "the blocks are zipped"
        for place in np.linspace(1000, len(content) - 1, 8).astype(int):
            damaged = bytearray(content)
            damaged[place] ^= 0x55
            (tmp_path / "x.exr").write_bytes(damaged)
            with pytest.raises(PhotoError, match=r"x\.exr"):
                read_photo(tmp_path / "x.exr")


@pytest.mark.parametrize("density", [np.nan, np.inf, -300.0, 1e-30, 1e30])
def test_a_resolution_that_no_picture_has_is_left_out(tmp_path, density):
    path = tmp_path / "x.exr"
    write_photo(Photo(pixels=np.full((8, 9, 3), 0.5, np.float32), dpi=(300.0, 300.0)), path)
    head, name, rest = path.read_bytes().partition(b"xDensity\0float\0")
    path.write_bytes(head + name + rest[:4] + struct.pack("<f", density) + rest[8:])
    photo = read_photo(path)
    assert photo.dpi is None and "its resolution is damaged: left out" in photo.notes


@pytest.mark.parametrize(
    "red", [(np.nan, 0.33), (np.inf, 0.33), (0.64, 0.0), (0.3, 0.6), (0.64, 1e-30)]
)
def test_primaries_of_no_colours_are_refused(tmp_path, red):
    path = tmp_path / "x.exr"
    wide = colour.linear_rec2020_profile()
    write_photo(Photo(pixels=np.full((8, 9, 3), 0.5, np.float32), icc=wide), path)
    head, name, rest = path.read_bytes().partition(b"chromaticities\0chromaticities\0")
    green = struct.unpack("<2f", rest[12:20]) if red == (0.3, 0.6) else red
    path.write_bytes(head + name + rest[:4] + struct.pack("<2f", *green) + rest[12:])
    with pytest.raises(PhotoError, match=r"x\.exr: damaged, primaries"):
        read_photo(path)

"""DNG files that are written: what is kept, and that RAW converters open them."""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rawpy
import tifffile
from PIL import Image

from amsnet_cli.errors import OutputError, PhotoError
from amsnet_cli.photos import dng_tags, ifd
from amsnet_cli.photos.formats.dng import dng_of
from amsnet_cli.photos.formats.dng_mosaic import CodedMosaic
from amsnet_cli.photos.formats.raw import read, read_mosaic
from amsnet_cli.photos.read import read_mosaic_photo
from amsnet_cli.photos.write import write_photo
from benchmarks import make_raw
from tests.conftest import SHARED
from tests.dng_files import (
    BLACK,
    RGGB,
    XTRANS,
    adobe_dng,
    dng,
    doubles,
    exposed,
    longs,
    shorts,
    text,
)

X = Path("x.dng")
SIZE = (96, 108)
PATTERNS = {"rggb": RGGB, "gbrg": RGGB[::-1], "xtrans": XTRANS, "monochrome": None}


def scene(size: tuple[int, int] = SIZE) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return 0.2 + 0.1 * np.sin(x / 9) * np.cos(y / 7)


def framed(values: np.ndarray) -> tuple[np.ndarray, ifd.Directory]:
    """Put values into a frame with borders; returns it with the tag of the active area."""
    height, width = values.shape
    frame = np.full((height + 10, width + 14), BLACK, np.uint16)
    frame[6 : 6 + height, 12 : 12 + width] = values
    return frame, {50829: longs(6, 12, 6 + height, 12 + width)}


class TestDngToDng:
    @pytest.mark.parametrize("compressed", [True, False])
    @pytest.mark.parametrize("name", PATTERNS)
    def test_the_mosaic_comes_back_bit_for_bit(self, name, compressed, monkeypatch):
        """Also where imagecodecs, which compresses it, is not installed."""
        if not compressed:
            monkeypatch.setitem(sys.modules, "imagecodecs", None)
        frame, tags = framed(exposed(scene((516, 540)), PATTERNS[name], noise=80))
        content = dng(frame, pattern=PATTERNS[name], tags=tags)
        made = dng_of(X, content, read_mosaic(X, content))
        assert np.array_equal(read_mosaic(X, made).frame, frame)
        assert np.array_equal(read(X, made).pixels, read(X, content).pixels)
        assert len(made) < len(content) + 2000
        stored = CodedMosaic(frame, "<", period=2)
        assert len(stored.data) < (0.95 if compressed else 1.01) * frame.nbytes

    @pytest.mark.parametrize("raw_last", [False, True])
    def test_everything_else_is_kept(self, raw_last):
        content = adobe_dng(exposed(scene(), noise=80), raw_last=raw_last)
        mosaic = read_mosaic(X, content)
        values = exposed(scene())
        made = dng_of(X, content, replace(mosaic.with_values(values), noise_profile=()))
        again = read_mosaic(X, made)
        assert np.array_equal(again.values, values) and again.noise_profile == ()
        assert len(made) < len(content) + 8000, "old pictures are not carried along"
        before, after = (list(dng_tags.directories(c)) for c in (content, made))
        (_, main), (_, raw), _ = after
        (_, main_before), (_, raw_before), _ = before
        layout = {256, 257, 258, 259, 262, 273, 277, 278, 279, 322, 323, 324, 325, 330}
        changed = layout | {50781, 51041, 50972}
        assert {t: e for t, e in main.items() if t not in changed} == {
            t: e for t, e in main_before.items() if t not in changed
        }
        assert {t: e for t, e in raw.items() if t not in changed} == {
            t: e for t, e in raw_before.items() if t not in changed
        }
        assert ifd.read_tree(made)[ifd.EXIF_IFD] == ifd.read_tree(content)[ifd.EXIF_IFD]
        note = b"MAKER NOTE of camera"
        assert made.index(note) == content.index(note), "maker notes do not move"
        assert 51041 not in raw and 50972 not in main and main[50781] != main_before[50781]
        with tifffile.TiffFile(io.BytesIO(made)) as file:
            thumbnail = file.pages[0]
            assert thumbnail.shape == (16, 24, 3)
            assert thumbnail.asarray().mean() > 50, "made anew: it was black"
            small = file.pages[0].pages[1]
            assert small.shape == (40, 60, 3) and small.compression == 7

    def test_tiles_of_lossless_jpeg_are_read_and_replaced(self, amsnet, tmp_path):
        """As Adobe's DNG Converter and many cameras and phones write them."""
        imagecodecs = pytest.importorskip("imagecodecs", reason="another program's encoder")
        frame, side = exposed(scene((256, 384)), noise=80), 128
        tree, data, places = ifd.read_tree(dng(frame)), b"", []
        for y in range(0, 256, side):
            for x in range(0, 384, side):
                tile = np.ascontiguousarray(frame[y : y + side, x : x + side])
                coded = imagecodecs.ljpeg_encode(tile, bitspersample=14)
                places.append((8 + len(data), len(coded)))
                data += coded + b"\0" * (len(coded) % 2)
        starts, lengths = zip(*places, strict=True)
        for tag in (273, 278, 279):
            del tree[tag]
        tree |= {259: shorts(7), 322: longs(side), 323: longs(side), 324: longs(*starts)}
        content = ifd.append_tree(b"II*\0\0\0\0\0" + data, tree | {325: longs(*lengths)})
        mosaic = read_mosaic(X, content)
        assert np.array_equal(mosaic.values, frame)
        clean = exposed(scene((256, 384)))
        made = dng_of(X, content, mosaic.with_values(clean))
        assert np.array_equal(read_mosaic(X, made).values, clean)
        assert len(made) <= len(content)
        (tmp_path / "x.dng").write_bytes(content)
        out = tmp_path / "y.jpg"
        result = amsnet("denoise", tmp_path / "x.dng", "-o", out, "--strength", 0)
        assert result.exit_code == 0 and "384x256, 8 bit" in result.stderr, result.stderr

    def test_linearisation_and_bits_are_no_longer_told(self):
        """LibRaw gives values behind the table of LinearizationTable."""
        values = exposed(scene(), noise=80) // 4
        table = (np.arange(4096) * 4).astype(np.uint16)
        content = dng(values, tags={50712: shorts(*table.tolist())})
        mosaic = read_mosaic(X, content)
        assert np.array_equal(mosaic.values, values * 4)
        made = dng_of(X, content, mosaic)
        assert np.array_equal(read_mosaic(X, made).values, values * 4)

    def test_a_white_level_that_goes_by_the_bits(self):
        content = dng(exposed(scene()))
        tags = ifd.read_tree(content)
        del tags[50717]
        content = ifd.append_tree(content, tags)
        made = dng_of(X, content, read_mosaic(X, content))
        assert read_mosaic(X, made).white == read_mosaic(X, content).white == 65535

    def test_noise_profile_is_what_is_left(self):
        content = dng(exposed(scene()), tags={51041: doubles(1e-4, 1e-6)})
        mosaic = read_mosaic(X, content)
        assert read_mosaic(X, dng_of(X, content, mosaic)).noise_profile == ((1e-4, 1e-6),)
        left = replace(mosaic, noise_profile=((2e-5, 1e-7),))
        assert read_mosaic(X, dng_of(X, content, left)).noise_profile == ((2e-5, 1e-7),)

    def test_big_endian(self):
        content = dng(exposed(scene()))
        frame = exposed(scene(), noise=50)
        tree = ifd.reordered(ifd.read_tree(content), "<", ">")
        tree[273] = ifd.Entry(type=4, count=1, value=(8).to_bytes(4, "big"))
        big = ifd.append_tree(b"MM\0*\0\0\0\0" + frame.astype(">u2").tobytes(), tree)
        mosaic = read_mosaic(X, big)
        assert np.array_equal(mosaic.values, frame)
        clean = mosaic.with_values(exposed(scene()))
        assert np.array_equal(read_mosaic(X, dng_of(X, big, clean)).values, clean.values)


class TestOtherRawToDng:
    @pytest.mark.parametrize("name", PATTERNS)
    def test_what_is_known_is_written(self, name, monkeypatch):
        """A DNG file whose tags nobody reads stands for another RAW format."""
        frame, tags = framed(exposed(scene((516, 540)), PATTERNS[name], noise=80))
        content = dng(frame, pattern=PATTERNS[name], tags=tags)
        mosaic = read_mosaic(X, content)
        plain = read(X, content)
        with monkeypatch.context() as patch:
            patch.setattr(dng_tags, "read", lambda content: None)
            made = dng_of(X, content, mosaic)
        again = read_mosaic(X, made)
        assert np.array_equal(again.frame, frame) and again.area == mosaic.area
        for field in ("white", "make", "model", "iso", "orientation", "crop"):
            assert getattr(again, field) == getattr(mosaic, field)
        assert np.unique(again.black) == np.unique(mosaic.black)
        assert again.neutral == pytest.approx(mosaic.neutral)
        assert np.abs(read(X, made).pixels - plain.pixels).max() < 0.002

    @pytest.mark.realdata
    def test_a_kodak_of_1997(self):
        source = SHARED / "raw" / "RAW_KODAK_DC50.KDC"
        if not source.is_file():
            pytest.skip(f"{source} is absent")
        content = source.read_bytes()
        mosaic = read_mosaic(source, content)
        made = dng_of(source, content, mosaic)
        assert np.array_equal(read_mosaic(X, made).frame, mosaic.frame)
        difference = np.abs(read(X, made).pixels - read(source, content).pixels)
        assert np.percentile(difference, 99) < 0.002, "LibRaw keeps its colour matrix to itself"


CONVERTERS = {
    "darktable-cli": [
        "{source}", "{target}", "--apply-custom-presets", "false", "--core",
        "--configdir", "{home}/darktable", "--library", ":memory:",
        "--conf", "plugins/darkroom/workflow=none",
        "--conf", "plugins/imageio/format/tiff/bpp=16",
    ],
    "rawtherapee-cli": ["-t", "-b16", "-Y", "-o", "{target}", "-c", "{source}"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("program", CONVERTERS)
class TestConverters:
    @pytest.fixture
    def developed(self, program, tmp_path):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")

        def develop(content: bytes, name: str) -> np.ndarray:
            source, target = tmp_path / f"{name}.dng", tmp_path / f"{name}.tif"
            source.write_bytes(content)
            places = {"source": source, "target": target, "home": tmp_path}
            call = [program, *(part.format(**places) for part in CONVERTERS[program])]
            home = {**os.environ, "HOME": str(tmp_path)}
            done = subprocess.run(
                call, capture_output=True, text=True, check=False, env=home, timeout=300
            )
            assert target.is_file(), done.stdout + done.stderr
            return tifffile.imread(target).astype(float)

        return develop

    @pytest.mark.parametrize("name", PATTERNS)
    def test_a_file_of_ours_is_developed_as_its_source(self, developed, name, monkeypatch):
        values = exposed(scene((516, 540)), PATTERNS[name], noise=80)
        frame, tags = framed(values)
        content = dng(frame, pattern=PATTERNS[name], tags=tags)
        mosaic = read_mosaic(X, content)
        source, kept = developed(content, "source"), developed(dng_of(X, content, mosaic), "kept")
        with monkeypatch.context() as patch:
            patch.setattr(dng_tags, "read", lambda content: None)
            new = developed(dng_of(X, content, mosaic), "new")
        assert source.std() > 1000, "a picture"
        for other in (kept, new):
            assert other.shape == source.shape
            # Both converters differ from themselves at the very border from run to run.
            assert np.percentile(np.abs(other - source), 99) < 100

    def test_a_denoised_file_is_the_picture_without_noise(self, developed):
        content = adobe_dng(exposed(scene((256, 320)), noise=200))
        clean = dng(exposed(scene((256, 320))), tags={272: text("Test Two")})
        mosaic = read_mosaic(X, content).with_values(exposed(scene((256, 320))))
        denoised = developed(dng_of(X, content, mosaic), "denoised")
        expected = developed(clean, "clean")
        assert np.percentile(np.abs(denoised - expected), 99) < 400


def test_writing_says_what_is_wrong(tmp_path):
    content = dng(exposed(scene()))
    (tmp_path / X).write_bytes(content)
    photo = read_mosaic_photo(tmp_path / X)
    with pytest.raises(OutputError, match="cannot be written"):
        write_photo(photo, tmp_path / "missing" / "y.dng")
    write_photo(photo, tmp_path / "y.dng")
    mosaic = photo.mosaic
    with rawpy.imread(str(tmp_path / "y.dng")) as raw:
        assert np.array_equal(raw.raw_image_visible, mosaic.values)
    other = replace(mosaic, frame=mosaic.frame[:-2])
    with pytest.raises(PhotoError):
        dng_of(X, content, other)


def test_directories_without_end_are_not_read_one_by_one():
    """A damaged count makes all of a file a list of directories."""
    order, entries = "<", b"\xff\xff" + bytes(12 * 40_000)
    places = np.arange(100_000, dtype="<u4") + 200
    head = struct.pack(order + "2sHI", b"II", 42, 8)
    table = struct.pack(order + "HHHIII", 1, dng_tags.SUB_IFDS, ifd.LONG, len(places), 26, 0)
    content = head + table + places.tobytes() + entries
    with pytest.raises(ifd.MalformedError, match="more than 64 directories"):
        list(dng_tags.directories(content))
    assert dng_tags.read(content) is None


def test_long_chains_are_read_in_proportion_to_their_length():
    places = np.arange(60_000, dtype="<u4") * 6 + 8
    links = [struct.pack("<HI", 0, int(place)) for place in (*places[1:], 0)]
    content = struct.pack("<2sHI", b"II", 42, 8) + b"".join(links)
    assert ifd.chain(content) == places.tolist()


def test_libraw_reads_a_wide_x_trans_mosaic_that_is_written(tmp_path, monkeypatch):
    """LibRaw misreads tiles of lossless JPEG in some files of X-Trans: this one has no borders."""
    (tmp_path / "clean").mkdir()
    picture = np.random.default_rng(0).integers(20, 200, (300, 512, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "clean" / "a.png")
    made = tmp_path / "made"
    command = ["x", str(tmp_path / "clean"), str(made), "--pattern", "xtrans", "--side", "512"]
    monkeypatch.setattr(sys, "argv", [*command, "--law", "100=1e-5,1e-9"])
    make_raw.main()
    source, again = made / "a_100.dng", tmp_path / "again.dng"
    photo = read_mosaic_photo(source)
    again.write_bytes(dng_of(source, photo.content, photo.mosaic))
    assert np.array_equal(read_mosaic_photo(again).mosaic.values, photo.mosaic.values)
